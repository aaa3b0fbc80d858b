"""Latent prototypes and prompts to images: noise part of the way, denoise with guidance, decode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddbench_plugins.diffusion.loop import NoCheckpoint, no_progress
from ddbench_plugins.diffusion.prompts import embed_prompts
from ddbench_plugins.diffusion.seeding import torch_stream
from ddbench_plugins.training.pixels import as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddbench_plugins.training.saving import Checkpoint

NEGATIVE_PROMPT = "cartoon, anime, painting"


def synthesize(
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
    progress: Callable[..., None] = no_progress,
    checkpoint: Checkpoint | None = None,
) -> np.ndarray:
    """uint8 images [m, H, W, 3] from scaled latents [m, 4, h, w] and one prompt each, in their order.

    Zou et al. 2025, suppl. §6, and D4M's synthesis: the stock image-to-image pipeline, which takes a tensor of the
    latent's channels as a scaled latent. With Stable Diffusion's scheduler, 50 steps and strength 0.7 the U-Net runs
    36 times, from timestep 701 on. Image i's noise depends on (seed, i) only. Work is kept in ``checkpoint`` after
    every batch. Raises ``DivergedError`` if the model's images are not finite.
    """
    if len(prototypes) != len(prompts):
        raise ValueError(f"{len(prototypes)} prototypes but {len(prompts)} prompts")
    if prototypes.ndim != 4 or prototypes.shape[1] != pipeline.vae.config.latent_channels:
        raise ValueError(f"prototypes must be [m, {pipeline.vae.config.latent_channels}, h, w] latents")
    checkpoint = checkpoint or NoCheckpoint()
    positives, negatives = embed_prompts(pipeline, prompts, negative_prompt, pad=pad_prompts)
    images = _restored(checkpoint.load())
    pipeline.set_progress_bar_config(disable=True)
    for rows in _batches([len(embedding) for embedding in positives], batch_size):
        if all(row in images for row in rows):
            continue
        decoded = pipeline(
            image=torch.from_numpy(prototypes[rows]).to(pipeline.device, pipeline.unet.dtype),
            prompt_embeds=torch.stack([positives[row] for row in rows]),
            negative_prompt_embeds=torch.stack([negatives[row] for row in rows]),
            strength=strength,
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=[torch_stream(seed, "synthesis", row) for row in rows],
            output_type="np",
        ).images
        images.update(zip(rows, as_bytes((decoded * 255).round(), "synthesised images"), strict=True))
        order = sorted(images)
        checkpoint.save({"rows": order, "images": torch.from_numpy(np.stack([images[row] for row in order]))})
        progress(len(images), len(prompts), "synthesis")
    return np.stack([images[row] for row in range(len(prompts))])


def _batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Batches of row numbers; the rows of one batch have prompts of equal length."""
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(length, []).append(row)
    return [rows[start : start + size] for rows in groups.values() for start in range(0, len(rows), size)]


def _restored(state: dict[str, Any] | None) -> dict[int, np.ndarray]:
    if state is None:
        return {}
    return dict(zip(state["rows"], state["images"].numpy(), strict=True))
