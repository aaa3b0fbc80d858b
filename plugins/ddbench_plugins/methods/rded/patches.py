"""Crops: drawing them, ranking them by a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from ddbench_plugins.training.augment import random_resized_crop
from ddbench_plugins.training.predict import as_float

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

SCALE = (0.08, 1.0)


class Ranked(NamedTuple):
    """The best crop of each image, ascending by loss."""

    crops: Tensor
    """[n, C, side, side], float in [0, 1]."""
    losses: Tensor
    """[n]."""


def best_crops(
    images: Tensor,
    losses: Callable[[Tensor], Tensor],
    *,
    crops: int,
    side: int,
    fill: Sequence[float],
    size: int,
    generator: Generator,
) -> Ranked:
    """Draw ``crops`` square crops of each image, keep the one with the lowest loss, and sort the images by it.

    Args:
        images: uint8 [n, C, S, S] of one class.
        losses: gets float images [m, C, size, size] in [0, 1], returns the teacher's cross-entropy [m].
        crops: how many per image; area 8 to 100 %, scaled to ``side``.
        side: of the crops.
        fill: colour in [0, 1] of the border that centres a crop in a ``size`` × ``size`` image for the teacher; zero
            after normalisation.
        size: of the teacher's inputs.
        generator: of the boxes.
    """
    pixels = as_float(images)
    kept, best = pixels.new_empty(len(pixels), pixels.shape[1], side, side), torch.full((len(pixels),), torch.inf)
    for _ in range(crops):
        drawn = random_resized_crop(pixels, generator, side, scale=SCALE, ratio=(1.0, 1.0)).clamp(0, 1)
        loss = losses(centred(drawn, size, fill))
        better = loss < best
        kept[better], best[better] = drawn[better], loss[better]
    order = best.argsort(stable=True)
    return Ranked(kept[order], best[order])


def centred(crops: Tensor, size: int, fill: Sequence[float]) -> Tensor:
    """Put crops [n, C, side, side] into the middle of images of ``size`` pixels filled with one colour."""
    missing = size - crops.shape[-1]
    if not missing:
        return crops
    before = missing // 2
    colour = crops.new_tensor(list(fill))[None, :, None, None]
    return F.pad(crops - colour, (before, missing - before) * 2) + colour
