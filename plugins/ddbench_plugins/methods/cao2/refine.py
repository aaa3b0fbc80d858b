"""What CaO2 does to samples: choose those a classifier is sure of, and refine their latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddbench_plugins.diffusion.dit.noise import Noise
from ddbench_plugins.diffusion.dit.sample import respaced
from ddbench_plugins.training.pixels import finite


def chosen(probabilities: np.ndarray, labels: np.ndarray, ipc: int, *, least: bool = False) -> np.ndarray:
    """Return the positions [classes · ipc] of the chosen samples, class-major, the best first.

    Those recognised as their class come first, the surest of them first (``least``: last); where they are too few, the
    others follow in the same order.

    Args:
        probabilities: of every class, [n, K].
        labels: of the samples [n], class-major, equally many per class.
        ipc: samples to choose per class.
        least: whether the least sure come first.
    """
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    order = np.lexsort((sure if least else -sure, ~right, labels))
    places: np.ndarray = order.reshape(len(np.unique(labels)), -1)[:, :ipc].reshape(-1)
    return places


@dataclass(frozen=True)
class Refinement:
    """How latents are refined.

    Attributes:
        steps, rate: of Adam.
        sampling_steps, times: how many sampling steps there are, and the share of them, the last, that are chosen from.
        largest: weight of the greatest error.
        raw_times: whether the transformer is told a sampling step's index in place of its time.
    """

    steps: int
    rate: float
    sampling_steps: int
    times: float
    largest: float
    raw_times: bool = False


def refine(
    pipeline: Any,
    latents: np.ndarray,
    labels: Sequence[int],
    streams: Sequence[torch.Generator],
    how: Refinement,
    *,
    batch_size: int = 64,
    progress: Callable[..., None] = lambda done: None,
) -> np.ndarray:
    """Return latents [n, 4, h, w] whose noise the transformer tells better; image i draws from stream i alone.

    Every image has one noise; each step adds as much of it as a sampling step chosen among the last ones does, and
    lowers the mean square plus ``how.largest`` times the greatest error of what the transformer predicts.

    Args:
        pipeline: transformer and scheduler.
        latents: scaled.
        labels: the transformer's.
        streams: one per image.
        how: settings.
        batch_size: images whose activations are held at once.
        progress: hears how many images the work done amounts to.
    """
    moved = []
    for start in range(0, len(latents), batch_size):
        rows = slice(start, start + batch_size)

        def heard(done: int, before: int = start, count: int = len(latents[rows])) -> None:
            progress(before + count * done // how.steps)

        moved.append(_batch(pipeline, latents[rows], labels[rows], streams[rows], how, heard))
    return finite(np.concatenate(moved), "refined latents")


def _batch(
    pipeline: Any,
    latents: np.ndarray,
    labels: Sequence[int],
    streams: Sequence[torch.Generator],
    how: Refinement,
    progress: Callable[[int], None],
) -> np.ndarray:
    transformer, device = pipeline.transformer, pipeline.transformer.device
    noise = Noise(pipeline.scheduler.betas.to(device))
    spaced = torch.tensor(respaced(noise.steps, how.sampling_steps)[::-1])
    added = torch.stack([torch.randn(latents.shape[1:], generator=stream) for stream in streams]).to(device)
    last = min(how.sampling_steps, max(2, 1 + round(how.times * how.sampling_steps)))
    drawn = torch.stack([torch.randint(1, last, (how.steps,), generator=stream) for stream in streams], 1)
    moving = torch.from_numpy(latents.copy()).to(device).requires_grad_()
    classes = torch.as_tensor(list(labels), device=device)
    optimizer = torch.optim.Adam([moving], lr=how.rate)
    for step, index in enumerate(drawn):
        at = spaced[index].to(device)
        told = index.to(device) if how.raw_times else at
        noisy = noise.noisy(moving, added, at).to(transformer.dtype)
        output = transformer(noisy, timestep=told, class_labels=classes, return_dict=False)[0]
        (moving.grad,) = torch.autograd.grad(_loss(output.float()[:, : added.shape[1]] - added, how.largest), moving)
        optimizer.step()
        progress(step + 1)
    refined: np.ndarray = moving.detach().cpu().numpy()
    return refined


def _loss(error: Tensor, largest: float) -> Tensor:
    """Sum over the images, whose gradients do not meet."""
    return (error.square().flatten(1).mean(1) + largest * error.abs().flatten(1).amax(1)).sum()
