"""Differentiable augmentation of normalised batches as DatasetCondensation and IDC do it, one function per operator.

Each draws its parameters per image; ``siamese`` gives all images those of the first.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def colour(x: Tensor, siamese: bool = False) -> Tensor:
    """Brightness, saturation, contrast, each with its own random number per image."""

    def draw() -> Tensor:
        return _same(torch.rand(len(x), 1, 1, 1, device=x.device), siamese)

    x = x + (draw() - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (draw() * 2) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (draw() + 0.5) + mean


def flip(x: Tensor, siamese: bool = False) -> Tensor:
    """Mirror half of the images."""
    return torch.where(_same(torch.rand(len(x), 1, 1, 1, device=x.device), siamese) < 0.5, x.flip(3), x)


def crop(x: Tensor, siamese: bool = False) -> Tensor:
    """Shift by up to an eighth of the side; zeros come in."""
    n, _, height, width = x.shape
    reach = int(height * 0.125 + 0.5)
    down, right = (_same(torch.randint(-reach, reach + 1, (n, 1, 1), device=x.device), siamese) for _ in range(2))
    rows = (torch.arange(height, device=x.device)[None, :, None] + down + 1).clamp(0, height + 1)
    columns = (torch.arange(width, device=x.device)[None, None] + right + 1).clamp(0, width + 1)
    padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1).contiguous()
    return padded[torch.arange(n, device=x.device)[:, None, None], rows, columns].permute(0, 3, 1, 2)


def cutout(x: Tensor, siamese: bool = False) -> Tensor:
    """Set a square of half the side to zero."""
    n, _, height, width = x.shape
    side = int(height * 0.5 + 0.5)
    offset = torch.arange(side, device=x.device) - side // 2
    row, column = (
        _same(torch.randint(edge + 1 - side % 2, (n, 1, 1), device=x.device), siamese) for edge in (height, width)
    )
    rows = (row + offset[:, None]).clamp(0, height - 1)
    columns = (column + offset).clamp(0, width - 1)
    mask = torch.ones(n, height, width, device=x.device)
    mask[torch.arange(n, device=x.device)[:, None, None], rows, columns] = 0
    return x * mask[:, None]


def scale(x: Tensor, siamese: bool = False) -> Tensor:
    """Stretch each axis by 1/1.2 … 1.2."""
    sx, sy = (_same(torch.rand(len(x), device=x.device), siamese) * (1.2 - 1 / 1.2) + 1 / 1.2 for _ in range(2))
    return _warp(x, sx, torch.zeros_like(sx), torch.zeros_like(sx), sy)


def rotate(x: Tensor, siamese: bool = False) -> Tensor:
    """Rotate by up to 15 degrees."""
    angle = (_same(torch.rand(len(x), device=x.device), siamese) - 0.5) * 2 * 15 / 180 * math.pi
    return _warp(x, angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def _same(values: Tensor, siamese: bool) -> Tensor:
    return values[:1].expand_as(values) if siamese else values


def _warp(x: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    zero = torch.zeros_like(a)
    theta = torch.stack([torch.stack([a, b, zero], 1), torch.stack([c, d, zero], 1)], 1)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def one(x: Tensor, with_flip: bool, siamese: bool = False) -> Tensor:
    """DatasetCondensation: one operator for the whole batch."""
    operators = [colour, crop, cutout, *([flip] if with_flip else []), scale, rotate]
    return operators[int(torch.randint(len(operators), (1,)))](x, siamese).contiguous()


def several(x: Tensor, with_flip: bool) -> Tensor:
    """IDC with CutMix on: flip and colour always, then one of crop, scale and rotate."""
    x = colour(flip(x) if with_flip else x)
    return [crop, scale, rotate][np.random.randint(3)](x).contiguous()
