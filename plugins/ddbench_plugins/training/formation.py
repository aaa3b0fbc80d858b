"""Several training images in one stored image: cutting them out (IDC's multi-formation), and putting them in.

Kim et al. 2022 (IDC condense.py), Sun et al. 2024 (RDED).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

Formation = Literal["single", "multi", "bound"]
Scaling = Literal["nearest", "bilinear"]
PADDING = 0.5  # value of the border where the side is no multiple of the factor


def decode(images: Tensor, labels: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Cut each image into ``factor × factor`` tiles and enlarge each (bilinear) to the full size.

    Args:
        images: [N, C, S, S], uint8 or float in the [0, 1] scale.
        labels: [N], class-major.
        factor: tiles per side; 1 returns the arguments.

    Returns:
        Float images [N·factor², C, S, S] and their labels, class by class: all images' first tiles, then all their
        second ones, … (row by row).
    """
    if factor == 1:
        return images, labels
    classes = [tiles(images[labels == label], factor) for label in labels.unique()]
    counts = labels.unique(return_counts=True)
    return torch.cat(classes), counts[0].repeat_interleave(counts[1] * factor**2)


def decode_class(images: Tensor, factor: int, formation: Formation, bound: int) -> Tensor:
    """Decode the images [n, C, S, S] of one class as IDC does while it matches; differentiable.

    ``single``: factor² images of each; ``multi``: those of every factor from 1 on; ``bound``: the first images with
    the full factor, the next with smaller ones, so that no more than ``bound`` come out (if there are no more stored).
    Of the places that are left when each image has one, an image with factor f takes f², as released, not f² − 1.
    """
    match formation:
        case "single":
            return tiles(images, factor)
        case "multi":
            return torch.cat([tiles(images, side) for side in range(1, factor + 1)])
    parts, made = [], 0
    for side in range(factor, 0, -1):
        left = len(images)  # each of which needs a place
        count = left if side == 1 else min(left, max(0, bound - made - left) // side**2)
        parts.append(tiles(images[:count], side))
        made += count * side**2
        images = images[count:]
    return torch.cat(parts)


def tiles(images: Tensor, factor: int) -> Tensor:
    """Return the factor² tiles of each image, enlarged: float [n·factor², C, S, S], all first tiles first."""
    x = images.float().div(255) if images.dtype == torch.uint8 else images
    if factor == 1 or len(x) == 0:
        return x
    size = x.shape[-1]
    missing = -size % factor
    x = F.pad(x, (0, missing, 0, missing), value=PADDING)
    side = (size + missing) // factor
    cut = [
        x[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(factor)
        for column in range(factor)
    ]
    return F.interpolate(torch.cat(cut), size=(size, size), mode="bilinear", align_corners=False)


def stitch(crops: Tensor, factor: int, size: int, mode: Scaling = "nearest") -> Tensor:
    """Lay factor² · n images into n images [n, C, size, size], scaled down to their cells.

    The cell k (row by row) of image i holds crop k·n + i, so the first cells hold the first crops (RDED: the most
    realistic ones). Where ``size`` is no multiple of ``factor``, the first cells are one pixel larger.
    """
    count = len(crops) // factor**2
    sides = [size // factor + (cell < size % factor) for cell in range(factor)]
    cells = crops.view(factor, factor, count, *crops.shape[1:])
    rows = [
        torch.cat(
            [
                F.interpolate(cells[row, column], size=(sides[row], sides[column]), mode=mode)
                for column in range(factor)
            ],
            dim=3,
        )
        for row in range(factor)
    ]
    return torch.cat(rows, dim=2)
