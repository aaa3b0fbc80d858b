"""Boards as plain HTML tables that a page can embed; everything from records, plugins and files is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from ddbench.escaping import html as escape
from ddbench.tables.board import Board, Grid, Heading, Shown


def board_html(content: Board) -> str:
    """Return a section with all grids of a board."""
    parts = [f"<section>\n<h1>{escape(content.title)}</h1>", *_paragraph(content.lead)]
    for grid in content.grids:
        body = [*_paragraph(grid.lead), *[grid_html(grid)] * bool(grid.headings), *_notes(grid.notes)]
        if grid.folded:
            parts += [f"<details><summary>{escape(grid.title)}</summary>", *body, "</details>"]
        else:
            parts += [*[f"<h2>{escape(grid.title)}</h2>"] * bool(grid.title), *body]
    return "\n".join([*parts, "</section>"]) + "\n"


def grid_html(content: Grid) -> str:
    """Return ``<table class="board">``: best ``<strong>``, second ``<u>``; cells of numbers have class ``number``."""
    classes = [' class="number"' * numeric for numeric in content.numeric()]
    head = "".join(f'<th scope="col">{_head(heading)}</th>' for heading in content.headings)
    lines = ['<table class="board">', f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row in content.cells():
        cells = (f"<td{kind}>{_cell(cell)}</td>" for cell, kind in zip(row, classes, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"]) + "\n"


def _head(heading: Heading) -> str:
    return "<br>".join(map(escape, heading.text.split("\n"))) + f"<sup>{escape(heading.marks)}</sup>" * bool(
        heading.marks
    )


def _cell(cell: Shown) -> str:
    text = escape(cell.text)
    text = {1: f"<strong>{text}</strong>", 2: f"<u>{text}</u>"}.get(cell.rank, text)
    text += f"<sup>{escape(cell.marks)}</sup>" * bool(cell.marks)
    return text + f'<br><small class="runs">{escape(cell.below)}</small>' * bool(cell.below)


def _paragraph(text: str) -> list[str]:
    return [f"<p>{escape(text)}</p>"] * bool(text)


def _notes(notes: Sequence[str]) -> list[str]:
    return ["<ul>\n" + "\n".join(f"<li>{escape(note)}</li>" for note in notes) + "\n</ul>"] * bool(notes)
