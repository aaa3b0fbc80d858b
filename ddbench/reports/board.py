"""What a comparison table is made of: plain data, which the writers turn into Markdown, CSV or a terminal table."""

from __future__ import annotations

from dataclasses import dataclass

from ddbench.stats import mean, population_std

#: Accuracies are compared as they are shown: percent with this many decimals.
DECIMALS = 1


@dataclass(frozen=True)
class Entry:
    """One method in one row: all runs of all its distilled sets.

    Attributes:
        values: headline accuracies (fractions), one per trained network.
        sets: number of distilled sets.
        repeats: fewest and most networks trained per set.
        rank: 1 for the best of the row, 2 for the second, else 0; the whole training set is not ranked.
        gain: mean minus the baseline's mean, or None.
    """

    values: tuple[float, ...]
    sets: int
    repeats: tuple[int, int]
    rank: int = 0
    gain: float | None = None

    @property
    def mean(self) -> float:
        """Mean over all runs (fraction)."""
        return mean(self.values)

    @property
    def std(self) -> float:
        """Population standard deviation over all runs."""
        return population_std(self.values)

    @property
    def runs(self) -> str:
        """Sets × repeats, e.g. ``2×3``."""
        low, high = self.repeats
        return f"{self.sets}×{low}" if low == high else f"{self.sets}×{low}–{high}"

    @property
    def text(self) -> str:
        """Mean ± deviation in percent."""
        return f"{100 * self.mean:.{DECIMALS}f} ± {100 * self.std:.{DECIMALS}f}"


@dataclass(frozen=True)
class Column:
    """A method with the options it was used with; ``whole`` for the whole training set."""

    label: str
    method: str
    whole: bool


@dataclass(frozen=True)
class Row:
    """One budget and network under one protocol digest; ``mark`` refers to a note where a budget has several."""

    ipc: int | None
    network: str
    protocol: str
    mark: str
    cells: tuple[Entry | None, ...]

    @property
    def budget(self) -> str:
        """IPC as text, with the mark of its note."""
        return ("full" if self.ipc is None else str(self.ipc)) + (f" ({self.mark})" if self.mark else "")


@dataclass(frozen=True)
class Table:
    """One comparison: everything in it was measured under one variant of one protocol.

    Attributes:
        title: evaluator, preset and options.
        facts: what holds for the whole table, as (name, text).
        runs: the usual sets × repeats; cells that differ from it say so.
        notes: what a reader must know, one sentence or list each.
    """

    dataset: str
    fingerprint: str
    evaluator: str
    preset: str
    title: str
    facts: tuple[tuple[str, str], ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    runs: str
    notes: tuple[str, ...]
    gain_over: str = ""


@dataclass(frozen=True)
class Board:
    """A page of tables."""

    name: str
    title: str
    tables: tuple[Table, ...]
