"""Comparisons → grids: methods as rows and settings as columns, one grid per budget; networks, costs, classes apart."""

from __future__ import annotations

import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from ddbench.plugin.manager import NO_NETWORK
from ddbench.results.labels import value_text
from ddbench.tables.board import TIED, Entry, Grid, Heading, Row, Shown, Table, Value
from ddbench.tables.notes import ABSENT, distinct

#: Settings beside each other at most, so that a grid fits the column of a page.
MOST = 6
RUNS = "mean ± population standard deviation in percent over all runs (distilled sets × networks trained on each)"
LEGEND = (
    f"Bold: best of a column; underlined: second; never a single run. {TIED} not distinguishable from the best by"
    " Welch's t test over distilled sets (over networks where a method has one set), Holm's correction over the column,"
    " 5 %."
)


class Footnotes:
    """Letters of notes, in order of appearance."""

    def __init__(self) -> None:
        self.letters: dict[str, str] = {}

    def of(self, text: str) -> str:
        """Return the letter of a note; none of an empty one."""
        return self.letters.setdefault(text, _letters(len(self.letters))) if text else ""

    def texts(self) -> tuple[str, ...]:
        """Return every note behind its letter."""
        return tuple(f"{letter}: {text}." for text, letter in self.letters.items())


def _letters(number: int) -> str:
    return (_letters(number // 26 - 1) if number >= 26 else "") + string.ascii_lowercase[number % 26]


def matrix(table: Table, usual: str) -> list[Grid]:
    """Return methods × protocols, one grid per IPC; methods × IPC where there is one protocol and network alone."""
    main = list(_main(table.rows))
    budgets = {row.ipc for row in main}
    if len({_place(row) for row in main}) == 1 and len(main) <= MOST:
        return [_grid(table, main, usual)]
    return [
        _grid(table, rows[start : start + MOST], usual)
        for ipc in sorted(budgets, key=lambda ipc: (ipc is None, ipc or 0))
        if (rows := [row for row in main if row.ipc == ipc])
        for start in range(0, len(rows), MOST)
    ]


def networks(table: Table, usual: str) -> list[Grid]:
    """Return methods × networks wherever a protocol was used with several networks on one budget."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in table.rows:
        groups[row.ipc, row.name, row.options, row.extension].append(row)
    several = [members for members in groups.values() if len({row.network for row in members}) > 1]
    return [
        _grid(table, members[start : start + MOST], usual, "Cross-architecture: ", least=2)
        for members in several
        for start in range(0, len(members), MOST)
    ]


def costs(table: Table) -> list[Grid]:
    """Return what each method cost at each IPC: seconds per image, memory, bytes of images and of labels."""
    headings = (
        Heading("IPC"),
        Heading("Method"),
        Heading("Distil", "s per image", 2),
        Heading("Peak memory", "GB", 2),
        Heading("Images", "kB"),
        Heading("Labels", "kB"),
        Heading("Evaluate", "s"),
    )
    seen: dict[tuple[Value, ...], None] = {}
    notes = Footnotes()
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell is None or cell.spent is None or column.whole:
                continue
            spent = cell.spent
            peak = None if spent.peak_bytes is None else spent.peak_bytes / 1e9
            what = Shown(column.name, marks=notes.of(cell.note) + cell.signs, method=column.method)
            numbers = (spent.image_bytes / 1e3, spent.label_bytes / 1e3, spent.evaluate_seconds)
            seen.setdefault((row.budget, what, spent.image_seconds, peak, *numbers))
    return [Grid(f"Costs on {table.dataset['name']}", headings, tuple(seen), notes.texts())] if seen else []


def usual_runs(tables: Iterable[Table]) -> str:
    """Return the sets × repeats that most cells have."""
    runs = Counter(
        cell.runs
        for table in tables
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell is not None and not column.whole
    )
    return max(runs, key=lambda text: (runs[text], text), default="")


def lead(usual: str) -> str:
    """Return what holds for all grids of a board."""
    return f"Cells: {RUNS}, {usual or '1×1'} unless a small line says otherwise. {LEGEND}"


def shown(cell: Entry | None, usual: str, notes: Footnotes, *, whole: bool = False) -> Shown | None:
    """Return what there is to see of a cell."""
    if cell is None:
        return None
    marks = TIED * cell.tied + notes.of(cell.note) * (not whole) + cell.signs
    return Shown(cell.text, 100 * cell.mean, cell.rank, marks, "" if cell.runs == usual else cell.runs)


def _main(rows: Sequence[Row]) -> Iterable[Row]:
    """Leave one network per protocol and budget: the one that most methods were measured with."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.ipc, row.name, row.options, "" if row.ipc is None else row.extension].append(row)
    for members in groups.values():
        count = Counter[str]()
        for row in members:
            count[row.network] += sum(cell is not None for cell in row.cells)
        network = max(count, key=lambda name: count[name])  # the first of equals
        yield from (row for row in members if row.network == network)


def _place(row: Row) -> tuple[str, ...]:
    return row.name, row.options, row.network, row.extension


def _grid(table: Table, rows: Sequence[Row], usual: str, kind: str = "", least: int = 1) -> Grid:
    """Return methods × these settings; variants in fewer than ``least`` of them are left out."""
    notes = Footnotes()
    facts = [
        {
            "budget": "Whole set" if row.ipc is None else f"IPC {row.ipc}",
            "protocol": row.name + ", extension" * bool(row.extension),
            "network": "" if row.network == NO_NETWORK else row.network,
        }
        for row in rows
    ]
    common = [name for name in facts[0] if len({fact[name] for fact in facts}) == 1]
    differing = [name for name in facts[0] if name not in common] or ["protocol"]
    headings = [Heading("Method")]
    marks = [notes.of(text) for text in _unseen(rows)]
    headings += [
        Heading("\n".join(fact[name] for name in differing if fact[name]), marks=mark)
        for fact, mark in zip(facts, marks, strict=True)
    ]
    lines = [
        line for members in _methods(table).values() for line in _packed(table, members, rows, usual, notes, least)
    ]
    title = kind + ", ".join(facts[0][name] for name in common if name not in differing and facts[0][name])
    return Grid(title or "Results", tuple(headings), tuple(lines), notes.texts())


def _unseen(rows: Sequence[Row]) -> list[str]:
    """Return what a heading does not show of each setting: options that were set, and what tells it from its like."""
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        alike[row.ipc, *_place(row)].append(place)
    texts = [row.options for row in rows]
    for places in alike.values():
        for place, own in zip(places, distinct([rows[place].settings for place in places]), strict=True):
            told = ", ".join(f"{name}={value_text(value)}" for name, value in own.items() if value != ABSENT)
            texts[place] = ", ".join(filter(None, (texts[place], told)))
    return texts


def _methods(table: Table) -> dict[tuple[str, bool], list[int]]:
    """Return the columns of each method, in order."""
    methods: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for place, column in enumerate(table.columns):
        methods[column.name, column.whole].append(place)
    return methods


def _packed(
    table: Table, places: Sequence[int], rows: Sequence[Row], usual: str, notes: Footnotes, least: int
) -> Iterable[tuple[Value, ...]]:
    """Return as few lines as hold all variants of a method: letters tell them apart, not columns."""
    column = table.columns[places[0]]
    seen = [place for place in places if sum(row.cells[place] is not None for row in rows) >= least]
    variants = [[row.cells[place] for place in seen if row.cells[place] is not None] for row in rows]
    for line in zip_longest(*variants):
        yield (
            Shown(column.name, method=column.method),
            *(shown(cell, usual, notes, whole=column.whole) or "" for cell in line),
        )
