"""The statistics of comparison tables: mean, deviation, intervals over two levels, paired and unpaired significance.

Runs have two levels: distilled sets (one per distillation seed) and networks trained on each (repeats). Networks that
share a distilled set are no independent evidence about the method, so what is compared are the means per set; only
where a method has a single set are its networks compared, which says nothing about another distillation seed.

Quantiles are those of ``scipy.special``: ``scipy.stats`` has the same tests, takes longer to load than all boards to
make, and does not test what has no deviation.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

import numpy as np

#: Runs grouped by distilled set.
Groups = Sequence[Sequence[float]]
LEVEL = 0.05
Name = TypeVar("Name", bound=Hashable)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def population_std(values: Sequence[float]) -> float | None:
    """Return the population standard deviation (ddof 0), as the papers of the field report; None for one value.

    Raises:
        ValueError: no values.
    """
    return math.sqrt(_squares(values) / len(values)) if len(values) != 1 else None


def interval_of_mean(groups: Groups, *, within: tuple[float, float] | None = None) -> tuple[float, float] | None:
    """Return Student's 95 % interval of the mean over distilled sets; over the networks of a single set.

    With the same number of repeats per set it is exact for normal effects of both levels (the mean square between sets
    estimates both). The interval lies around the mean of the sets' means; a single run has none (None).

    Args:
        groups: values by distilled set.
        within: the range that a value can have: few and scattered accuracies would leave [0, 1].
    """
    units = groups[0] if len(groups) == 1 else [fmean(group) for group in groups]
    if len(units) < 2:
        return None
    centre, freedom = fmean(units), len(units) - 1
    half = _t_quantile(1 - LEVEL / 2, freedom) * math.sqrt(_squares(units) / freedom / len(units))
    lowest, highest = within or (-math.inf, math.inf)
    return max(lowest, centre - half), min(highest, centre + half)


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
    from scipy.stats import binomtest

    discordant = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(*discordant, float(binomtest(discordant[0], sum(discordant)).pvalue) if any(discordant) else 1.0)


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

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval, or None where nothing can be said."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def difference(first: Groups, second: Groups) -> Difference:
    """Compare two methods by Welch's t test on the means of their distilled sets.

    Raises:
        ValueError: no values.
    """
    unit, a, b = _units(first, second)
    effect, n = fmean(a) - fmean(b), (len(a), len(b))
    return _tested(effect, unit, n, *(_welch(a, b) if min(n) > 1 else ()))


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
    # Float [units, images]: the share of a set's networks that are right, or each network alone.
    sides = [
        np.stack([block.mean(axis=0) for block in blocks]) if unit == "sets" else np.concatenate(blocks).astype(float)
        for blocks in (list(first), list(second))
    ]
    n = (len(sides[0]), len(sides[1]))
    effect = float(sides[0].mean() - sides[1].mean())
    if min(n) < 2:
        return _tested(effect, unit, n)
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
    _, freedom = _welch(*(side.mean(axis=1).tolist() for side in sides))
    return _tested(effect, unit, n, float(totals.std(ddof=1)), freedom)


def holm(p_values: Mapping[Name, float | None]) -> dict[Name, float]:
    """Return Holm's step-down adjusted p values (1979): all rejections at once hold with the stated error rate.

    What could not be tested (None) is left out and not counted.
    """
    adjusted: dict[Name, float] = {}
    highest = 0.0
    tested = {name: p for name, p in p_values.items() if p is not None}
    for rank, name in enumerate(sorted(tested, key=tested.__getitem__)):
        highest = max(highest, min(1.0, (len(tested) - rank) * tested[name]))
        adjusted[name] = highest
    return adjusted


def detectable(first: Groups, second: Groups) -> float | None:
    """Return the difference that a test of these sizes and deviations would see in four of five trials, or None."""
    _, a, b = _units(first, second)
    if min(len(a), len(b)) < 2:
        return None
    error, freedom = _welch(a, b)
    return (_t_quantile(1 - LEVEL / 2, freedom) + _t_quantile(0.8, freedom)) * error


def _units(first: Groups, second: Groups) -> tuple[str, list[float], list[float]]:
    """Return what is independent: the means of sets, or all networks where one side has a single set."""
    if min(len(first), len(second)) > 1:
        return "sets", [fmean(group) for group in first], [fmean(group) for group in second]
    return "networks", list(chain.from_iterable(first)), list(chain.from_iterable(second))


def _squares(values: Sequence[float]) -> float:
    """Return the sum of squared deviations from the mean (a hundred times faster than the exact one of statistics)."""
    centre = fmean(values)
    return math.fsum((value - centre) ** 2 for value in values)


def _welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return the standard error of a difference of means and Welch's and Satterthwaite's degrees of freedom."""
    freedoms = [len(side) - 1 for side in (first, second)]
    a, b = (_squares(side) / (len(side) - 1) / len(side) for side in (first, second))
    if a + b == 0:
        return 0.0, float(sum(freedoms))
    return math.sqrt(a + b), (a + b) ** 2 / (a**2 / freedoms[0] + b**2 / freedoms[1])


def _tested(
    effect: float, unit: str, n: tuple[int, int], error: float | None = None, freedom: float = 0.0
) -> Difference:
    """Return the interval and the two-sided p value of an effect by Student's t, none where its error is not known."""
    if error is None:
        return Difference(effect, None, None, None, unit, n)
    from scipy.special import stdtr

    half = _t_quantile(1 - LEVEL / 2, freedom) * error
    p = float(effect == 0) if error == 0 else min(1.0, 2 * float(stdtr(freedom, -abs(effect) / error)))
    return Difference(effect, effect - half, effect + half, p, unit, n)


def _t_quantile(probability: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
