"""What the stages of diffusion methods cost, told ahead of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddbench import Effort, Stage
from ddbench_plugins.diffusion.backbone import model_facts

if TYPE_CHECKING:
    from ddbench import Context
    from ddbench_plugins.diffusion.options import BackboneOptions, DiffusionOptions, ImageToImageOptions


def latents_effort(ctx: Context, options: DiffusionOptions) -> Effort:
    """Latents: images; four channels at an eighth of the side for Stable Diffusion."""
    facts, side = model_facts(ctx, options)
    side = options.resolution or side
    count = len(ctx.dataset.train)
    known = None if options.backbone == "small" else count * 2 * 4 * (side // 8) ** 2
    return Effort(count, {"backbone": facts, "side": side}, known)


def clusters_effort(ctx: Context, options: DiffusionOptions, *settings: Any) -> Effort:
    """Prototypes: images × clusters."""
    facts, side = model_facts(ctx, options)
    alike = {"backbone": facts, "side": options.resolution or side, "settings": list(settings)}
    return Effort(len(ctx.dataset.train) * (ctx.ipc or 1), alike)


def synthesis_effort(ctx: Context, options: ImageToImageOptions, count: int, size: int) -> Effort:
    """Image-to-image synthesis of ``count`` images: images × steps taken."""
    facts, side = model_facts(ctx, options)
    alike = {"backbone": facts, "side": options.resolution or side, "guided": options.guidance_scale > 1, "size": size}
    return Effort(count * options.steps * options.strength, alike, count * size * size * 3)


def synthesis_stages(ctx: Context, options: ImageToImageOptions) -> list[Stage]:
    """Return the synthesis of the images, and of those that the acceptance test compares them with."""
    data = ctx.dataset
    count, size = data.num_classes * (ctx.ipc or 1), options.size or data.image_size
    found = [Stage("synthesis", synthesis_effort(ctx, options, count, size))]
    if not options.checks_images:
        return found
    from ddbench_plugins.teachers.observers import teacher_effort

    compared = min(ctx.ipc or 1, max(1, options.acceptance_images // data.num_classes)) * data.num_classes
    extra = synthesis_effort(ctx, options, compared, size)
    names = ("synthesis-plain", "synthesis-swapped") if compared < count else ("synthesis-swapped",)
    teacher = Stage("teacher", teacher_effort(ctx, options.acceptance_network))
    return [*found, teacher, *(Stage(name, extra) for name in names), Stage("acceptance", acceptance_effort(ctx))]


def distilled_stage(ctx: Context, options: BackboneOptions) -> Stage:
    """What is left for a method whose work is in steps: writing the images."""
    data = ctx.dataset
    count, size = data.num_classes * (ctx.ipc or 1), options.size or data.image_size
    return Stage("distilled", Effort(count, {"images": [size, data.channels], "checked": options.checks_images}))


def acceptance_effort(ctx: Context) -> Effort:
    """The acceptance test: comparing distilled images with all training images is most of it."""
    data = ctx.dataset
    count = data.num_classes * (ctx.ipc or 1)
    return Effort(len(data.train) * (count + 1000), {"data": [data.image_size, data.channels]})
