"""Boards on the terminal: the same tables, with colours where there is a terminal to show them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from ddbench.tables.board import SURE_TEXT, TIED, Board, Claimed, Entry, Grid, Table, shown
from ddbench.tables.formats.markdown import facts

#: Lines below a table where not all are asked for.
LINES = 3

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text


def show(board: Board, file: TextIO | None = None, *, notes: bool = True) -> None:
    """Print every table of a board with its facts and notes; no number is cut off when the output is no terminal.

    Args:
        board: to print.
        file: standard output when None.
        notes: print all that there is to say; at most :data:`LINES` lines below a table otherwise.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    file = file or sys.stdout
    console = Console(file=file, highlight=False, soft_wrap=False)
    shown_here: list[Table | Grid] = [*board.tables, *board.grids]
    for number, content in enumerate(shown_here):
        if number:
            console.print()
        grid = _grid(content)
        if not console.is_terminal:
            unlimited = console.options.update(max_width=10_000)
            console.width = max(100, console.measure(grid, options=unlimited).maximum)
        heading = f"{content.dataset}: {content.title}" if isinstance(content, Table) else content.title
        console.print(Text(heading, style="bold"))
        console.print(grid)
        about, remarks = _told(content)
        if notes:
            for text in (*about, *remarks):
                console.print(Padding(text, (0, 0, 0, 2)))
            continue
        lines = [*[Text(" · ").join(about)] * bool(about), *remarks]
        if len(lines) > LINES:
            more = f"· {len(lines) - LINES + 1} more notes: --notes shows all"
            lines = [*lines[: LINES - 1], Text(more, style="dim")]
        for text in lines:
            line = Text("  ").append_text(text)
            if console.is_terminal:
                line.truncate(console.width, overflow="ellipsis")
            console.print(line, soft_wrap=True)


def _told(content: Table | Grid) -> tuple[list[Text], list[Text]]:
    """Return what there is to say below a table: its facts, and the meaning of marks with the notes."""
    from rich.text import Text

    table = content if isinstance(content, Table) else None
    about = [Text.assemble((f"{name}: ", "bold"), text) for name, text in (_facts(table) if table else [])]
    legend = table.legend if table else ()
    return about, [Text(f"· {note}", style="dim") for note in (*legend, *content.notes)]


def _facts(content: Table) -> list[tuple[str, str]]:
    sure = f"; {SURE_TEXT}" if content.has_sure_gain else ""
    gains = [("Gains", f"over {content.gain_over} in points, behind the deviation{sure}")] * bool(content.gain_over)
    return [*facts(content)[1 if content.claimed else 2 :], *gains]


def _grid(content: Table | Grid) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    rows: list[list[str | Text]]
    if isinstance(content, Grid):
        right, rows = content.numeric(), [[Text(text) for text in row] for row in content.texts()]
    else:
        right = [place > 1 for place in range(len(content.heads()))]
        rows = [
            [row.budget, Text(row.network), *(_cell(cell, content.runs) for cell in row.cells)] for row in content.rows
        ]
    for head, numeric in zip(content.heads(), right, strict=True):
        grid.add_column(Text(head), justify="right" if numeric else "left")
    for row in rows:
        grid.add_row(*row)
    return grid


def _cell(cell: Entry | Claimed | None, usual: str) -> Text:
    from rich.text import Text

    if cell is None:
        return Text("–", style="dim")
    seen = shown(cell, usual)
    text = Text(seen.text, style={1: "bold green", 2: "underline"}.get(seen.rank, ""))
    for more in (TIED * seen.tied, f"({seen.runs})" * bool(seen.runs), seen.gain):
        if more:
            text.append(f" {more}", style="dim not bold not underline")
    return text
