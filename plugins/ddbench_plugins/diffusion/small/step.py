"""The small diffusion model of a data set: shipped, or trained in a cached step."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ddbench import Effort, Stage, derive_seed

if TYPE_CHECKING:
    from pathlib import Path

    from ddbench import Context, Step
    from ddbench_plugins.diffusion.options import BackboneOptions
    from ddbench_plugins.diffusion.small.model import SmallPreset

VERSION = 1
#: Data sets whose small model ships with ddbench, by fingerprint.
SHIPPED = {"8209629dc6fd0f17c74839bf48db95f7b9c0862061cb0dc255b8b94a78814b34": "digits"}


def small_preset(ctx: Context, options: BackboneOptions) -> SmallPreset:
    """Return the sizes and lengths of the small model for this data set."""
    from ddbench_plugins.diffusion.small.model import PRESETS

    size = ctx.dataset.image_size
    name = options.small_preset
    if name == "auto":
        name = "digits" if size <= 16 else "cifar10" if size <= 32 else "imagenette64"
    changes: dict[str, Any] = {"flip": ctx.dataset.flip}
    if options.small_vae_steps:
        changes["vae_steps"] = options.small_vae_steps
    if options.small_unet_steps:
        changes["unet_steps"] = options.small_unet_steps
    return replace(PRESETS[name], **changes)


def shipped_model(ctx: Context, preset: SmallPreset) -> Path | None:
    """Return the folder of the small model that ships with ddbench, if it was trained on this data with this preset."""
    from ddbench_plugins.diffusion.small.bundled import bundled_model
    from ddbench_plugins.diffusion.small.model import PRESETS

    name = SHIPPED.get(ctx.dataset.fingerprint)
    return bundled_model(name) if name and preset == PRESETS[name] else None


def preset_facts(preset: SmallPreset) -> dict[str, Any]:
    """Return what a small model's speed depends on."""
    return {name: value for name, value in asdict(preset).items() if name not in ("vae_steps", "unet_steps")}


def small_stages(ctx: Context, options: BackboneOptions) -> list[Stage]:
    """Return the training of the small model, where none is shipped for the data set."""
    if options.backbone != "small" or shipped_model(ctx, small_preset(ctx, options)):
        return []
    return [Stage("small-diffusion", small_effort(ctx, options))]


def small_effort(ctx: Context, options: BackboneOptions) -> Effort:
    """Training of the small model: steps of its U-Net, beside as many of its autoencoder."""
    preset = small_preset(ctx, options)
    facts = preset_facts(preset)
    return Effort(preset.unet_steps, {**facts, "vae_steps": preset.vae_steps, "images": len(ctx.dataset.train)})


def train_small(ctx: Context, preset: SmallPreset, effort: Effort | None = None) -> Path:
    """Return the folder of the small model trained on the data set; its prompts name the class only.

    The words of measured captions make its vocabulary, whichever captioner a run uses. ``effort`` is what its time
    grows with.
    """
    data = ctx.dataset
    captioner = ctx.plugins.get("captioner", "attributes").spec
    inputs = {
        "version": VERSION,
        "dataset": data.fingerprint,
        "class_names": list(data.class_names),
        "preset": asdict(preset),
        "vocabulary": captioner.cache_version,
        "seed": derive_seed(0, "small diffusion model"),
        "numerics": ctx.machine.numerics(),
    }

    def build(step: Step) -> None:
        from ddbench_plugins.diffusion.captions import caption_training_images
        from ddbench_plugins.diffusion.small.training import train_small_pipeline
        from ddbench_plugins.training.engine import Loop
        from ddbench_plugins.training.memory import keep_freed_memory

        keep_freed_memory()
        # Options of kind captioner are for the one that the method uses.
        explicit = {scope: values for scope, values in ctx.explicit.items() if scope != "captioner"}
        words = caption_training_images(replace(ctx, explicit=explicit), "attributes").texts
        images = data.train.images.batch(range(len(data.train)), preset.resolution)
        with ctx.progress("small diffusion model") as advance:
            report = train_small_pipeline(
                images,
                data.train.labels,
                data.class_names,
                words,
                preset,
                step.dir,
                seed=inputs["seed"],
                loop=Loop.of(ctx, advance, step),
            )
        step.info.update(report)

    return ctx.step("small-diffusion", inputs, build, effort=effort).dir
