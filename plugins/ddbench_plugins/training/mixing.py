"""CutMix and mixup of whole batches, as the dataset-distillation repositories do it: one draw per batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


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
            return u / (u + v)


def draw_cutmix_box(height: int, width: int, generator: Generator, beta: float = 1.0) -> tuple[int, int, int, int]:
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
    top, bottom, left, right = draw_cutmix_box(x.shape[2], x.shape[3], generator, beta)
    partners = torch.randperm(x.shape[0], generator=generator).to(x.device)
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[partners, :, top:bottom, left:right]
    return Mixed(mixed, partners, 1 - (bottom - top) * (right - left) / (x.shape[2] * x.shape[3]))


def mixup(x: Tensor, generator: Generator, alpha: float = 0.8) -> Mixed:
    """λ·x + (1−λ)·x_permuted, λ ~ Beta(alpha, alpha)."""
    weight = draw_beta(alpha, generator)
    partners = torch.randperm(x.shape[0], generator=generator).to(x.device)
    return Mixed(torch.lerp(x[partners], x, weight), partners, weight)
