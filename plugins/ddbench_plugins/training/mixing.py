"""CutMix and mixup of whole batches, as the dataset-distillation repositories do it: one draw per batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


#: (top, bottom, left, right), half-open.
Box = tuple[int, int, int, int]


class Mixed(NamedTuple):
    """A mixed batch."""

    images: Tensor
    """``[B, C, H, W]``."""
    partners: Tensor
    """``[B]``: image i was mixed with image ``partners[i]``."""
    ratio: float
    """Share of image i itself, in [0, 1]."""


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


def cutmix(x: Tensor, generator: Generator, beta: float = 1.0) -> Mixed:
    """Paste one random box of a random permutation of the batch into the batch (IDC, MinimaxDiffusion, RDED, SRe2L).

    ``ratio`` is 1 − box area / image area of the clipped box.
    """
    box = draw_cutmix_box(x.shape[2], x.shape[3], generator, beta)
    partners = torch.randperm(x.shape[0], generator=generator).to(x.device)
    return Mixed(paste(x, partners, box), partners, ratio_of(box, x.shape[2], x.shape[3]))


def mixup(x: Tensor, generator: Generator, alpha: float = 0.8) -> Mixed:
    """λ·x + (1−λ)·x_permuted, λ ~ Beta(alpha, alpha)."""
    weight = draw_beta(alpha, generator)
    partners = torch.randperm(x.shape[0], generator=generator).to(x.device)
    return Mixed(blend(x, partners, weight), partners, weight)


def ratio_of(box: Box, height: int, width: int) -> float:
    """Share of the image that a box leaves: 1 − box area / image area."""
    top, bottom, left, right = box
    return 1 - (bottom - top) * (right - left) / (height * width)


def paste(x: Tensor, partners: Tensor, box: Box) -> Tensor:
    """Copy ``box`` of image ``partners[i]`` into image i, for every i; ``x`` stays as it is."""
    top, bottom, left, right = box
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[partners, :, top:bottom, left:right]
    return mixed


def blend(x: Tensor, partners: Tensor, weight: float) -> Tensor:
    """``weight`` of image i and the rest of image ``partners[i]``, for every i."""
    return torch.lerp(x[partners], x, weight)
