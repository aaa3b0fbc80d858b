"""Boards on the terminal: the same tables, with colours where there is a terminal to show them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from ddbench.reports.board import DECIMALS, Board, Entry, Table
from ddbench.reports.markdown import facts

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text


def show(board: Board, file: TextIO | None = None) -> None:
    """Print every table of a board with its facts and notes; nothing is cut off when the output is not a terminal."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    file = file or sys.stdout
    console = Console(file=file, highlight=False, soft_wrap=False)
    for number, content in enumerate(board.tables):
        if number:
            console.print()
        grid = _grid(content)
        if not console.is_terminal:
            unlimited = console.options.update(max_width=10_000)
            console.width = max(100, console.measure(grid, options=unlimited).maximum)
        console.print(Text(f"{content.dataset}: {content.title}", style="bold"))
        console.print(grid)
        gains = [("Gains", f"over {content.gain_over} in points, behind the deviation")] * bool(content.gain_over)
        for name, text in [*facts(content)[2:], *gains]:
            console.print(Padding(Text.assemble((f"{name}: ", "bold"), text), (0, 0, 0, 2)))
        for note in content.notes:
            console.print(Padding(Text(f"· {note}", style="dim"), (0, 0, 0, 2)))


def _grid(content: Table) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("IPC")
    grid.add_column("network")
    for column in content.columns:
        grid.add_column(Text(column.label), justify="right")
    for row in content.rows:
        grid.add_row(row.budget, row.network, *(_cell(cell, content.runs) for cell in row.cells))
    return grid


def _cell(cell: Entry | None, usual: str) -> Text:
    from rich.text import Text

    if cell is None:
        return Text("–", style="dim")
    text = Text(cell.text, style={1: "bold green", 2: "underline"}.get(cell.rank, ""))
    if cell.runs != usual:
        text.append(f" ({cell.runs})", style="dim not bold not underline")
    if cell.gain is not None:
        text.append(f" {100 * cell.gain:+.{DECIMALS}f}", style="dim not bold not underline")
    return text
