"""FRePo's augmentation: one operation per batch, parameters per image (lib/dataset/augmax/export.py)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ddbench_plugins.training.augment import random_flip, uniform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from ddbench_plugins.training.augment import Augment

OPERATIONS = ("flip", "color", "crop", "rotate", "translate", "cutout")
COLOR, ZOOM, DEGREES, SHIFT, HOLE = 0.25, 1.25, 15.0, 0.125, 0.25


def one_for_all(names: Sequence[str]) -> Augment:
    """Apply one of the named operations to normalised batches [B, C, S, S], drawn for the batch."""

    def augment(x: Tensor, generator: Generator) -> Tensor:
        return _APPLY[names[int(torch.randint(len(names), (), generator=generator))]](x, generator)

    return augment


def _color(x: Tensor, generator: Generator) -> Tensor:
    """Shift all colours by U(±0.25), then scale contrast and saturation by factors log-uniform in e^±0.25."""
    drawn = uniform((3, len(x), 1, 1, 1), generator, -COLOR, COLOR).to(x)
    x = x + drawn[0]
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, drawn[1].exp())
    return torch.lerp(x.mean(1, keepdim=True), x, drawn[2].exp())


def _crop(x: Tensor, generator: Generator) -> Tensor:
    """Zoom by 0.8 … 1.25, log-uniform, at a random place."""
    zoom = uniform((len(x),), generator, -math.log(ZOOM), math.log(ZOOM)).exp()
    room = (1 - 1 / zoom).abs()
    move = uniform((2, len(x)), generator, -1, 1) * room
    zero = torch.zeros_like(zoom)
    return _affine(x, (1 / zoom, zero, move[0]), (zero, 1 / zoom, move[1]))


def _rotate(x: Tensor, generator: Generator) -> Tensor:
    angle = uniform((len(x),), generator, -DEGREES, DEGREES) * (math.pi / 180)
    zero = torch.zeros_like(angle)
    return _affine(x, (angle.cos(), -angle.sin(), zero), (angle.sin(), angle.cos(), zero))


def _translate(x: Tensor, generator: Generator) -> Tensor:
    move = uniform((2, len(x)), generator, -SHIFT, SHIFT) * 2  # the grid's side is 2
    one, zero = torch.ones(len(x)), torch.zeros(len(x))
    return _affine(x, (one, zero, move[0]), (zero, one, move[1]))


def _cutout(x: Tensor, generator: Generator) -> Tensor:
    side = int(x.shape[-1] * HOLE)
    starts = torch.randint(0, x.shape[-1] - side + 1, (2, len(x), 1), generator=generator)
    place = torch.arange(x.shape[-1])
    rows, columns = ((place >= start) & (place < start + side) for start in starts)
    return x.masked_fill((rows[:, None, :, None] & columns[:, None, None, :]).to(x.device), 0)


def _affine(x: Tensor, *rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Outside of the image its border goes on."""
    matrix = torch.stack([torch.stack(row, 1) for row in rows], 1).to(x)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


_APPLY = {
    "flip": random_flip,
    "color": _color,
    "crop": _crop,
    "rotate": _rotate,
    "translate": _translate,
    "cutout": _cutout,
}
