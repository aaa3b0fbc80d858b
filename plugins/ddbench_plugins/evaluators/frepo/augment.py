"""FRePo's augmentation: one operation per batch, parameters per image (lib/dataset/augmax/export.py)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ddbench_plugins.training.augment import random_flip, uniform
from ddbench_plugins.training.numbers import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from ddbench_plugins.training.numbers import Shape

OPERATIONS = ("flip", "color", "crop", "rotate", "translate", "cutout")
COLOR, ZOOM, DEGREES, SHIFT, HOLE = 0.25, 1.25, 15.0, 0.125, 0.25


def one_for_all(names: Sequence[str]) -> Operation:
    """Apply one of the named operations to normalised batches [B, C, S, S], drawn for the batch."""

    def draw(shape: Shape, generator: Generator) -> tuple[Any, ...]:
        name = names[int(torch.randint(len(names), (), generator=generator))]
        return name, *_OPERATIONS[name].draw(shape, generator)

    return Operation(draw, lambda x, name, *numbers: _OPERATIONS[name].apply(x, *numbers))


def _draw_color(shape: Shape, generator: Generator) -> tuple[Tensor]:
    return (uniform((3, shape[0], 1, 1, 1), generator, -COLOR, COLOR),)


def _color(x: Tensor, drawn: Tensor) -> Tensor:
    """Shift all colours by U(±0.25), then scale contrast and saturation by factors log-uniform in e^±0.25."""
    drawn = drawn.to(x)
    x = x + drawn[0]
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, drawn[1].exp())
    return torch.lerp(x.mean(1, keepdim=True), x, drawn[2].exp())


def _draw_crop(shape: Shape, generator: Generator) -> tuple[Tensor]:
    """Zoom by 0.8 … 1.25, log-uniform, at a random place."""
    zoom = uniform((shape[0],), generator, -math.log(ZOOM), math.log(ZOOM)).exp()
    room = (1 - 1 / zoom).abs()
    move = uniform((2, shape[0]), generator, -1, 1) * room
    zero = torch.zeros_like(zoom)
    return _matrix((1 / zoom, zero, move[0]), (zero, 1 / zoom, move[1]))


def _draw_rotation(shape: Shape, generator: Generator) -> tuple[Tensor]:
    angle = uniform((shape[0],), generator, -DEGREES, DEGREES) * (math.pi / 180)
    zero = torch.zeros_like(angle)
    return _matrix((angle.cos(), -angle.sin(), zero), (angle.sin(), angle.cos(), zero))


def _draw_translation(shape: Shape, generator: Generator) -> tuple[Tensor]:
    move = uniform((2, shape[0]), generator, -SHIFT, SHIFT) * 2  # the grid's side is 2
    one, zero = torch.ones(shape[0]), torch.zeros(shape[0])
    return _matrix((one, zero, move[0]), (zero, one, move[1]))


def _draw_cutout(shape: Shape, generator: Generator) -> tuple[Tensor]:
    size = shape[-1]
    side = int(size * HOLE)
    starts = torch.randint(0, size - side + 1, (2, shape[0], 1), generator=generator)
    place = torch.arange(size)
    rows, columns = ((place >= start) & (place < start + side) for start in starts)
    return (rows[:, None, :, None] & columns[:, None, None, :],)


def _matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor]:
    return (torch.stack([torch.stack(row, 1) for row in rows], 1),)


def _affine(x: Tensor, matrix: Tensor) -> Tensor:
    """Outside of the image its border goes on."""
    grid = F.affine_grid(matrix.to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


_OPERATIONS = {
    "flip": random_flip,
    "color": Operation(_draw_color, _color),
    "crop": Operation(_draw_crop, _affine),
    "rotate": Operation(_draw_rotation, _affine),
    "translate": Operation(_draw_translation, _affine),
    "cutout": Operation(_draw_cutout, lambda x, hole: x.masked_fill(hole.to(x.device), 0)),
}
