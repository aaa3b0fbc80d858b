"""The families style: a table per data set and family of methods, one line per method, evaluator and network."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ddbench.tables import notes
from ddbench.tables.board import Column, Entry, Grid, Heading, Row, Shown, Table, Value
from ddbench.tables.views import RUNS, Footnotes, shown

#: Methods that no family names.
OTHERS = "others"
LEGEND = (
    "Bold is the best, underlined the second, and ≈ not distinguishable from the best, among the methods of all"
    " families with the same evaluator, settings, network and IPC; never a single run. Numbers of two evaluators are"
    " not comparable."
)


def lead(usual: str) -> str:
    """Return what holds for all grids of a board."""
    return f"Cells: {RUNS}, {usual or '1×1'} unless a small line says otherwise. {LEGEND}"


def grids(
    tables: Iterable[Table], families: Mapping[str, Sequence[str]], usual: str, names: Mapping[str, str]
) -> list[Grid]:
    """Return methods × IPC of every data set and family, by evaluator; the whole training set belongs to none.

    Args:
        tables: one per data set.
        families: methods by the name of their family, in the order of the tables.
        usual: sets × repeats that need no small line.
        names: what data sets are called.
    """
    named = {method for methods in families.values() for method in methods}
    made = []
    for table in tables:
        others = sorted({column.method for column in table.columns} - named)
        name = str(table.dataset["name"])
        parts = [_grid(table, methods, usual) for methods in (*families.values(), others)]
        titles = [f"{names.get(name, name)}: {family}" for family in (*families, OTHERS)]
        filled = [replace(part, title=title) for part, title in zip(parts, titles, strict=True) if part.rows]
        if filled:
            made += [replace(filled[0], lead=f"{name}: {notes.data_text(table.dataset)}."), *filled[1:]]
    return made


def _grid(table: Table, methods: Sequence[str], usual: str) -> Grid:
    lines: dict[tuple[int, tuple[str, ...], int], dict[int, tuple[Entry, Row]]] = {}
    for row in table.rows:
        for place, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True)):
            if cell and row.ipc is not None and column.method in methods and not column.whole:
                setting = *_setting(row), row.labels
                # Settings that have the same words (another teacher) are lines of their own.
                alike = next(n for n in itertools.count() if row.ipc not in lines.get((place, setting, n), ()))
                lines.setdefault((place, setting, alike), {})[row.ipc] = cell, row
    labels: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in table.rows:
        labels[_setting(row)].add(row.labels)
    budgets = sorted({ipc for line in lines.values() for ipc in line})
    footnotes = Footnotes()
    order = sorted(lines, key=lambda line: (line[1], methods.index(table.columns[line[0]].method), line[0], line[2]))
    rows = [
        _line(
            table.columns[place], lines[place, setting, alike], budgets, usual, footnotes, len(labels[setting[:-1]]) > 1
        )
        for place, setting, alike in order
    ]
    head = (Heading("Evaluator"), Heading("Network"), Heading("Method"), *(Heading(f"IPC {ipc}") for ipc in budgets))
    return Grid("", head, tuple(rows), footnotes.texts())


def _setting(row: Row) -> tuple[str, ...]:
    return row.name, row.extension, row.options, row.network


def _line(
    column: Column,
    cells: Mapping[int, tuple[Entry, Row]],
    budgets: Sequence[int],
    usual: str,
    footnotes: Footnotes,
    with_labels: bool,
) -> tuple[Value, ...]:
    setting = next(iter(cells.values()))[1]
    evaluator = setting.name + ", extension" * bool(setting.extension)
    if with_labels and setting.labels:
        evaluator += f", {setting.labels} labels"
    return (
        Shown(evaluator, marks=footnotes.of(setting.options)),
        setting.network,
        Shown(column.name, method=column.method),
        *(shown(cells[ipc][0], usual, footnotes) if ipc in cells else "" for ipc in budgets),
    )
