"""Boards as Markdown: byte-stable, without dates or folders, so that a generated page can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from ddbench.escaping import html
from ddbench.escaping import markdown as escape
from ddbench.tables.board import Board, Grid, Heading, Shown

#: First line of every generated page; only files that start with it are ever replaced or removed.
MARK = "<!-- Written by `ddbench leaderboard` from the records of the registry. Do not edit. -->"
#: Notes that stand below a table; more are folded away.
OPEN_NOTES = 2


def board(content: Board) -> str:
    """Return a page with all grids of a board."""
    return "\n\n".join([MARK, f"# {escape(content.title)}", *parts(content)]) + "\n"


def parts(content: Board, level: int = 2) -> list[str]:
    """Return the blocks of a board below its title; headings begin at ``level``."""
    blocks = [escape(content.lead)] * bool(content.lead)
    for grid in content.grids:
        lead = [escape(grid.lead)] * bool(grid.lead)
        body = [*lead, *[grid_table(grid)] * bool(grid.headings)]
        if grid.folded:
            blocks.append(_folded(grid.title, [*body, *_list(grid.notes)]))
            continue
        blocks += [f"{'#' * level} {escape(grid.title)}"] * (grid.title not in ("", content.title))
        blocks += body
        if len(grid.notes) > OPEN_NOTES:
            blocks.append(_folded("Notes", _list(grid.notes)))
        else:
            blocks += _list(grid.notes)
    return blocks


def grid_table(content: Grid) -> str:
    """Return the table itself: best **bold**, second <u>underlined</u>; columns of numbers are aligned right."""
    rows = [list(map(_cell, row)) for row in content.cells()]
    return grid(list(map(_head, content.headings)), rows, content.numeric())


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Return a Markdown table of cells that are escaped; ``right`` says which columns are aligned right."""
    rule = ["---:" if aligned else "---" for aligned in right]
    return "\n".join(f"|{'|'.join(line)}|" for line in (head, rule, *rows))


def _head(heading: Heading) -> str:
    return "<br>".join(map(escape, heading.text.split("\n"))) + _raised(heading.marks)


def _cell(cell: Shown) -> str:
    text = escape(cell.text).replace(" ± ", "±")  # narrow, and never broken
    text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(cell.rank, text) + _raised(cell.marks)
    return text + f"<br><sub>{escape(cell.below)}</sub>" * bool(cell.below)


def _raised(marks: str) -> str:
    return f"<sup>{html(marks)}</sup>" * bool(marks)


def _list(notes: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {escape(note)}" for note in notes)] * bool(notes)


def _folded(title: str, body: Sequence[str]) -> str:
    return "\n\n".join([f"<details><summary>{html(title)}</summary>", *body, "</details>"])
