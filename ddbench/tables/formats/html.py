"""Boards as plain HTML tables that a page can embed; everything from records, plugins and files is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from ddbench.escaping import html as escape
from ddbench.tables.board import SURE_TEXT, TIED, Board, Claimed, Entry, Grid, Table, shown
from ddbench.tables.formats.markdown import facts


def board_html(content: Board) -> str:
    """Return a section with all tables and grids of a board."""
    parts = [f"<section>\n<h1>{escape(content.title)}</h1>"]
    for part in content.tables:
        listed = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts(part))
        parts += [f"<h2>{escape(part.title)}</h2>\n<dl>\n{listed}\n</dl>", table_html(part)]
        notes = [*part.legend, *[f"Gains over {part.gain_over} in points."] * bool(part.gain_over)]
        parts += _notes([*notes, *[SURE_TEXT] * part.has_sure_gain, *part.notes])
    for plain in content.grids:
        parts += [f"<h2>{escape(plain.title)}</h2>", grid_html(plain), *_notes(plain.notes)]
    return "\n".join([*parts, "</section>"]) + "\n"


def table_html(content: Table) -> str:
    """Return ``<table class="board">``: best ``<strong>``, second ``<u>``; classes best, second, tied, missing."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in content.heads())
    kind = "claimed" if content.claimed else "measured"
    lines = [f'<table class="board {kind}">', f"<caption>{escape(f'{content.dataset}: {content.title}')}</caption>"]
    lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row in content.rows:
        start = f'<td>{escape(row.budget)}</td><th scope="row">{escape(row.network)}</th>'
        lines.append(f"<tr>{start}{''.join(_cell(cell, content.runs) for cell in row.cells)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"]) + "\n"


def grid_html(content: Grid) -> str:
    """Return ``<table class="grid">``; cells of numbers have class ``number``."""
    classes = [' class="number"' * numeric for numeric in content.numeric()]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in content.heads())
    lines = ['<table class="grid">', f"<caption>{escape(content.title)}</caption>", f"<thead><tr>{head}</tr></thead>"]
    lines.append("<tbody>")
    for row in content.texts():
        cells = zip(row, classes, strict=True)
        lines.append(f"<tr>{''.join(f'<td{kind}>{escape(text)}</td>' for text, kind in cells)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"]) + "\n"


def _cell(cell: Entry | Claimed | None, usual: str) -> str:
    seen = shown(cell, usual)
    text = escape(seen.text)
    text = {1: f"<strong>{text}</strong>", 2: f"<u>{text}</u>"}.get(seen.rank, text)
    names = [{1: "best", 2: "second"}.get(seen.rank, ""), "tied" * seen.tied, "missing" * (cell is None)]
    if seen.tied:
        text += f'<sup title="not distinguishable from the best">{TIED}</sup>'
    if seen.runs:
        text += f' <small class="runs">({seen.runs})</small>'
    if seen.gain:
        text += f' <small class="gain">{escape(seen.gain)}</small>'
    listed = " ".join(filter(None, names))
    return f'<td class="{listed}">{text}</td>' if listed else f"<td>{text}</td>"


def _notes(notes: Sequence[str]) -> list[str]:
    return ["<ul>\n" + "\n".join(f"<li>{escape(note)}</li>" for note in notes) + "\n</ul>"] * bool(notes)
