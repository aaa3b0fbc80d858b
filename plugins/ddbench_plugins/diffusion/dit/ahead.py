"""What methods that sample a diffusion transformer go through and read, told ahead of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddbench import Effort, Stage
from ddbench_plugins.diffusion import ahead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddbench import Context, Weights
    from ddbench_plugins.diffusion.dit.options import DiTOptions

#: Files of a published pipeline, the first of them a single one.
PIPELINE = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "transformer/config.json",
    "transformer/*_model.*",
    "vae/config.json",
    "vae/*_model.*",
)
DECODER = ("config.json", "diffusion_pytorch_model.*")
#: Bytes of those files, derived from the number of 32-bit weights: 675 million, 27 more copies of the embedding of
#: timestep and class (2.8 million each), and the autoencoder's 84 million.
BYTES = {"facebook/DiT-XL-2-256": 3_340_000_000, "stabilityai/sd-vae-ft-mse": 335_000_000}


def weights(options: DiTOptions) -> list[Weights]:
    """Return the published transformer and decoder; none for small models and folders."""
    model = ahead.published(options.backbone, PIPELINE, options.revision, BYTES)
    return [each for each in (model, ahead.published(options.decoder, DECODER, None, BYTES)) if each]


def stages(ctx: Context, between: Sequence[Stage] = ()) -> list[Stage]:
    """Return the stages up to the images and what is measured on them; ``between``: those before sampling."""
    options: DiTOptions = ctx.options
    count = ctx.dataset.num_classes * (ctx.ipc or 1)
    small = [*ahead.small_stages(ctx, options), Stage("small-dit", small_effort(ctx, options))]
    found = [*(small if options.backbone == "small" else []), *between]
    found += [Stage("sampled", sampling_effort(ctx, options, count)), Stage("latent-figures")]
    if options.checks_images:
        from ddbench_plugins.teachers.observers import teacher_effort

        found += [Stage("teacher", teacher_effort(ctx, options.acceptance_network)), Stage("acceptance")]
    return [*found, ahead.distilled_stage(ctx, options)]


def facts(ctx: Context, options: DiTOptions) -> dict[str, Any]:
    """Return what a transformer's speed depends on."""
    from ddbench_plugins.diffusion.dit.base import small_preset

    backbone, side = ahead.backbone(ctx, options)
    if options.backbone != "small":
        return backbone
    preset = {name: value for name, value in small_preset(options, side).describe().items() if name != "steps"}
    return {"side": side, "transformer": preset}


def small_effort(ctx: Context, options: DiTOptions) -> Effort | None:
    """Training of the small transformer: steps."""
    from ddbench_plugins.diffusion.dit.base import small_preset

    if options.backbone != "small":
        return None
    _, side = ahead.backbone(ctx, options)
    return Effort(small_preset(options, side).steps, {**facts(ctx, options), "images": len(ctx.dataset.train)})


def sampling_effort(ctx: Context, options: DiTOptions, count: int) -> Effort:
    """Sampling: images × steps."""
    alike = {"backbone": facts(ctx, options), "guided": options.guidance_scale > 1, "size": options.size}
    return Effort(count * options.steps, alike)
