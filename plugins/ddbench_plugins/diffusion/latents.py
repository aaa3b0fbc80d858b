"""Images to scaled latents and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddbench_plugins.diffusion.posteriors import posterior
from ddbench_plugins.diffusion.tensors import resized, to_images, to_model
from ddbench_plugins.training.engine import silent
from ddbench_plugins.training.pixels import finite
from ddbench_plugins.training.seeding import make_generator
from ddbench_plugins.training.transfer import fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@torch.no_grad()
def encoded_batches(
    pipeline: Any,
    images: Sequence[np.ndarray] | np.ndarray,
    *,
    resolution: int,
    seed: int,
    sample: bool = True,
    batch_size: int = 64,
    resample: str = "bilinear",
    progress: Callable[..., None] = silent,
) -> Iterator[np.ndarray]:
    """Latents float32 [n, 4, h, w] of uint8 images [H, W, 1 or 3], multiplied by the VAE's scaling factor, by batches.

    Images are resized to ``resolution`` × ``resolution`` first. ``sample`` draws from the posterior as the released
    D4M and VLCP code does (there unseeded); image i's noise depends on (seed, i) only, whatever the batch size.
    Without ``sample`` the posterior's mode is taken.
    """
    vae = pipeline.vae
    factor = float(vae.config.scaling_factor)
    for start in range(0, len(images), batch_size):
        batch = to_model(resized(images[start : start + batch_size], resolution))
        mean, std = fetched(*posterior(vae, batch))
        if sample:
            rows = range(start, start + len(mean))
            shape = mean.shape[1:]
            mean = mean + std * torch.stack(
                [torch.randn(shape, generator=make_generator(seed, "latent", i)) for i in rows]
            )
        yield finite((mean * factor).numpy(), "latents of the autoencoder")
        progress(min(start + batch_size, len(images)), len(images))


@torch.no_grad()
def decode_latents(
    pipeline: Any,
    latents: np.ndarray,
    *,
    batch_size: int = 64,
    progress: Callable[..., None] = silent,
) -> np.ndarray:
    """uint8 images [N, H, W, 3] of scaled latents [N, 4, h, w]."""
    vae = pipeline.vae
    factor = float(vae.config.scaling_factor)
    images: list[np.ndarray] = []
    for start in range(0, len(latents), batch_size):
        batch = torch.from_numpy(latents[start : start + batch_size]).to(vae.device, vae.dtype) / factor
        images.append(to_images(vae.decode(batch, return_dict=False)[0]))
        progress(min(start + batch_size, len(latents)), len(latents))
    return np.concatenate(images)
