"""The statistics of comparison tables: mean, population deviation, confidence interval, paired significance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("the mean of no values is undefined")
    return statistics.fmean(values)


def population_std(values: Sequence[float]) -> float:
    """Return the population standard deviation (ddof 0), as the papers of the field report; 0 for one value.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("the deviation of no values is undefined")
    return statistics.pstdev(values)


def confidence_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return Student's t interval of the mean (sample deviation, ddof 1), or None for fewer than two values.

    It assumes independent runs: repeats on one distilled set say nothing about another distillation seed.

    Raises:
        ValueError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, not be {level}")
    if len(values) < 2:
        return None
    from scipy.stats import t

    centre = mean(values)
    half = float(t.ppf((1 + level) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return centre - half, centre + half


@dataclass(frozen=True)
class McNemar:
    """Exact McNemar test of two classifiers on the same test images.

    Attributes:
        only_first, only_second: images that just one of them got right (the discordant pairs).
        p_value: two-sided, by the binomial distribution.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """Test whether two networks differ in accuracy, from bool [N] of which test images each got right.

    Raises:
        ValueError: different numbers of images.
    """
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"correctness of {list(first.shape)} and {list(second.shape)} images cannot be paired")
    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(~first & second))
    discordant = only_first + only_second
    if not discordant:
        return McNemar(0, 0, 1.0)
    from scipy.stats import binom

    tail = float(binom.cdf(min(only_first, only_second), discordant, 0.5))
    return McNemar(only_first, only_second, min(1.0, 2 * tail))
