"""CutMix and mixup of whole batches, as the dataset-distillation repositories do it: one draw per batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from ddbench_plugins.training.numbers import moved

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from ddbench_plugins.training.numbers import Shape

#: (top, bottom, left, right), half-open.
Box = tuple[int, int, int, int]


class Mixed(NamedTuple):
    """A mixed batch."""

    images: Tensor
    """``[B, C, H, W]``."""
    partners: Tensor
    """``[B]``: image i was mixed with image ``partners[i]``."""
    ratio: Tensor
    """Share of image i itself, in [0, 1]; float64."""


def draw_beta(beta: float, generator: Generator) -> float:
    """One number from Beta(beta, beta), by Jöhnk's rejection rule (torch's own sampler takes no generator)."""
    if beta == 1:
        return float(torch.rand((), generator=generator))
    while True:
        u, v = torch.rand(2, generator=generator, dtype=torch.float64).pow(1 / beta).tolist()
        if 0 < u + v <= 1:
            return float(u / (u + v))


def draw_cutmix_box(height: int, width: int, generator: Generator, beta: float = 1.0) -> Box:
    """Box (top, bottom, left, right) of CutMix, half-open, clipped to the image; it may be empty.

    Sides are ⌊S·√(1−λ)⌋, but the box reaches ⌊side/2⌋ from its centre each way, so odd sides lose a pixel.
    """
    cut = math.sqrt(1 - draw_beta(beta, generator))
    half_h, half_w = int(height * cut) // 2, int(width * cut) // 2
    cy = int(torch.randint(height, (), generator=generator))
    cx = int(torch.randint(width, (), generator=generator))
    return max(cy - half_h, 0), min(cy + half_h, height), max(cx - half_w, 0), min(cx + half_w, width)


def draw_cutmix(shape: Shape, generator: Generator, beta: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Draw what :func:`cutmix` does to a batch of a shape: partners ``[B]``, box ``[4]``, ratio."""
    height, width = shape[2:]
    box = draw_cutmix_box(height, width, generator, beta)
    partners = torch.randperm(shape[0], generator=generator)
    return partners, torch.tensor(box), torch.tensor(ratio_of(box, height, width), dtype=torch.float64)


def cutmix(x: Tensor, generator: Generator, beta: float = 1.0) -> Mixed:
    """Paste one random box of a random permutation of the batch into the batch (IDC, MinimaxDiffusion, RDED, SRe2L).

    ``ratio`` is 1 − box area / image area of the clipped box.
    """
    return pasted(x, *moved(draw_cutmix(tuple(x.shape), generator, beta), x.device))


def pasted(x: Tensor, partners: Tensor, box: Tensor, ratio: Tensor) -> Mixed:
    """Return the batch that CutMix makes of what was drawn."""
    return Mixed(paste(x, partners, box), partners, ratio)


def draw_mixup(shape: Shape, generator: Generator, alpha: float = 0.8) -> tuple[Tensor, Tensor]:
    """Draw what :func:`mixup` does to a batch of a shape: partners ``[B]`` and weight."""
    weight = torch.tensor(draw_beta(alpha, generator), dtype=torch.float64)
    return torch.randperm(shape[0], generator=generator), weight


def mixup(x: Tensor, generator: Generator, alpha: float = 0.8) -> Mixed:
    """λ·x + (1−λ)·x_permuted, λ ~ Beta(alpha, alpha)."""
    return blended(x, *moved(draw_mixup(tuple(x.shape), generator, alpha), x.device))


def blended(x: Tensor, partners: Tensor, weight: Tensor) -> Mixed:
    """Return the batch that mixup makes of what was drawn."""
    return Mixed(blend(x, partners, weight), partners, weight)


def ratio_of(box: Box, height: int, width: int) -> float:
    """Share of the image that a box leaves: 1 − box area / image area."""
    top, bottom, left, right = box
    return 1 - (bottom - top) * (right - left) / (height * width)


def paste(x: Tensor, partners: Tensor, box: Tensor) -> Tensor:
    """Copy ``box`` ``[4]`` of image ``partners[i]`` into image i, for every i; ``x`` stays as it is."""
    top, bottom, left, right = box
    row, column = (torch.arange(side, device=x.device) for side in x.shape[2:])
    inside = ((row >= top) & (row < bottom))[:, None] & ((column >= left) & (column < right))
    return torch.where(inside, x[partners], x)


def blend(x: Tensor, partners: Tensor, weight: Tensor) -> Tensor:
    """``weight`` of image i and the rest of image ``partners[i]``, for every i."""
    # Kernels of the CPU round a number's and a tensor's weight differently; a GPU need not tell the host its weight.
    return torch.lerp(x[partners], x, weight.to(x.dtype) if x.is_cuda else float(weight))
