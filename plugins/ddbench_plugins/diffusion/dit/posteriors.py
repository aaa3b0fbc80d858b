"""Every training image as the autoencoder's posterior, kept in memory while a transformer is trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ddbench_plugins.diffusion.tensors import resized, to_model
from ddbench_plugins.training.engine import silent
from ddbench_plugins.training.pixels import finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddbench import ImageSource


class Posteriors:
    """Means and deviations [V, N, 4, h, w] of N images; V = 2 (plain, mirrored) where a mirrored image keeps its label.

    Attributes:
        scaling: the autoencoder's scaling factor.
    """

    def __init__(self, mean: Tensor, std: Tensor, scaling: float) -> None:
        self.mean, self.std, self.scaling = mean, std, scaling

    def __len__(self) -> int:
        return int(self.mean.shape[1])

    def draw(self, rows: Tensor, stream: torch.Generator) -> Tensor:
        """Scaled latents [n, 4, h, w] of the images ``rows``: a random view of each, sampled from its posterior."""
        views = torch.randint(len(self.mean), (len(rows),), generator=stream)
        mean = self.mean[views, rows]
        return self.scaling * (mean + self.std[views, rows] * torch.randn(mean.shape, generator=stream))


@torch.no_grad()
def encode(
    vae: Any,
    images: ImageSource,
    resolution: int,
    *,
    flip: bool,
    batch_size: int = 64,
    rows: list[int] | None = None,
    progress: Callable[..., None] = silent,
) -> Posteriors:
    """The posteriors of the images (``rows`` of them, else all) at a resolution: 2·V·4 bytes per latent number."""
    rows = list(range(len(images))) if rows is None else rows
    means: list[list[Tensor]] = [[], []]
    stds: list[list[Tensor]] = [[], []]
    for start in range(0, len(rows), batch_size):
        pixels = to_model(resized(images.batch(rows[start : start + batch_size], resolution), resolution))
        for view in range(2 if flip else 1):
            posterior = vae.encode((pixels.flip(3) if view else pixels).to(vae.device, vae.dtype)).latent_dist
            means[view].append(finite(posterior.mean.float().cpu(), "posteriors of the autoencoder"))
            stds[view].append(finite(posterior.std.float().cpu(), "posteriors of the autoencoder"))
        progress(min(start + batch_size, len(rows)), len(rows))
    mean, std = (torch.stack([torch.cat(view) for view in views if view]) for views in (means, stds))
    return Posteriors(mean, std, float(vae.config.scaling_factor))
