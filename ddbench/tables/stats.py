"""The statistics of comparison tables: mean, deviation, intervals over two levels, paired and unpaired significance.

Runs have two levels: distilled sets (one per distillation seed) and networks trained on each (repeats). Networks that
share a distilled set are no independent evidence about the method, so what is compared are the means per set; only
where a method has a single set are its networks compared, which says nothing about another distillation seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

#: Runs grouped by distilled set.
Groups = Sequence[Sequence[float]]
LEVEL = 0.05

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


def population_std(values: Sequence[float]) -> float | None:
    """Return the population standard deviation (ddof 0), as the papers of the field report; None for one value.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("the deviation of no values is undefined")
    if len(values) == 1:
        return None
    return math.sqrt(_squares(values) / len(values))


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
    centre = mean(values)
    half = _t_quantile((1 + level) / 2, len(values) - 1) * math.sqrt(_variance(values) / len(values))
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


@dataclass(frozen=True)
class Difference:
    """How two methods differ in mean.

    Attributes:
        effect: first minus second.
        low, high: its 95 % interval, or None where nothing can be said.
        p_value: two-sided, or None likewise.
        unit: what was compared: ``sets`` (distilled sets) or ``networks`` (of one distilled set each).
        n: how many of them on either side.
    """

    effect: float
    low: float | None
    high: float | None
    p_value: float | None
    unit: str
    n: tuple[int, int]


def two_level_interval(
    groups: Groups, level: float = 1 - LEVEL, *, within: tuple[float, float] | None = None
) -> tuple[float, float] | None:
    """Return the t interval of the mean over distilled sets; over the networks of a single set; None for one run.

    ``within`` cuts it to the range that a value can have: few and scattered accuracies would leave [0, 1].

    With the same number of repeats per set it is exact for normal effects of both levels (the mean square between sets
    estimates both). The interval lies around the mean of the sets' means.
    """
    interval = confidence_interval(_units(groups)[1], level)
    if interval is None or within is None:
        return interval
    return max(within[0], interval[0]), min(within[1], interval[1])


def difference(first: Groups, second: Groups) -> Difference:
    """Compare two methods by Welch's t test on the means of their distilled sets.

    Raises:
        ValueError: no values.
    """
    one, two = _units(first), _units(second)
    if "networks" in (one[0], two[0]) and one[0] != two[0]:
        # One side has a single set: only networks can be compared, all of them.
        one, two = _networks(first), _networks(second)
    unit, (a, b) = one[0], (one[1], two[1])
    effect, n = mean(a) - mean(b), (len(a), len(b))
    if min(n) < 2:
        return Difference(effect, None, None, None, unit, n)
    error, freedom = _welch(_variance(a), n[0], _variance(b), n[1])
    half = _t_quantile(1 - LEVEL / 2, freedom) * error
    return Difference(effect, effect - half, effect + half, _t_test(effect, error, freedom), unit, n)


def bootstrap(
    first: Sequence[NDArray[np.bool_]], second: Sequence[NDArray[np.bool_]], *, draws: int = 2000, seed: int = 0
) -> Difference:
    """Compare two methods over distilled sets *and* test images, from which images their networks got right.

    Images are drawn jointly for both methods (they are paired), sets independently; networks of a set stay together,
    because the means of sets vary by them already. A bootstrap of few sets is too narrow, so that deviations between
    sets are widened by sqrt(n / (n - 1)) and the interval uses Student's quantile with Welch's degrees of freedom
    (Davison and Hinkley 1997, section 3.8). It is on the cautious side: what networks get right by chance counts among
    sets and among images.

    Args:
        first, second: one bool [networks, images] per distilled set, over the same images.
        draws: of sets and images.
        seed: of the draws.

    Raises:
        ValueError: no sets, or different numbers of images.
    """
    images = {block.shape[-1] for block in (*first, *second)}
    if len(images) != 1 or not (first and second):
        raise ValueError("a paired bootstrap needs sets on both sides and the same test images")
    generator = np.random.default_rng(seed)
    unit = "sets" if min(len(first), len(second)) > 1 else "networks"
    sides = [_per_image(blocks, unit) for blocks in (first, second)]
    n = (len(sides[0]), len(sides[1]))
    effect = float(sides[0].mean() - sides[1].mean())
    if min(n) < 2:
        return Difference(effect, None, None, None, unit, n)
    count = images.pop()
    chosen = [np.empty((draws, len(side))) for side in sides]  # the accuracy of each set on the images of each draw
    for draw in range(draws):
        weights = np.bincount(generator.integers(count, size=count), minlength=count) / count
        for side, kept in zip(sides, chosen, strict=True):
            kept[draw] = side @ weights
    totals = np.zeros(draws)
    for sign, kept in zip((1, -1), chosen, strict=True):
        size = kept.shape[1]
        centre = kept.mean(axis=1)
        picks = generator.integers(size, size=kept.shape)
        deviations = np.take_along_axis(kept - centre[:, None], picks, axis=1).mean(axis=1)
        totals += sign * (centre + math.sqrt(size / (size - 1)) * deviations)
    variances = [side.mean(axis=1).var(ddof=1) for side in sides]
    _, freedom = _welch(float(variances[0]), n[0], float(variances[1]), n[1])
    error = float(totals.std(ddof=1))
    half = _t_quantile(1 - LEVEL / 2, freedom) * error
    return Difference(effect, effect - half, effect + half, _t_test(effect, error, freedom), unit, n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p values (1979): all rejections at once hold with the stated error rate."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def detectable(first: Groups, second: Groups) -> float | None:
    """Return the difference that a test of these sizes and deviations would see in four of five trials, or None."""
    unit_one, unit_two = _units(first), _units(second)
    if unit_one[0] != unit_two[0]:
        unit_one, unit_two = _networks(first), _networks(second)
    a, b = unit_one[1], unit_two[1]
    if min(len(a), len(b)) < 2:
        return None
    error, freedom = _welch(_variance(a), len(a), _variance(b), len(b))
    return (_t_quantile(1 - LEVEL / 2, freedom) + _t_quantile(0.8, freedom)) * error


def _units(groups: Groups) -> tuple[str, list[float]]:
    """Return what is independent: the means of sets, or the networks of a single set."""
    if len(groups) == 1:
        return "networks", list(groups[0])
    return "sets", [mean(group) for group in groups]


def _networks(groups: Groups) -> tuple[str, list[float]]:
    return "networks", [value for group in groups for value in group]


def _per_image(blocks: Sequence[NDArray[np.bool_]], unit: str) -> NDArray[np.float64]:
    """Return float [units, images]: the share of a set's networks that are right, or each network alone."""
    if unit == "sets":
        return np.stack([block.mean(axis=0) for block in blocks])
    return np.concatenate(list(blocks)).astype(np.float64)


def _squares(values: Sequence[float]) -> float:
    """Return the sum of squared deviations from the mean (a hundred times faster than the exact one of statistics)."""
    centre = statistics.fmean(values)
    return math.fsum((value - centre) ** 2 for value in values)


def _variance(values: Sequence[float]) -> float:
    return _squares(values) / (len(values) - 1)


def _welch(variance_a: float, count_a: int, variance_b: float, count_b: int) -> tuple[float, float]:
    """Return the standard error of a difference of means and Welch's and Satterthwaite's degrees of freedom."""
    a, b = variance_a / count_a, variance_b / count_b
    if a + b == 0:
        return 0.0, float(count_a + count_b - 2)
    freedom = (a + b) ** 2 / (a**2 / (count_a - 1) + b**2 / (count_b - 1))
    return math.sqrt(a + b), freedom


def _t_quantile(probability: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def _t_test(effect: float, error: float, freedom: float) -> float:
    if error == 0:
        return 1.0 if effect == 0 else 0.0
    from scipy.special import stdtr

    return min(1.0, 2 * float(stdtr(freedom, -abs(effect) / error)))
