"""Differentiable Siamese augmentation (DSA): random parameters are drawn once and can be applied to several batches.

Three repositories compose the same operators differently: DatasetCondensation and DD-Ranking apply one operator per
batch, IDC flips and recolours always and then adds one more. All work on normalised batches, so zero is mean colour.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F

from ddbench_plugins.training.augment import flip, shift_with_zeros, uniform
from ddbench_plugins.training.numbers import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

    from ddbench_plugins.training.numbers import Shape

Operator = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]

STRATEGY: tuple[Operator, ...] = ("color", "crop", "cutout", "flip", "scale", "rotate")
"""DatasetCondensation on natural images."""
STRATEGY_WITHOUT_FLIP: tuple[Operator, ...] = ("color", "crop", "cutout", "scale", "rotate")
"""DatasetCondensation on MNIST and SVHN."""
STRATEGY_DD_RANKING: tuple[Operator, ...] = ("scale", "rotate", "flip", "color", "crop", "cutout")
"""DD-Ranking, every data set."""

BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
SCALE, DEGREES, PAD_RATIO, CUTOUT_RATIO = 1.2, 15.0, 0.125, 0.5


class Drawn(NamedTuple):
    """One operator with its parameters ``[n]``: n is the batch, or 1 if every image shares them (Siamese)."""

    operator: Operator
    values: tuple[Tensor, ...]


def draw(operator: Operator, n: int, size: int, generator: Generator) -> Drawn:
    """Draw the parameters of one operator for ``n`` images of ``size`` pixels (n = 1: shared by a whole batch)."""
    values: tuple[Tensor, ...]
    match operator:
        case "color":
            u = uniform((3, n), generator)
            values = ((u[0] - 0.5) * BRIGHTNESS, u[1] * SATURATION, u[2] + CONTRAST)
        case "crop":
            reach = int(size * PAD_RATIO + 0.5)
            values = tuple(torch.randint(-reach, reach + 1, (2, n), generator=generator))
        case "cutout":
            side = int(size * CUTOUT_RATIO + 0.5)
            values = tuple(torch.randint(0, size + 1 - side % 2, (2, n), generator=generator))
        case "flip":
            values = (torch.rand(n, generator=generator) < 0.5,)
        case "scale":
            values = tuple(uniform((2, n), generator, 1 / SCALE, SCALE))
        case "rotate":
            values = (uniform((n,), generator, -DEGREES, DEGREES) * (math.pi / 180),)
    return Drawn(operator, values)


def apply(x: Tensor, drawn: Sequence[Drawn]) -> Tensor:
    """Apply operators in order to ``[B, C, S, S]``; differentiable in ``x``."""
    for item in drawn:
        x = _OPERATORS[item.operator](x, *item.values)
    return x


def draw_dc(n: int, size: int, generator: Generator, strategy: Sequence[Operator] = STRATEGY) -> tuple[Drawn, ...]:
    """DatasetCondensation (mode S) and DD-Ranking: one operator of the strategy for the whole batch."""
    chosen = strategy[int(torch.randint(len(strategy), (), generator=generator))]
    return (draw(chosen, n, size, generator),)


def draw_idc(n: int, size: int, generator: Generator, strategy: Sequence[Operator] = STRATEGY) -> tuple[Drawn, ...]:
    """IDC: flip and colour always (if in the strategy), one of crop, scale and rotate, then cutout (if in it).

    IDC takes cutout out of the strategy wherever CutMix is on.
    """
    drawn = [draw(operator, n, size, generator) for operator in ("flip", "color") if operator in strategy]
    rest = [operator for operator in strategy if operator in ("crop", "scale", "rotate")]
    if rest:
        drawn.append(draw(rest[int(torch.randint(len(rest), (), generator=generator))], n, size, generator))
    if "cutout" in strategy:
        drawn.append(draw("cutout", n, size, generator))
    return tuple(drawn)


def dsa(variant: Literal["dc", "idc"] = "dc", strategy: Sequence[Operator] = STRATEGY) -> Operation:
    """Augmentation for training: parameters per image. DD-Ranking is "dc" with :data:`STRATEGY_DD_RANKING`."""
    draw_variant = draw_dc if variant == "dc" else draw_idc

    def draw(shape: Shape, generator: Generator) -> tuple[Drawn, ...]:
        return draw_variant(shape[0], shape[-1], generator, strategy)

    return Operation(draw, lambda x, *drawn: apply(x, drawn), per_image=True)


def _per_image(value: Tensor, x: Tensor) -> Tensor:
    return value.to(x)[:, None, None, None]


def _color(x: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    x = x + _per_image(brightness, x)
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(grey, x, _per_image(saturation, x))
    mean = x.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, x, _per_image(contrast, x))


def _crop(x: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    return shift_with_zeros(x, dy, dx)


def _cutout(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    side = int(x.shape[-1] * CUTOUT_RATIO + 0.5)

    def inside(offset: Tensor) -> Tensor:
        position = torch.arange(x.shape[-1], device=offset.device)[None]
        start = offset[:, None] - side // 2
        return (position >= start) & (position < start + side)

    hole = inside(row)[:, None, :, None] & inside(column)[:, None, None, :]
    return x.masked_fill(hole.to(x.device), 0)


def _scale(x: Tensor, sx: Tensor, sy: Tensor) -> Tensor:
    zero = torch.zeros_like(sx)
    return _affine(x, (sx, zero, zero, sy))


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    return _affine(x, (angle.cos(), -angle.sin(), angle.sin(), angle.cos()))


def _affine(x: Tensor, matrix: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    a, b, c, d = matrix
    zero = torch.zeros_like(a)
    theta = torch.stack([torch.stack([a, b, zero], 1), torch.stack([c, d, zero], 1)], 1).to(x)
    grid = F.affine_grid(theta.expand(x.shape[0], 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


_OPERATORS: dict[Operator, Callable[..., Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": flip,
    "scale": _scale,
    "rotate": _rotate,
}
