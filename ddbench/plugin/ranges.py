"""Whether pixels can be what their space says they are: the wrong reading gives chance accuracy without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.plugin.datasets import Dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Optimised pixels may leave [0, 1]: those of DM on digits do by 0.11 on average. Standardised pixels taken for ones in
#: [0, 1] do by 0.5, which is worth a warning; further out than this, and never below zero, are only values of another
#: scale, as 0…255 is. Optimised pixels that went astray, which are both, may be far further out.
DOUBTFUL, IMPOSSIBLE, ASTRAY = 0.2, 2.0, 20.0


def misfit(images: NDArray[Any], space: str, dataset: Dataset) -> str:
    """Return why images cannot be pixels of a space, or an empty string."""
    if not images.size or space == "zca":
        return ""
    low, high = images.min(), images.max()
    if space == "rgb_uint8":
        # Binary images are such pixels only where the data set's own are.
        if high == 1 and max(dataset.mean) > 2 / 255:
            return "whole numbers of only 0 and 1, where pixels from 0 to 255 are meant"
        return ""
    if _outside(images, space, dataset) > (IMPOSSIBLE if low >= 0 else ASTRAY):
        meant = "standardised pixels" if space == "normalized" else "pixels in [0, 1]"
        return f"values from {low:.4g} to {high:.4g}, far from {meant} (space {space})"
    return ""


def doubt(images: NDArray[Any], space: str, dataset: Dataset) -> str:
    """Return what looks odd about images in a space, though they may be meant so, or an empty string."""
    if not images.size or space not in ("unit", "normalized"):
        return ""
    low, high = images.min(), images.max()
    black = min(-mean / std for mean, std in zip(dataset.mean, dataset.std, strict=True))
    if space == "normalized" and low >= 0 and high <= 1 and high - low > 0.5 and black < -0.1:
        return f"all values lie in [0, 1], which is unusual in space {space}: are they of space unit?"
    if (outside := _outside(images, space, dataset)) > DOUBTFUL:
        what = "once turned back, they" if space == "normalized" else "they"
        return (
            f"the values run from {low:.3g} to {high:.3g} in space {space}: {what} leave [0, 1] by {outside:.2f} on"
            " average; see that they were normalised as often as the space says"
        )
    return ""


def _outside(images: NDArray[Any], space: str, dataset: Dataset) -> float:
    """Return how far pixels lie outside [0, 1] on average."""
    total = 0.0
    for start in range(0, len(images), 256):
        pixels = images[start : start + 256].astype(np.float64)
        if space == "normalized":
            pixels = pixels * np.asarray(dataset.std) + np.asarray(dataset.mean)
        total += float(np.maximum(np.maximum(-pixels, pixels - 1), 0).sum())
    return total / images.size
