"""DatasetCondensation's own augmentation (utils.py, augment): one operation per image, drawn from a list."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ddbench_plugins.training.augment import take_rows_and_columns, uniform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from ddbench_plugins.training.augment import Augment

PADDING, SCALE, DEGREES, NOISE = 4, 0.2, 45, 0.001


def one_of(names: Sequence[str]) -> Augment:
    """Apply one of the named operations (``crop``, ``scale``, ``rotate``, ``noise``) to each image, drawn evenly.

    Works on normalised batches [B, C, S, S].
    """
    operations = [_OPERATIONS[name] for name in names]

    def augment(x: Tensor, generator: Generator) -> Tensor:
        chosen = torch.randint(len(operations), (x.shape[0],), generator=generator)
        # What the released code fills borders with is measured on the whole batch, before anything is changed.
        mean = x.mean(dim=(0, 2, 3))
        out = x.clone()
        for number, operation in enumerate(operations):
            mine = (chosen == number).to(x.device)
            if mine.any():
                out[mine] = operation(x[mine], mean, generator)
        return out

    return augment


def _crop(x: Tensor, mean: Tensor, generator: Generator) -> Tensor:
    """Pad by 4 with the batch mean of each channel; the window begins at 0…7, so shifts are −4…+3."""
    b, _, h, w = x.shape
    colour = mean[None, :, None, None]
    padded = F.pad(x - colour, (PADDING,) * 4) + colour
    start = torch.randint(2 * PADDING, (2, b), generator=generator)
    return take_rows_and_columns(padded, torch.arange(h) + start[0][:, None], torch.arange(w) + start[1][:, None])


def _scale(x: Tensor, mean: Tensor, generator: Generator) -> Tensor:
    """New height and width, independently ⌊U(0.8, 1.2)·S⌋, nearest neighbour, centred on zeros, cropped to S."""
    b, _, h, w = x.shape
    sides = (uniform((2, b), generator, 1 - SCALE, 1 + SCALE) * h).floor().long()
    canvas = sides.amax(0).clamp(min=h)
    padded = F.pad(x, (1, 1, 1, 1))  # index 0 is the border of zeros
    return take_rows_and_columns(padded, _nearest(h, sides[0], canvas), _nearest(w, sides[1], canvas))


def _nearest(side: int, new: Tensor, canvas: Tensor) -> Tensor:
    """For each output pixel of a centred image of ``new`` pixels, 1 + its source pixel, or 0 outside; [B, side].

    Both the image and the window lie in the middle of a square ``canvas`` that holds them, rounded down.
    """
    begin = (canvas - new) // 2 - (canvas - side) // 2
    place = torch.arange(side)[None] - begin[:, None]
    source = (place * side).div(new[:, None], rounding_mode="floor")
    return torch.where((place >= 0) & (place < new[:, None]), source + 1, 0)


def _rotate(x: Tensor, mean: Tensor, generator: Generator) -> Tensor:
    """Turn by a whole number of degrees in −45…44 about the centre; outside is the mean of the channel means.

    The released code interpolates with SciPy's cubic spline, this with a cubic convolution.
    """
    angle = torch.randint(-DEGREES, DEGREES, (x.shape[0],), generator=generator) * (math.pi / 180)
    zero = torch.zeros_like(angle)
    rows = torch.stack([angle.cos(), -angle.sin(), zero], 1), torch.stack([angle.sin(), angle.cos(), zero], 1)
    grid = F.affine_grid(torch.stack(rows, 1).to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x - mean.mean(), grid, mode="bicubic", padding_mode="zeros", align_corners=False) + mean.mean()


def _noise(x: Tensor, mean: Tensor, generator: Generator) -> Tensor:
    return x + NOISE * torch.randn(x.shape, generator=generator).to(x)


_OPERATIONS = {"crop": _crop, "scale": _scale, "rotate": _rotate, "noise": _noise}
