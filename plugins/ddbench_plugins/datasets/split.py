"""Train/test splits that are the same on every machine and in every version."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddbench import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stratified(
    labels: NDArray[np.int64], ids: Sequence[str], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the training and the test images, each in their old order.

    ``⌈fraction·N⌉`` images become test images, spread over the classes by largest remainder, at least one per class.
    Within a class the images with the smallest ``sha256("seed:id")`` are taken, so the choice needs no random generator
    whose stream may change between versions.

    Args:
        labels: int64 [N].
        ids: a stable id per image.
        fraction: of test images.
        seed: another one gives another split.

    Raises:
        DataError: a class has fewer than two images.
    """
    counts = np.bincount(labels)
    if len(counts) and counts.min() < 2:
        raise DataError(
            f"Class number {int(counts.argmin())} has {int(counts.min())} image(s); a split needs two of every class.",
            hint="Add images to that class or remove it, or give train and test folders.",
        )
    exact = counts * fraction
    quota = np.maximum(np.floor(exact).astype(int), 1)
    spare = math.ceil(round(len(labels) * fraction, 9)) - int(quota.sum())
    for label in np.argsort(quota - exact, kind="stable")[: max(spare, 0)]:
        quota[label] += 1
    quota = np.minimum(quota, counts - 1)
    is_test = np.zeros(len(labels), bool)
    for label, take in enumerate(quota):
        members = np.flatnonzero(labels == label)
        ranked = sorted(members.tolist(), key=lambda i: hashlib.sha256(f"{seed}:{ids[i]}".encode()).digest())
        is_test[ranked[:take]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)
