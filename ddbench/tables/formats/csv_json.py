"""Boards as data for other programs: CSV with one line per cell, JSON with everything a board holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain

from ddbench import escaping
from ddbench.tables.board import Board, Column, Entry, Row, Shown, Table, Value

Field = str | int | None
COLUMNS = (
    *("dataset", "fingerprint", "image_size", "ipc", "method", "variant", "protocol", "options", "network", "labels"),
    *("selection", "extension", "digest", "metric", "mean", "std", "ci95_low", "ci95_high", "sets", "runs", "rank"),
    *("p_best", "gain", "p_gain", "distill_seconds", "seconds_per_image", "evaluate_seconds", "peak_bytes"),
    *("image_bytes", "label_bytes", "note"),
)


def to_csv(boards: Sequence[Board]) -> str:
    """Return one line per cell of the boards' tables; of boards without tables, one line per line of their grids.

    Accuracies and gains are fractions; the interval is Student's t over distilled sets (over networks where there is
    one set; empty for one run). p values are corrected over the cells with the same digest, network and IPC. Seconds
    are of the machine that ran the cell, bytes of one set.
    """
    tables = [table for board in boards for table in board.tables]
    if tables or not any(board.grids for board in boards):
        lines = dict.fromkeys(line for table in tables for line in _lines(table))
        return escaping.csv_text([COLUMNS, *lines])
    grids = [grid for board in boards for grid in board.grids if grid.headings]
    return escaping.csv_text(chain.from_iterable([grid.heads(), *map(_plain, grid.rows)] for grid in grids))


def to_json(boards: Sequence[Board]) -> str:
    """Return the boards as JSON, every single value included."""
    return json.dumps([asdict(board) for board in boards], indent=1, ensure_ascii=False) + "\n"


def _plain(row: Sequence[Value]) -> list[Field | float]:
    return [value.text if isinstance(value, Shown) else value for value in row]


def _lines(table: Table) -> Iterable[tuple[Field, ...]]:
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell is not None:
                yield (*_place(table, row, column), *_numbers(cell), cell.note)


def _place(table: Table, row: Row, column: Column) -> tuple[Field, ...]:
    data = table.dataset
    budget = "full" if column.whole else row.budget
    named = (column.method, column.label, row.name, row.options, row.network)
    facts = (row.labels, row.selection, row.extension, row.protocol, table.metric)
    return data["name"], data["fingerprint"], data["image_size"], budget, *named, *facts


def _numbers(cell: Entry) -> tuple[Field, ...]:
    low, high = cell.interval or (None, None)
    runs = (cell.sets, len(cell.values), cell.rank or None)
    tested = map(_number, (cell.versus_best, cell.gain, cell.gain_p))
    spent = cell.spent
    costs = (
        [None] * 6
        if spent is None
        else [
            *map(_rounded, (spent.distill_seconds, spent.image_seconds, spent.evaluate_seconds)),
            *map(_rounded, (spent.peak_bytes, spent.image_bytes, spent.label_bytes)),
        ]
    )
    return (*map(_number, (cell.mean, cell.std, low, high)), *runs, *tested, *costs)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
