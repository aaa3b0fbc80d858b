"""How hard images are, by the course of a training, and which of them a coreset keeps; nothing here trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray


def forgetting_events(correct: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how often each image was forgotten: right at one presentation, wrong at the next.

    One that was never right counts as forgotten at every presentation (Toneva et al. 2019,
    ``order_examples_by_forgetting.py``).

    Args:
        correct: [presentations, n], in order.
    """
    events: NDArray[np.int64] = (correct[:-1] & ~correct[1:]).sum(axis=0)
    return np.where(correct.any(axis=0), events, len(correct))


def error_norms(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return EL2N [n]: the Euclidean norm of p − y for probabilities [n, K] and labels [n] (Paul et al. 2021)."""
    error = np.array(probabilities, np.float64)
    error[np.arange(len(labels)), labels] -= 1
    norms: NDArray[np.float64] = np.linalg.norm(error, axis=1)
    return norms


def ranked(hardness: NDArray[np.floating], rng: Generator) -> NDArray[np.int64]:
    """Return indices, easiest first; among equals the generator decides."""
    order: NDArray[np.int64] = np.lexsort((rng.permutation(len(hardness)), hardness))
    return order


def shares(counts: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Return how many are taken from each stratum: an even share, or all of one that has fewer (Zheng et al. 2023).

    Strata are served by size, smallest first, and what one cannot give is shared by those that follow.
    """
    taken = np.zeros_like(counts)
    for place, stratum in enumerate(np.argsort(counts, kind="stable")):
        taken[stratum] = min(counts[stratum], (budget - taken.sum()) // (len(counts) - place))
    return taken


def stratified(values: NDArray[np.floating], budget: int, strata: int, rng: Generator) -> NDArray[np.int64]:
    """Return the indices of ``budget`` of n values, drawn from ``strata`` equally wide intervals between the extremes.

    Args:
        values: [n], n ≥ budget.
        budget: how many to take.
        strata: how many intervals.
        rng: draws within each.
    """
    low, high = values.min(), values.max()
    place = (values - low) / (high - low) * strata if high > low else np.zeros(len(values))
    stratum = np.minimum(place.astype(np.int64), strata - 1)
    taken = shares(np.bincount(stratum, minlength=strata), budget)
    drawn = [rng.permutation(np.flatnonzero(stratum == i))[:count] for i, count in enumerate(taken)]
    return np.concatenate(drawn)
