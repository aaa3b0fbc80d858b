"""Learning-rate schedules: pure functions from the 0-based epoch to a factor of the initial learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[float], float]


def constant() -> Schedule:
    """Factor 1 always."""
    return lambda epoch: 1.0


def dc_step(epochs: int) -> Schedule:
    """DatasetCondensation: factor 1 up to and including epoch ⌊E/2⌋+1, then 0.1 (it runs E+1 epochs)."""
    last_high = epochs // 2 + 1
    return lambda epoch: 1.0 if epoch <= last_high else 0.1


def dc_restart_epoch(epochs: int) -> int:
    """First epoch of the low learning rate, where DatasetCondensation makes a new optimiser (momentum is lost)."""
    return epochs // 2 + 2


def multi_step(milestones: Sequence[int], gamma: float) -> Schedule:
    """Multiply by ``gamma`` from each milestone on."""
    ordered = sorted(milestones)
    return lambda epoch: gamma ** sum(milestone <= epoch for milestone in ordered)


def idc_multi_step(epochs: int) -> Schedule:
    """IDC and MinimaxDiffusion: ×0.2 at ⌊2E/3⌋ and at ⌊5E/6⌋."""
    return multi_step([2 * epochs // 3, 5 * epochs // 6], 0.2)


def half_cosine(epochs: int) -> Schedule:
    """RDED's default "cos": ½(1+cos(π·e/2E)); it ends near one half, not zero."""
    return lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / (2 * epochs)))


def half_cosine_drop(epochs: int) -> Schedule:
    """EDC's "cos2": half cosine up to 5/6 of the run, then its value there times 1 − e/E (a drop to a sixth, to 0)."""
    half, turn = half_cosine(epochs), 5 * epochs / 6
    return lambda epoch: half(epoch) if epoch <= turn else half(turn) * (1 - epoch / epochs)


def three_halves(epochs: int) -> Schedule:
    """EDC's steps: ×0.5 at 800, 900 and 950 of 1000 epochs, and at these shares of others."""
    return multi_step([epochs * share // 100 for share in (80, 90, 95)], 0.5)


def cosine(epochs: int) -> Schedule:
    """Full cosine annealing to zero: ½(1+cos(π·e/E))."""
    return lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def linear(epochs: int) -> Schedule:
    """1 − e/E."""
    return lambda epoch: 1 - epoch / epochs


def half_linear(epochs: int) -> Schedule:
    """1 − e/2E: what EDC's code makes of the cosine that it is asked for on ImageNet-1K."""
    return lambda epoch: 1 - epoch / (2 * epochs)


def step(step_size: int, gamma: float = 0.1) -> Schedule:
    """Multiply by ``gamma`` every ``step_size`` epochs (DD-Ranking "step")."""
    return lambda epoch: gamma ** (int(epoch) // step_size)


def warmup_cosine(epochs: float, warmup: float = 5, start: float = 0.01, end: float = 0.0) -> Schedule:
    """Linear from ``start`` to 1 during ``warmup`` epochs, then cosine to ``end`` (SRe2L's Tiny-ImageNet code: 0)."""

    def factor(epoch: float) -> float:
        if epoch < warmup:
            return start + (1 - start) * epoch / warmup
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))

    return factor


def one_cycle(epochs: int, peak: float = 0.25, start: float = 0.1) -> Schedule:
    """Rise linearly from ``start`` to 1 during the first ``peak`` share of the run, then fall linearly to 0.

    Meant to be evaluated at fractional epochs (per step).
    """
    top = peak * epochs

    def factor(epoch: float) -> float:
        if epoch < top:
            return start + (1 - start) * epoch / top
        return max(0.0, (epochs - epoch) / (epochs - top))

    return factor


#: Of the whole run, by the names of options.
SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "cosine": cosine,
    "half_cosine": half_cosine,
    "half_cosine_drop": half_cosine_drop,
    "three_halves": three_halves,
    "linear": linear,
    "half_linear": half_linear,
    "warmup_cosine": warmup_cosine,
}
