"""Boards as data for other programs: CSV with one line per cell, JSON with everything a table holds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

from ddbench.reports.board import Board
from ddbench.stats import confidence_interval

COLUMNS = (
    "dataset",
    "fingerprint",
    "table",
    "protocol",
    "network",
    "ipc",
    "method",
    "mean",
    "std",
    "ci95_low",
    "ci95_high",
    "sets",
    "runs",
)


def to_csv(boards: Sequence[Board]) -> str:
    """Return one line per cell; accuracies are fractions, the interval is Student's t over all runs (empty for one)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for board in boards:
        for table in board.tables:
            for row in table.rows:
                for column, cell in zip(table.columns, row.cells, strict=True):
                    if cell is None:
                        continue
                    low, high = confidence_interval(cell.values) or ("", "")
                    numbers = [_number(value) for value in (cell.mean, cell.std, low, high)]
                    ipc = "full" if row.ipc is None else row.ipc
                    where = [table.dataset, table.fingerprint, table.title, row.protocol, row.network, ipc]
                    writer.writerow([*where, column.label, *numbers, cell.sets, len(cell.values)])
    return text.getvalue()


def to_json(boards: Sequence[Board]) -> str:
    """Return the boards as JSON, every single value included."""
    return json.dumps([asdict(board) for board in boards], indent=1, ensure_ascii=False) + "\n"


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6f}"
