"""Boards on the terminal: the same tables, with colours where there is a terminal to show them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from ddbench.tables.board import Board, Grid, Shown

#: Lines below a table where not all are asked for.
LINES = 3

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text


def show(board: Board, file: TextIO | None = None, *, notes: bool = True) -> None:
    """Print every table of a board with its notes; no number is cut off when the output is no terminal.

    Args:
        board: to print.
        file: standard output when None.
        notes: print all that there is to say, and what pages fold away; at most :data:`LINES` lines below a table
            otherwise.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(file=file or sys.stdout, highlight=False, soft_wrap=False)
    shown_here = [grid for grid in board.grids if notes or not grid.folded]
    for number, content in enumerate(shown_here):
        if number:
            console.print()
        console.print(Text(content.title or board.title, style="bold"))
        if content.headings:
            grid = _grid(content)
            if not console.is_terminal:
                unlimited = console.options.update(max_width=10_000)
                console.width = max(100, console.measure(grid, options=unlimited).maximum)
            console.print(grid)
        lines = [*content.notes, *filter(None, (content.lead, "" if number else board.lead))]
        if notes:
            for text in lines:
                console.print(Padding(Text(f"· {text}", style="dim"), (0, 0, 0, 2)))
            continue
        if len(lines) > LINES:
            lines = [*lines[: LINES - 1], f"{len(lines) - LINES + 1} more notes: --notes shows all"]
        for text in lines:
            line = Text(f"  · {text}", style="dim")
            if console.is_terminal:
                line.truncate(console.width, overflow="ellipsis")
            console.print(line, soft_wrap=True)


def _grid(content: Grid) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, numeric in zip(content.headings, content.numeric(), strict=True):
        marks = f" {heading.marks}" * bool(heading.marks)
        grid.add_column(Text(heading.text + marks), justify="right" if numeric else "left")
    for row in content.cells():
        grid.add_row(*map(_cell, row))
    return grid


def _cell(cell: Shown) -> Text:
    from rich.text import Text

    text = Text(cell.text, style={1: "bold green", 2: "underline"}.get(cell.rank, ""))
    for more in (cell.marks, f"({cell.below})" * bool(cell.below)):
        if more:
            text.append(f" {more}", style="dim not bold not underline")
    return text
