"""Greedy k-center."""

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


class KCenter(ddbench.Distiller):
    """Greedy k-center in the feature space of a trained network, started at the sample nearest to the class mean."""

    class Options(ddbench.Options):
        """Options of k-center."""

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
        return select_by_features(ctx, ctx.options.network, k_center_order)


def k_center_order(features: NDArray[np.float32], ipc: int) -> NDArray[np.int64]:
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
