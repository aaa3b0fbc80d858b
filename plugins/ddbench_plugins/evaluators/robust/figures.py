"""Figures of predictions: calibration error, the worst class, and BEARD's robustness ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al. 2017): |accuracy − confidence| by bins, weighted by their size.

    Args:
        confidence: [n], highest probability of each prediction, in (0, 1].
        correct: [n].
        bins: equally wide, each with its upper edge.
    """
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(place, np.asarray(confidence, np.float64) - correct, bins)
    return float(np.abs(gap).sum() / len(confidence))


def worst_class(correct: NDArray[np.bool_], labels: NDArray[np.int64]) -> float:
    """Return the accuracy of the class with the lowest one; correct and labels are [n]."""
    return min(float(correct[labels == label].mean()) for label in np.unique(labels))


def robustness_ratio(clean: float, attacked: Sequence[float]) -> float:
    """Return RR = 1 − (clean − mean)/(clean − min) over accuracies under attacks (BEARD, ``auto_metrics.py``).

    0 where no attack lowers the accuracy, as there.
    """
    worst = clean - min(attacked)
    return 1 - (clean - sum(attacked) / len(attacked)) / worst if worst else 0.0
