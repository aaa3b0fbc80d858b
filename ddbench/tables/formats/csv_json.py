"""Boards as data for other programs: CSV with one line per cell, JSON with everything a table holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from ddbench import escaping
from ddbench.tables.board import Board, Claimed, Entry, Table

COLUMNS = (
    *("dataset", "fingerprint", "table", "protocol", "network", "ipc", "method"),
    *("kind", "mean", "std", "ci95_low", "ci95_high", "sets", "runs"),
)


def to_csv(boards: Sequence[Board]) -> str:
    """Return one line per cell of the boards' tables; of boards without tables, one line per line of their grids.

    Accuracies are fractions; the interval is Student's t over distilled sets (over networks where there is one set;
    empty for one run). ``kind`` is ``measured``, or whose claim it is (sources.md of the published claims).
    """
    tables = [table for board in boards for table in board.tables]
    if tables or not any(board.grids for board in boards):
        return escaping.csv_text([COLUMNS, *(line for table in tables for line in _lines(table))])
    grids = [grid for board in boards for grid in board.grids]
    return escaping.csv_text([line for grid in grids for line in (grid.heads(), *grid.rows)])


def to_json(boards: Sequence[Board]) -> str:
    """Return the boards as JSON, every single value included."""
    return json.dumps([asdict(board) for board in boards], indent=1, ensure_ascii=False) + "\n"


def _lines(table: Table) -> list[list[str | int]]:
    lines: list[list[str | int]] = []
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell is None:
                continue
            ipc = "full" if row.ipc is None or column.whole else row.ipc
            where = [table.dataset, table.fingerprint, table.title, row.protocol, row.network, ipc]
            lines.append([*where, column.label, *_numbers(cell)])
    return lines


def _numbers(cell: Entry | Claimed) -> list[str | int]:
    if isinstance(cell, Claimed):
        std = None if cell.std is None else cell.std / 100
        return [cell.kind, _number(cell.mean / 100), _number(std), *[""] * 4]
    low, high = cell.interval or (None, None)
    return ["measured", *map(_number, (cell.mean, cell.std, low, high)), cell.sets, len(cell.values)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
