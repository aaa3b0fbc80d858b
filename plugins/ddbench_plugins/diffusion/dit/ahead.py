"""What methods that sample a diffusion transformer go through and read, told ahead of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddbench import Effort, Stage
from ddbench_plugins.diffusion import ahead
from ddbench_plugins.diffusion.dit.backbone import facts, small_effort
from ddbench_plugins.diffusion.hub import DECODER, DIT, published
from ddbench_plugins.diffusion.small.step import small_stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddbench import Context, Weights
    from ddbench_plugins.diffusion.dit.options import DiTOptions


def weights(options: DiTOptions) -> list[Weights]:
    """Return the published transformer and decoder; none for small models and folders."""
    model = published(options.backbone, DIT, options.revision)
    return [each for each in (model, published(options.decoder, DECODER)) if each]


def stages(ctx: Context, between: Sequence[Stage] = ()) -> list[Stage]:
    """Return the stages up to the images and what is measured on them; ``between``: those before sampling."""
    options: DiTOptions = ctx.options
    count = ctx.dataset.num_classes * (ctx.ipc or 1)
    small = [*small_stages(ctx, options), Stage("small-dit", small_effort(ctx, options))]
    found = [*(small if options.backbone == "small" else []), *between]
    found += [Stage("sampled", sampling_effort(ctx, options, count)), Stage("latent-figures")]
    if options.checks_images:
        from ddbench_plugins.teachers.observers import teacher_effort

        found += [Stage("teacher", teacher_effort(ctx, options.acceptance_network)), Stage("acceptance")]
    return [*found, ahead.distilled_stage(ctx, options)]


def sampling_effort(ctx: Context, options: DiTOptions, count: int) -> Effort:
    """Sampling: images × steps."""
    alike = {"backbone": facts(ctx, options), "guided": options.guidance_scale > 1, "size": options.size}
    return Effort(count * options.steps, alike)
