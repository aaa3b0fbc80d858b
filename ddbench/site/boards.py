"""Comparison tables as plain data for the page: what every cell shows, its mark, and the number it is sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddbench.tables.board import TIED, Board, Claimed, Entry, Grid, Table, Value, shown
from ddbench.tables.formats import markdown


def plain(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """Return boards as plain data; empty ones are left out."""
    return [
        {"name": board.name, "title": board.title, "tables": [*map(_table, board.tables), *map(_grid, board.grids)]}
        for board in boards
        if board.tables or board.grids
    ]


def _table(table: Table) -> dict[str, Any]:
    head = [("IPC", False), ("Network", False), *((column.label, True) for column in table.columns)]
    rows = []
    for row in table.rows:
        budget = {"text": row.budget, "order": 1e9 if row.ipc is None else row.ipc}
        rows.append([budget, {"text": row.network}, *(_cell(cell, table.runs) for cell in row.cells)])
    gain = [f"Small figures: gain over {table.gain_over}, in points."] * bool(table.gain_over)
    return {
        "title": table.title,
        "claimed": table.claimed,
        "facts": [list(fact) for fact in markdown.facts(table)],
        "head": [{"text": text, "number": number} for text, number in head],
        "rows": rows,
        "notes": [*gain, *table.legend, *table.notes],
    }


def _cell(cell: Entry | Claimed | None, usual: str) -> dict[str, Any]:
    seen = shown(cell, usual)
    facts = {
        "text": seen.text,
        "order": None if cell is None else round(cell.mean, 6),
        "rank": seen.rank,
        "mark": TIED * seen.tied,
        "small": " ".join(filter(None, (seen.gain, f"({seen.runs})" if seen.runs else ""))),
    }
    return {name: value for name, value in facts.items() if value not in (None, "") and (name, value) != ("rank", 0)}


def _grid(grid: Grid) -> dict[str, Any]:
    numeric = grid.numeric()
    rows = [
        [_plain_cell(text, value) for text, value in zip(texts, values, strict=True)]
        for texts, values in zip(grid.texts(), grid.rows, strict=True)
    ]
    head = [{"text": text, "number": number} for text, number in zip(grid.heads(), numeric, strict=True)]
    plot = "pairs" if {"Claimed", "Ours"} <= {heading.name for heading in grid.headings} else ""
    table = {"title": grid.title, "claimed": False, "facts": [], "head": head, "rows": rows, "notes": list(grid.notes)}
    return {**table, "plot": plot}


def _plain_cell(text: str, value: Value) -> dict[str, Any]:
    return {"text": text, "order": value} if isinstance(value, (int, float)) else {"text": text}
