"""Multi-formation: one stored image holds several training images (IDC, Kim et al. 2022, misc/… decode)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

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
    found = [_tiles(images[labels == label], factor) for label in labels.unique()]
    counts = labels.unique(return_counts=True)
    return torch.cat(found), counts[0].repeat_interleave(counts[1] * factor**2)


def _tiles(images: Tensor, factor: int) -> Tensor:
    x = images.float().div(255) if images.dtype == torch.uint8 else images
    size = x.shape[-1]
    missing = -size % factor
    x = F.pad(x, (0, missing, 0, missing), value=PADDING)
    side = (size + missing) // factor
    tiles = [
        x[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(factor)
        for column in range(factor)
    ]
    return F.interpolate(torch.cat(tiles), size=(size, size), mode="bilinear", align_corners=False)
