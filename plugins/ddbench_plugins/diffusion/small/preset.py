"""Sizes of the small model for a data set, and which published autoencoder it has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ddbench import UsageError

if TYPE_CHECKING:
    from ddbench import Context
    from ddbench_plugins.diffusion.options import BackboneOptions
    from ddbench_plugins.diffusion.small.model import SmallPreset

#: Options of the small model.
SMALL = ("small_preset", "small_vae", "small_vae_side", "small_vae_steps", "small_unet_steps", "small_prediction")


def small_preset(ctx: Context, options: BackboneOptions) -> SmallPreset:
    """Return the sizes and lengths of the small model for this data set.

    Raises:
        UsageError: a published autoencoder cannot encode at the side that is asked for.
    """
    from ddbench_plugins.diffusion.small.model import LARGER, PRESETS

    size = ctx.dataset.image_size
    fitting = PRESETS["digits" if size <= 16 else "cifar10" if size <= 32 else "imagenette64"]
    preset = fitting
    if options.small_preset != "auto":
        preset = PRESETS.get(options.small_preset) or replace(
            LARGER[options.small_preset], resolution=fitting.resolution
        )
    changes: dict[str, Any] = {"flip": ctx.dataset.flip}
    if options.small_vae_steps:
        changes["vae_steps"] = options.small_vae_steps
    if options.small_unet_steps:
        changes["unet_steps"] = options.small_unet_steps
    if options.small_prediction:
        changes["prediction"] = options.small_prediction
    if options.small_vae:
        # Of an autoencoder that is not trained here nothing is to be set.
        changes |= {"latent_channels": None, "perceptual": None}
        changes["side"] = _side(options.small_vae_side, preset.resolution)
    return replace(preset, **changes)


def _side(side: int | None, resolution: int) -> int:
    allowed = [resolution << doublings for doublings in range(4)]
    if side is not None and side not in allowed:
        raise UsageError(
            f"A tiny autoencoder cannot encode images of {resolution} pixels at {side}.",
            hint=f"small_vae_side may be {', '.join(map(str, allowed))}.",
        )
    return side or resolution


def autoencoder(ctx: Context) -> dict[str, Any]:
    """Return which published autoencoder the small model has, for keys; nothing where it trains its own."""
    if not ctx.options.small_vae:
        return {}
    from ddbench_plugins.diffusion.small.published import PublishedAutoencoder

    return {"autoencoder": PublishedAutoencoder.of(ctx).identity()}
