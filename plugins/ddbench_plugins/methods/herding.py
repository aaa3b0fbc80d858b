"""Herding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddbench_plugins.methods.selection import FeatureSelection, as_rows, dot, squared_norms

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Herding(FeatureSelection):
    """Greedy herding in the feature space of a trained network (Welling 2009; as in IDC's ``coreset.py``)."""

    @staticmethod
    def order(features: NDArray[np.float32], ipc: int) -> NDArray[np.int64]:
        """Return the indices of ``ipc`` samples in the order herding takes them.

        In step k (from 0) the sample not yet taken that minimises ``‖(k+1)·μ − s − f_i‖`` is taken, where μ is the mean
        feature and s the sum of the features taken so far. Ties go to the lowest index. Features are not normalised.

        Args:
            features: [n, d], n ≥ ipc.
            ipc: how many to take.
        """
        rows = as_rows(features)
        norms, mean = squared_norms(rows), rows.mean(axis=0)
        total = np.zeros_like(mean)
        free = np.ones(len(rows), bool)
        order = []
        for k in range(ipc):
            target = (k + 1) * mean - total
            # ‖target − f‖² without ‖target‖², which is the same for all.
            distance = np.where(free, norms - 2 * dot(rows, target), np.inf)
            best = int(np.argmin(distance))
            order.append(best)
            free[best] = False
            total += rows[best]
        return np.array(order, np.int64)
