"""What the stages of diffusion methods cost and which models they read, told ahead of a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbench import Effort, Stage, hub_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ddbench import Context, Weights
    from ddbench_plugins.diffusion.options import BackboneOptions, DiffusionOptions, ImageToImageOptions

#: Files of a Stable Diffusion pipeline, the first of them a single one.
PIPELINE = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/*.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
#: Bytes of those files where they are known: 32-bit weights of U-Net, text encoder and autoencoder.
BYTES = {"benjamin-paine/stable-diffusion-v1-5": 4_270_000_000}
#: Side of Stable Diffusion v1's images, for what is told before the model is there.
SIDE = 512


def backbone_weights(options: BackboneOptions) -> list[Weights]:
    """Return the published pipeline that a method starts from; none for a small model or a folder."""
    known = published(options.backbone, PIPELINE, options.revision, BYTES)
    return [known] if known else []


def published(
    source: str, files: Sequence[str], revision: str | None = None, sizes: Mapping[str, int] | None = None
) -> Weights | None:
    """Look for a model of the hub on this machine; None for a small one or a folder."""
    return hub_weights(source, files, revision, (sizes or {}).get(source)) if is_hub(source) else None


def is_hub(source: str) -> bool:
    """Whether a model's name is a hub id, neither ``small`` nor a folder."""
    return source.count("/") == 1 and not source.startswith(("/", ".", "~")) and not Path(source).is_dir()


def backbone(ctx: Context, options: BackboneOptions) -> tuple[dict[str, Any], int]:
    """Return what a model's speed depends on, and its side, without loading it."""
    from ddbench_plugins.diffusion.base_model import small_preset

    if options.backbone != "small":
        folder = Path(options.backbone).expanduser()
        return {"model": folder.name if folder.is_dir() else options.backbone}, SIDE
    preset = asdict(small_preset(ctx, options))
    lengths = ("vae_steps", "unet_steps")
    return {name: value for name, value in preset.items() if name not in lengths}, int(preset["resolution"])


def small_stages(ctx: Context, options: BackboneOptions) -> list[Stage]:
    """Return the training of the small model, where none is shipped for the data set."""
    from ddbench_plugins.diffusion.base_model import shipped_model, small_preset

    if options.backbone != "small" or shipped_model(ctx, small_preset(ctx, options)):
        return []
    return [Stage("small-diffusion", small_effort(ctx, options))]


def small_effort(ctx: Context, options: BackboneOptions) -> Effort:
    """Training of the small model: steps of its U-Net, beside as many of its autoencoder."""
    from ddbench_plugins.diffusion.base_model import small_preset

    preset = small_preset(ctx, options)
    facts, _ = backbone(ctx, options)
    return Effort(preset.unet_steps, {**facts, "vae_steps": preset.vae_steps, "images": len(ctx.dataset.train)})


def captions_effort(ctx: Context, captioner: str) -> Effort:
    """Captions: images."""
    _, mine, entry = ctx.use("captioner", captioner)
    data = ctx.dataset
    alike = {"captioner": entry.name, "options": _plain(mine.resolved.dump()), "size": data.image_size}
    return Effort(len(data.train), alike)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "seed"}


def latents_effort(ctx: Context, options: DiffusionOptions) -> Effort:
    """Latents: images; four channels at an eighth of the side for Stable Diffusion."""
    facts, side = backbone(ctx, options)
    side = options.resolution or side
    count = len(ctx.dataset.train)
    known = None if options.backbone == "small" else count * 2 * 4 * (side // 8) ** 2
    return Effort(count, {"backbone": facts, "side": side}, known)


def clusters_effort(ctx: Context, options: DiffusionOptions, *settings: Any) -> Effort:
    """Prototypes: images × clusters."""
    facts, side = backbone(ctx, options)
    alike = {"backbone": facts, "side": options.resolution or side, "settings": list(settings)}
    return Effort(len(ctx.dataset.train) * (ctx.ipc or 1), alike)


def synthesis_effort(ctx: Context, options: ImageToImageOptions, count: int, size: int) -> Effort:
    """Image-to-image synthesis of ``count`` images: images × steps taken."""
    facts, side = backbone(ctx, options)
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
