"""Greedy k-center."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddbench_plugins.methods.selection import FeatureSelection, as_rows, dot, squared_norms

if TYPE_CHECKING:
    from numpy.typing import NDArray


class KCenter(FeatureSelection):
    """Greedy k-center in the feature space of a trained network, started at the sample nearest to the class mean."""

    @staticmethod
    def order(features: NDArray[np.float32], ipc: int) -> NDArray[np.int64]:
        """Return the indices of ``ipc`` samples in the order greedy k-center takes them.

        First the sample nearest to the mean, then always the one farthest from its nearest centre. Ties go to the
        lowest index.

        Args:
            features: [n, d], n ≥ ipc.
            ipc: how many to take.
        """
        rows = as_rows(features)
        norms = squared_norms(rows)
        chosen = int(np.argmin(norms - 2 * dot(rows, rows.mean(axis=0))))
        order = [chosen]
        nearest = np.full(len(rows), np.inf)  # squared distance to the nearest centre
        for _ in range(ipc - 1):
            nearest = np.minimum(nearest, norms + norms[chosen] - 2 * dot(rows, rows[chosen]))
            nearest[chosen] = -np.inf
            chosen = int(np.argmax(nearest))
            order.append(chosen)
        return np.array(order, np.int64)
