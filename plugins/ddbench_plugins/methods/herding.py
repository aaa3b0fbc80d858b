"""Herding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

import ddbench
from ddbench_plugins.methods.selection import (
    FEATURE_PRESETS,
    as_rows,
    dot,
    features_of,
    select_by_features,
    squared_norms,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Herding(ddbench.Distiller):
    """Greedy herding in the feature space of a trained network (Welling 2009; as in IDC's ``coreset.py``)."""

    class Options(ddbench.Options):
        """Options of herding."""

        network: str = Field(
            "convnet-3-bn", description="Network whose features are used; trained on all training images."
        )

    presets = FEATURE_PRESETS
    seeded = False  # the network is trained with a seed of its own, and shared by all runs

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the trained network."""
        return [features_of(ctx, ctx.options.network)]

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Select ``ctx.ipc`` images per class."""
        return select_by_features(ctx, ctx.options.network, herding_order)


def herding_order(features: NDArray[np.float32], ipc: int) -> NDArray[np.int64]:
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
