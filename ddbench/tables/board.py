"""What a comparison table is made of: plain data, which the writers turn into Markdown, CSV or a terminal table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ddbench.results.schema import spread_text
from ddbench.tables.stats import LEVEL, interval_of_mean, population_std

#: Accuracies are compared as they are shown: percent with this many decimals.
DECIMALS = 1
#: Unit of differences of accuracies, which are shown with their sign.
POINTS = "points"
#: Mark of entries that a test does not tell from the best of their row.
TIED = "≈"
TIED_TEXT = (
    f"{TIED} not distinguishable from the best of its row: Welch's t test of the means of distilled sets (of networks"
    " where a method has one set only), Holm's correction over the row, 5 %."
)
UNTESTED_TEXT = "Methods with a single run cannot be tested, so the lack of a mark says nothing about them."
#: Mark of gains that hold a test.
SURE = "*"
SURE_TEXT = f"{SURE} p < 0.05 by the same test, Holm's correction over the column."


@dataclass(frozen=True)
class Entry:
    """One method in one row: all runs of all its distilled sets.

    Attributes:
        values: accuracies of the board's metric (fractions), one per trained network.
        sets: number of distilled sets.
        repeats: fewest and most networks trained per set.
        rank: 1 for the best of the row, 2 for the second, else 0; the whole training set is not ranked.
        gain: mean minus the baseline's mean, or None.
        groups: the values by distilled set.
        versus_best: p value of the difference from the best of the row, corrected over the row, or None where there are
            too few runs (and for the best itself).
        ranked: whether it was compared with the others of its row.
        gain_p: p value of the gain, corrected over the rows of its column, or None where there are too few runs.
        accuracy: whether the values are accuracies, which lie in [0, 1].
    """

    values: tuple[float, ...]
    sets: int
    repeats: tuple[int, int]
    rank: int = 0
    gain: float | None = None
    groups: tuple[tuple[float, ...], ...] = ()
    versus_best: float | None = None
    ranked: bool = False
    gain_p: float | None = None
    accuracy: bool = True

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean over both levels, or None for a single run."""
        return interval_of_mean(self.groups, within=(0.0, 1.0) if self.accuracy else None)

    @property
    def tied(self) -> bool:
        """Whether a test does not tell it from the best of its row (:data:`TIED`)."""
        return self.versus_best is not None and self.versus_best >= LEVEL

    @property
    def mean(self) -> float:
        """Mean over all runs (fraction)."""
        return fmean(self.values)

    @property
    def std(self) -> float | None:
        """Population standard deviation over all runs; a single one has none."""
        return population_std(self.values)

    @property
    def percent(self) -> tuple[float, float | None, float | None, float | None]:
        """Mean, deviation and both ends of the interval, times 100."""
        numbers = (self.std, *(self.interval or (None, None)))
        deviation, low, high = (None if number is None else 100 * number for number in numbers)
        return 100 * self.mean, deviation, low, high

    @property
    def runs(self) -> str:
        """Sets × repeats, e.g. ``2×3``."""
        low, high = self.repeats
        return f"{self.sets}×{low}" if low == high else f"{self.sets}×{low}–{high}"

    def to_dict(self) -> dict[str, Any]:
        """Return what was measured as plain data; fractions."""
        counted = {"sets": self.sets, "repeats": self.repeats, "interval": self.interval}
        return {"mean": self.mean, "std": self.std, **counted, "values": self.values}

    @property
    def text(self) -> str:
        """Mean ± deviation in percent; the mean alone of a single run."""
        return spread_text(self.mean, self.std)


@dataclass(frozen=True)
class Claimed:
    """A published number in a row, as printed in its source; never in one table with measured ones.

    Attributes:
        text: mean ± deviation in percent (or points).
        mean, std: as numbers, in percent; the deviation is None where the source gives none.
        rank: 1 for the best of the row, 2 for the second, else 0; the whole training set is not ranked.
        kind, source: whose number it is, and the key of where it was read.
    """

    text: str
    mean: float
    std: float | None
    kind: str
    source: str
    rank: int = 0


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
    cells: tuple[Entry | Claimed | None, ...]

    @property
    def ipc_text(self) -> str:
        """IPC as text."""
        return "full" if self.ipc is None else str(self.ipc)

    @property
    def budget(self) -> str:
        """IPC as text, with the mark of its note."""
        return self.ipc_text + (f" ({self.mark})" if self.mark else "")


@dataclass(frozen=True)
class Table:
    """One comparison: everything in it was measured under one variant of one protocol, or claimed by publications.

    Attributes:
        title: evaluator, preset and options; or the source.
        facts: what holds for the whole table, as (name, text).
        runs: the usual sets × repeats; cells that differ from it say so.
        notes: what a reader must know, one sentence or list each.
        gain_over: the baseline of gains, or "".
        claimed: published numbers, not ddbench's.
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
    claimed: bool = False

    def heads(self) -> list[str]:
        """Return the names of the columns, with those of budget and network."""
        return ["IPC", "Network", *(column.label for column in self.columns)]

    @property
    def has_sure_gain(self) -> bool:
        """Whether a gain has the mark :data:`SURE`."""
        return any(shown(cell, "").gain.endswith(SURE) for row in self.rows for cell in row.cells)

    @property
    def legend(self) -> tuple[str, ...]:
        """What the marks of cells mean, where there are any."""
        entries = [cell for row in self.rows for cell in row.cells if isinstance(cell, Entry) and cell.ranked]
        tested = any(cell.versus_best is not None for cell in entries)
        untested = tested and any(cell.versus_best is None and cell.rank != 1 for cell in entries)
        return (TIED_TEXT,) * any(cell.tied for cell in entries) + (UNTESTED_TEXT,) * untested


@dataclass(frozen=True)
class Heading:
    """A column of a grid: its name, its unit, and with how many decimals numbers are shown."""

    name: str
    unit: str = ""
    decimals: int = DECIMALS


#: Headings of :attr:`Entry.percent` behind that of the mean.
SPREAD = (Heading("±"), Heading("95 % from", "%"), Heading("to", "%"))
#: A cell of a grid: text, a number, or nothing.
Value = str | float | int | None


def in_reading_order(row: Sequence[object]) -> tuple[object, ...]:
    """Return what sorts rows that begin with data set and budget: budgets by size, the whole data set last."""
    dataset, ipc, *others = row
    return dataset, ipc == "full", 0 if ipc == "full" else int(str(ipc)), others


@dataclass(frozen=True)
class Grid:
    """A plain table of one line per fact."""

    title: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()

    def texts(self) -> list[list[str]]:
        """Return the rows as they are shown."""
        return [
            [value_text(value, heading) for value, heading in zip(row, self.headings, strict=True)] for row in self.rows
        ]

    def heads(self) -> list[str]:
        """Return the names of the columns with their units."""
        return [f"{heading.name} ({heading.unit})" if heading.unit else heading.name for heading in self.headings]

    def numeric(self) -> list[bool]:
        """Return which columns hold numbers."""
        return [any(isinstance(row[place], (int, float)) for row in self.rows) for place in range(len(self.headings))]


@dataclass(frozen=True)
class Board:
    """A page of tables and grids."""

    name: str
    title: str
    tables: tuple[Table, ...]
    grids: tuple[Grid, ...] = field(default=())


@dataclass(frozen=True)
class Shown:
    """A cell as every format shows it.

    Attributes:
        text: mean ± deviation, or a dash.
        rank: 1 for bold, 2 for underlined.
        tied: whether :data:`TIED` follows.
        runs: sets × repeats where they are not the usual ones, else "".
        gain: over the baseline, with :data:`SURE` where it holds a test, else "".
    """

    text: str
    rank: int = 0
    tied: bool = False
    runs: str = ""
    gain: str = ""


def shown(cell: Entry | Claimed | None, usual: str) -> Shown:
    """Return what there is to see of a cell; ``usual`` are the table's usual sets × repeats."""
    if cell is None:
        return Shown("–")
    if isinstance(cell, Claimed):
        return Shown(cell.text, cell.rank)
    gain = ""
    if cell.gain is not None:
        sure = SURE if cell.gain_p is not None and cell.gain_p < LEVEL else ""
        gain = f"{100 * cell.gain:+.{DECIMALS}f}{sure}"
    return Shown(cell.text, cell.rank, cell.tied, "" if cell.runs == usual else cell.runs, gain)


def value_text(value: Value, heading: Heading) -> str:
    """Write a grid's cell: numbers with the decimals and sign of their column."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    sign = "+" if heading.unit == POINTS else ""
    return f"{value:{sign}.{heading.decimals}f}" if isinstance(value, float) else f"{value:,}"
