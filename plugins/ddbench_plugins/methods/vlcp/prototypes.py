"""Image prototypes: centres of a class's latents after its outliers are removed (Zou et al. 2025, suppl. §4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ddbench import UsageError
from ddbench_plugins.diffusion.clustering import compact, is_wide

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Clusters:
    """The clusters of one class.

    Attributes:
        centres: float32 [ipc, *latent shape].
        members: cluster of each inlier, int64 [n].
        distances: of each inlier to its centre, float32 [n].
    """

    centres: NDArray[np.float32]
    members: NDArray[np.int64]
    distances: NDArray[np.float32]


def inliers(latents: NDArray[np.float32], contamination: float, neighbours: int = 10) -> NDArray[np.int64]:
    """Return the positions, in order, of the latents [n, ...] that Local Outlier Factor keeps.

    Args:
        latents: of one class, or their :func:`~ddbench_plugins.diffusion.clustering.compact` form.
        contamination: share of outliers, up to 0.5; 0 keeps everything.
        neighbours: size of the neighbourhood.
    """
    if not contamination or len(latents) < 3:
        return np.arange(len(latents))
    from sklearn.neighbors import LocalOutlierFactor

    finder = LocalOutlierFactor(n_neighbors=min(neighbours, len(latents) - 1), contamination=contamination)
    return np.flatnonzero(finder.fit_predict(compact(latents)) > 0)


def cluster(
    latents: NDArray[np.float32], ipc: int, seed: int, class_name: str, points: NDArray[np.floating] | None = None
) -> Clusters:
    """Cluster the latents [n, ...] of one class by k-means (Lloyd, 10 initialisations).

    Args:
        latents: of one class.
        ipc: number of clusters.
        seed: of the initialisations.
        class_name: for errors.
        points: their compact form, where the caller has it already.

    Raises:
        UsageError: fewer (distinct) latents than ``ipc``.
    """
    if len(latents) < ipc:
        raise UsageError(
            f"Class {class_name!r} has {len(latents)} images left for {ipc} clusters.",
            hint="Choose a smaller IPC, or a smaller method.contamination.",
        )
    from sklearn.cluster import KMeans

    flat = latents.reshape(len(latents), -1).astype(np.float32, copy=False)
    if ipc == len(flat):
        # Every image is its own cluster; k-means would find the same in ten slow ways.
        return Clusters(latents.astype(np.float32), np.arange(ipc), np.zeros(ipc, np.float32))
    wide = is_wide(latents)
    where = (compact(latents) if points is None else points).astype(np.float32) if wide else flat
    fitted = KMeans(n_clusters=ipc, n_init=10, random_state=seed).fit(where)
    members = fitted.labels_.astype(np.int64)
    if len(np.unique(members)) < ipc:
        raise UsageError(f"Class {class_name!r} has fewer than {ipc} different images.", hint="Choose a smaller IPC.")
    # The centres of compact points are no latents; the means of their members are.
    means = [flat[members == number].mean(0, dtype=np.float64) for number in range(ipc)] if wide else []
    centres = (np.stack(means) if wide else fitted.cluster_centers_).astype(np.float32)
    distances = np.linalg.norm(flat - centres[members], axis=1).astype(np.float32)
    return Clusters(centres.reshape(ipc, *latents.shape[1:]), members, distances)
