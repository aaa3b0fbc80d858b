"""What boards are made of: comparisons as data, and the grids that every writer shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ddbench.results.schema import spread_text
from ddbench.tables.stats import LEVEL, interval_of_mean, population_std

#: Accuracies are compared as they are shown: percent with this many decimals.
DECIMALS = 1
#: Unit of differences of accuracies, which are shown with their sign.
POINTS = "points"
#: Mark of entries that a test does not tell from the best of their setting.
TIED = "≈"


@dataclass(frozen=True)
class Spent:
    """What a cell cost, as means over its records; None where it is not known.

    Attributes:
        distill_seconds, image_seconds: to distil a set, and that per image of it.
        evaluate_seconds: to evaluate all networks of a set.
        peak_bytes: most memory in use.
        image_bytes, label_bytes: what a set takes on disk.
    """

    distill_seconds: float | None
    image_seconds: float | None
    evaluate_seconds: float
    peak_bytes: float | None
    image_bytes: float
    label_bytes: float


@dataclass(frozen=True)
class Entry:
    """One variant of a method in one setting: all runs of all its distilled sets.

    Attributes:
        groups: accuracies of the board's metric (fractions) by distilled set, one per trained network.
        accuracy: whether the values are accuracies, which lie in [0, 1].
        rank: 1 for the best of the setting, 2 for the second, else 0; neither single runs nor the whole set are ranked.
        versus_best: p value of the difference from the best of the setting, corrected over the setting, or None where
            there are too few runs (and for the best itself).
        gain: mean minus the baseline's mean, or None.
        gain_p: p value of the gain, corrected over the setting, or None where there are too few runs.
        note: options that were set and what was scaled down, in words.
        signs: marks that boards.toml declares for it.
        spent: what it cost.
    """

    groups: tuple[tuple[float, ...], ...]
    accuracy: bool = True
    rank: int = 0
    versus_best: float | None = None
    gain: float | None = None
    gain_p: float | None = None
    note: str = ""
    signs: str = ""
    spent: Spent | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """All values, one per trained network."""
        return tuple(value for group in self.groups for value in group)

    @property
    def sets(self) -> int:
        """Number of distilled sets."""
        return len(self.groups)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean over both levels, or None for a single run."""
        return interval_of_mean(self.groups, within=(0.0, 1.0) if self.accuracy else None)

    @property
    def tied(self) -> bool:
        """Whether a test does not tell it from the best of its setting (:data:`TIED`)."""
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
    def repeats(self) -> tuple[int, int]:
        """Fewest and most networks trained per set."""
        sizes = list(map(len, self.groups))
        return min(sizes), max(sizes)

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
class Column:
    """A method with the options it was used with; ``whole`` for the whole training set, ``name`` as it is called."""

    label: str
    method: str
    whole: bool
    name: str = ""


@dataclass(frozen=True)
class Row:
    """One setting, in which methods compete: budget, network and protocol digest.

    Attributes:
        ipc: images per class; None for the whole training set alone.
        protocol: its digest.
        name, options: of the protocol, with what was set for it, in words.
        settings: of the protocol, as data.
        extension: why it is none of its paper, or "".
        labels, selection: hard or soft; which epoch counts.
        cells: one per column.
    """

    ipc: int | None
    network: str
    protocol: str
    name: str
    options: str
    settings: Mapping[str, Any]
    extension: str
    labels: str
    selection: str
    cells: tuple[Entry | None, ...]

    @property
    def budget(self) -> str:
        """IPC as text."""
        return "full" if self.ipc is None else str(self.ipc)


@dataclass(frozen=True)
class Table:
    """All results on one data set as data; only those of one row are compared.

    Attributes:
        dataset: its facts.
        metric: what was measured.
        columns: methods with their options.
        rows: settings.
        figures: acceptance figures by column label.
        notes: what a reader must know, one sentence each.
    """

    dataset: Mapping[str, Any]
    metric: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    figures: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Heading:
    """A column of a grid: its name, its unit, the decimals of its numbers, and the letters of its notes."""

    name: str
    unit: str = ""
    decimals: int = DECIMALS
    marks: str = ""

    @property
    def text(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Shown:
    """A cell with marks.

    Attributes:
        text: what it says.
        number: what it is sorted by.
        rank: 1 for bold, 2 for underlined.
        marks: raised behind the text: :data:`TIED`, letters of notes, signs.
        below: a small second line.
        method: the method that it names, so that a paper can cite it.
    """

    text: str
    number: float | None = None
    rank: int = 0
    marks: str = ""
    below: str = ""
    method: str = ""


#: A cell of a grid: text, a number, a cell with marks, or nothing.
Value = str | float | int | Shown | None


@dataclass(frozen=True)
class Grid:
    """A table as it is shown, with what is said about it.

    Attributes:
        title: its heading.
        headings, rows: none where there are only notes.
        lead: a sentence above the table.
        notes: sentences below it.
        folded: whether a page shows its title alone until a reader opens it.
    """

    title: str
    headings: tuple[Heading, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()
    notes: tuple[str, ...] = ()
    lead: str = ""
    folded: bool = False

    def cells(self) -> list[list[Shown]]:
        """Return every cell as it is shown."""
        return [[_cell(value, heading) for value, heading in zip(row, self.headings, strict=True)] for row in self.rows]

    def texts(self) -> list[list[str]]:
        """Return the rows as text without marks."""
        return [[cell.text for cell in row] for row in self.cells()]

    def heads(self) -> list[str]:
        """Return the names of the columns with their units, each in one line."""
        return [heading.text.replace("\n", " ") for heading in self.headings]

    def numeric(self) -> list[bool]:
        """Return which columns hold numbers."""
        return [any(cell.number is not None for cell in column) for column in zip(*self.cells(), strict=True)] or [
            False
        ] * len(self.headings)


@dataclass(frozen=True)
class Board:
    """A page.

    Attributes:
        lead: what holds for all of it, in a sentence or two.
        tables: its results as data.
        grids: what it shows.
        front: whether it stands on the page that lists the others, not on one of its own.
    """

    name: str
    title: str
    tables: tuple[Table, ...] = ()
    grids: tuple[Grid, ...] = ()
    lead: str = ""
    front: bool = False


def in_reading_order(row: Sequence[object]) -> tuple[object, ...]:
    """Return what sorts rows that begin with data set and budget: budgets by size, the whole data set last."""
    dataset, ipc, *others = row
    return dataset, ipc == "full", 0 if ipc == "full" else int(str(ipc)), others


def _cell(value: Value, heading: Heading) -> Shown:
    """Show a value: numbers with the decimals and sign of their column."""
    if isinstance(value, Shown):
        return value
    if value is None or isinstance(value, str):
        return Shown("–" if value is None else value)
    sign = "+" if heading.unit == POINTS else ""
    return Shown(f"{value:{sign}.{heading.decimals}f}" if isinstance(value, float) else f"{value:,}", value)
