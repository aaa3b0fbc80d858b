"""What a method saw of one class before it chose its prototypes: the data of `ddbench tsne`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Embedding:
    """Latents or features of one class with the prototypes found in them.

    Attributes:
        kind: what the points are, for the title: ``latents``, ``features``, ``pixels``.
        points: float [n, ...], one per training image of the class.
        inliers: bool [n], which of them were clustered.
        clusters: int [n], the cluster of each inlier; −1 for outliers.
        centres: float [k, ...], the prototypes.
        before: clusters int [n] and centres [k, ...] without outlier removal, for comparison, or None.
    """

    kind: str
    points: NDArray[Any]
    inliers: NDArray[np.bool_]
    clusters: NDArray[np.int64]
    centres: NDArray[Any]
    before: tuple[NDArray[np.int64], NDArray[Any]] | None = None
