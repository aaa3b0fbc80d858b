"""Boards as plain data for the page: what every cell shows, its marks, and the number it is sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddbench.tables.board import Board, Grid, Heading, Shown
from ddbench.tables.formats import csv_json, latex


def plain(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """Return boards as plain data; empty ones are left out."""
    return [
        {"name": board.name, "title": board.title, "lead": board.lead, "tables": [*map(_grid, board.grids)]}
        | _files(board)
        for board in boards
        if board.grids
    ]


def _files(board: Board) -> dict[str, str]:
    """Return the tables of one data set as files to save."""
    datasets = {str(table.dataset["name"]) for table in board.tables}
    if len(datasets) != 1:
        return {}
    return {"dataset": datasets.pop(), "csv": csv_json.to_csv([board]), "latex": latex.board(board)}


def _grid(grid: Grid) -> dict[str, Any]:
    numeric = grid.numeric()
    head = [{"text": _head(heading), "number": number} for heading, number in zip(grid.headings, numeric, strict=True)]
    rows = [[_cell(cell) for cell in row] for row in grid.cells()]
    plot = "pairs" if {"Claimed", "Ours"} <= {heading.name for heading in grid.headings} else ""
    notes = [*filter(None, (grid.lead, *grid.notes))]
    table = {"title": grid.title, "head": head, "rows": rows, "notes": notes}
    return {**table, "folded": grid.folded, "plot": plot}


def _head(heading: Heading) -> str:
    return " ".join(filter(None, (*heading.text.split("\n"), heading.marks)))


def _cell(cell: Shown) -> dict[str, Any]:
    order = None if cell.number is None else round(cell.number, 6)
    facts = {"text": cell.text, "order": order, "rank": cell.rank, "mark": cell.marks, "small": cell.below}
    return {name: value for name, value in facts.items() if value not in (None, "") and (name, value) != ("rank", 0)}
