"""Prototypes and prompts to images, a cached step: noise part of the way, denoise with guidance, decode."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddbench import derive_seed
from ddbench_plugins.diffusion.arrays import save_array
from ddbench_plugins.diffusion.class_latents import batch_size
from ddbench_plugins.diffusion.prompts import embed_prompts
from ddbench_plugins.training.engine import silent
from ddbench_plugins.training.pixels import as_bytes
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ddbench import Context, Done, Step
    from ddbench_plugins.diffusion.backbone import Backbone
    from ddbench_plugins.diffusion.options import ImageToImageOptions


NEGATIVE_PROMPT = "cartoon, anime, painting"
#: Prototypes that are turned into images under one seed; the unit of resuming, whatever the batch size.
CHUNK = 64


@dataclass(frozen=True)
class Prototypes:
    """Latents and prompts that images are made from, class-major.

    Attributes:
        centres: float32 [C·ipc, 4, h, w], scaled latents.
        prompts: one text per centre.
        labels: int64 [C·ipc].
        counts: per class, how many latents were clustered.
    """

    centres: NDArray[np.float32]
    prompts: tuple[str, ...]
    labels: NDArray[np.int64]
    counts: tuple[int, ...]


def read_prototypes(done: Done) -> Prototypes:
    """Return what a step of prototypes wrote: ``centres.npy``, and ``prototypes.json`` with each class's prompts."""
    classes = json.loads((done.dir / "prototypes.json").read_text("utf-8"))
    return Prototypes(
        centres=np.load(done.dir / "centres.npy", mmap_mode="r", allow_pickle=False),
        prompts=tuple(text for about in classes for text in about["prompts"]),
        labels=np.repeat(np.arange(len(classes)), [len(about["prompts"]) for about in classes]),
        counts=tuple(about["count"] for about in classes),
    )


def draw(
    ctx: Context,
    out: Step,
    model: Backbone,
    prototypes: Prototypes,
    size: int,
    *,
    pad_prompts: bool = True,
    safety_checker: bool = False,
) -> None:
    """Write images uint8 [n, size, size, 3] in files of :data:`CHUNK`, one per prototype.

    The same prototypes with other prompts get the same noise. The random role is the same for all methods, and named
    after the first of them.
    """
    options: ImageToImageOptions = ctx.options
    prompts, seed = prototypes.prompts, ctx.seed("vlcp synthesis")
    pipeline = model.load(model.compute_dtype, decodes=True, safety_checker=safety_checker)
    with ctx.progress(out.name, len(prompts)) as advance:
        for start in range(0, len(prompts), CHUNK):
            path = out.dir / f"{start:07d}.npy"
            if path.exists():
                continue
            rows = slice(start, min(start + CHUNK, len(prompts)))
            images = image_to_image(
                pipeline,
                prototypes.centres[rows],
                prompts[rows],
                strength=options.strength,
                guidance=options.guidance_scale,
                steps=options.steps,
                negative_prompt=options.negative_prompt,
                seed=derive_seed(seed, "chunk", start),
                batch_size=batch_size(options, model.resolution()),
                pad_prompts=pad_prompts,
                progress=lambda done, total, before=start: advance(before + done, len(prompts)),
            )
            save_array(path, resized(images, size))


def read_images(done: Done) -> NDArray[np.uint8]:
    """Return the images of :func:`draw`, uint8 [n, size, size, 3]."""
    return np.concatenate([np.load(path, allow_pickle=False) for path in sorted(done.dir.glob("*.npy"))])


def resized(images: NDArray[np.uint8], size: int, *, lanczos: bool = False) -> NDArray[np.uint8]:
    """Resize uint8 [n, H, W, 3] to ``size`` by PIL's default filter (bicubic) as released code does, or another."""
    if images.shape[1:3] == (size, size):
        return images
    from PIL import Image

    by = Image.Resampling.LANCZOS if lanczos else None
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), by)) for image in images])


def grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average the channels of uint8 [n, H, W, 3]: the model saw grey images with three equal channels."""
    return as_bytes(np.round(images.astype(np.float32).mean(-1, keepdims=True)))


def image_to_image(
    pipeline: Any,
    prototypes: np.ndarray,
    prompts: Sequence[str],
    *,
    strength: float = 0.7,
    guidance: float = 10.0,
    steps: int = 50,
    negative_prompt: str = NEGATIVE_PROMPT,
    seed: int,
    batch_size: int = 8,
    pad_prompts: bool = True,
    progress: Callable[..., None] = silent,
) -> np.ndarray:
    """uint8 images [m, H, W, 3] from scaled latents [m, 4, h, w] and one prompt each, in their order.

    Zou et al. 2025, suppl. §6, and D4M's synthesis: the stock image-to-image pipeline, which takes a tensor of the
    latent's channels as a scaled latent. With Stable Diffusion's scheduler, 50 steps and strength 0.7 the U-Net runs
    36 times, from timestep 701 on. Image i's noise depends on (seed, i) only. Raises
    ``DivergedError`` if the model's images are not finite.
    """
    if len(prototypes) != len(prompts):
        raise ValueError(f"{len(prototypes)} prototypes but {len(prompts)} prompts")
    if prototypes.ndim != 4 or prototypes.shape[1] != pipeline.vae.config.latent_channels:
        raise ValueError(f"prototypes must be [m, {pipeline.vae.config.latent_channels}, h, w] latents")
    positives, negatives = embed_prompts(pipeline, prompts, negative_prompt, pad=pad_prompts)
    images: dict[int, np.ndarray] = {}
    pipeline.set_progress_bar_config(disable=True)
    for rows in _batches([len(embedding) for embedding in positives], batch_size):
        decoded = pipeline(
            image=torch.from_numpy(prototypes[rows]).to(pipeline.device, pipeline.unet.dtype),
            prompt_embeds=torch.stack([positives[row] for row in rows]),
            negative_prompt_embeds=torch.stack([negatives[row] for row in rows]),
            strength=strength,
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=[make_generator(seed, "synthesis", row) for row in rows],
            output_type="np",
        ).images
        images.update(zip(rows, as_bytes((decoded * 255).round(), "synthesised images"), strict=True))
        progress(len(images), len(prompts))
    return np.stack([images[row] for row in range(len(prompts))])


def _batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Batches of row numbers; the rows of one batch have prompts of equal length."""
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(length, []).append(row)
    return [rows[start : start + size] for rows in groups.values() for start in range(0, len(rows), size)]
