"""DatasetCondensation's own augmentation (utils.py, augment): one operation per image, drawn from a list."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ddbench_plugins.training.augment import take_rows_and_columns, uniform
from ddbench_plugins.training.numbers import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

    from ddbench_plugins.training.numbers import Shape

PADDING, SCALE, DEGREES, NOISE = 4, 0.2, 45, 0.001


def one_of(names: Sequence[str]) -> Operation:
    """Apply one of the named operations (``crop``, ``scale``, ``rotate``, ``noise``) to each image, drawn evenly.

    Works on normalised batches [B, C, S, S].
    """

    def draw(shape: Shape, generator: Generator) -> tuple[Any, ...]:
        chosen = torch.randint(len(names), shape[:1], generator=generator)
        mine = [(chosen == number).nonzero()[:, 0] for number in range(len(names))]
        return tuple(
            (name, places, *_DRAW[name]((len(places), *shape[1:]), generator))
            for name, places in zip(names, mine, strict=True)
            if len(places)
        )

    def apply(x: Tensor, *drawn: Any) -> Tensor:
        # What the released code fills borders with is measured on the whole batch, before anything is changed.
        mean = x.mean(dim=(0, 2, 3))
        out = x.clone()
        for name, places, *numbers in drawn:
            out[places] = _APPLY[name](x[places], mean, *numbers)
        return out

    return Operation(draw, apply)


def _draw_crop(shape: Shape, generator: Generator) -> tuple[Tensor, Tensor]:
    b, _, h, w = shape
    start = torch.randint(2 * PADDING, (2, b), generator=generator)
    return torch.arange(h) + start[0][:, None], torch.arange(w) + start[1][:, None]


def _crop(x: Tensor, mean: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pad by 4 with the batch mean of each channel; the window begins at 0…7, so shifts are −4…+3."""
    colour = mean[None, :, None, None]
    return take_rows_and_columns(F.pad(x - colour, (PADDING,) * 4) + colour, rows, columns)


def _draw_scale(shape: Shape, generator: Generator) -> tuple[Tensor, Tensor]:
    b, _, h, w = shape
    sides = (uniform((2, b), generator, 1 - SCALE, 1 + SCALE) * h).floor().long()
    canvas = sides.amax(0).clamp(min=h)
    return _nearest(h, sides[0], canvas), _nearest(w, sides[1], canvas)


def _scale(x: Tensor, mean: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """New height and width, independently ⌊U(0.8, 1.2)·S⌋, nearest neighbour, centred on zeros, cropped to S."""
    return take_rows_and_columns(F.pad(x, (1, 1, 1, 1)), rows, columns)  # index 0 is the border of zeros


def _nearest(side: int, new: Tensor, canvas: Tensor) -> Tensor:
    """For each output pixel of a centred image of ``new`` pixels, 1 + its source pixel, or 0 outside; [B, side].

    Both the image and the window lie in the middle of a square ``canvas`` that holds them, rounded down.
    """
    begin = (canvas - new) // 2 - (canvas - side) // 2
    place = torch.arange(side)[None] - begin[:, None]
    source = (place * side).div(new[:, None], rounding_mode="floor")
    return torch.where((place >= 0) & (place < new[:, None]), source + 1, 0)


def _draw_rotation(shape: Shape, generator: Generator) -> tuple[Tensor]:
    angle = torch.randint(-DEGREES, DEGREES, (shape[0],), generator=generator) * (math.pi / 180)
    zero = torch.zeros_like(angle)
    rows = torch.stack([angle.cos(), -angle.sin(), zero], 1), torch.stack([angle.sin(), angle.cos(), zero], 1)
    return (torch.stack(rows, 1),)


def _rotate(x: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """Turn by a whole number of degrees in −45…44 about the centre; outside is the mean of the channel means.

    The released code interpolates with SciPy's cubic spline, this with a cubic convolution.
    """
    grid = F.affine_grid(matrix.to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x - mean.mean(), grid, mode="bicubic", padding_mode="zeros", align_corners=False) + mean.mean()


def _draw_noise(shape: Shape, generator: Generator) -> tuple[Tensor]:
    return (torch.randn(shape, generator=generator),)


def _noise(x: Tensor, mean: Tensor, noise: Tensor) -> Tensor:
    return x + NOISE * noise.to(x)


_DRAW: dict[str, Callable[[Shape, Generator], tuple[Tensor, ...]]] = {
    "crop": _draw_crop,
    "scale": _draw_scale,
    "rotate": _draw_rotation,
    "noise": _draw_noise,
}
_APPLY: dict[str, Callable[..., Tensor]] = {"crop": _crop, "scale": _scale, "rotate": _rotate, "noise": _noise}
