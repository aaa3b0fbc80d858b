"""Boards as Markdown: byte-stable, without dates or folders, so that a generated page can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from ddbench.escaping import markdown as escape
from ddbench.tables.board import SURE_TEXT, TIED, Board, Claimed, Entry, Grid, Row, Table, shown

#: First line of every generated page; only files that start with it are ever replaced or removed.
MARK = "<!-- Written by `ddbench leaderboard` from the records of the registry. Do not edit. -->"


def board(content: Board) -> str:
    """Return a page with all tables of a board."""
    parts = [MARK, f"# {escape(content.title)}"]
    for part in content.tables:
        parts.append(f"## {escape(part.title)}")
        parts.append("\n".join(f"- {escape(name)}: {escape(text)}" for name, text in facts(part)))
        parts.append(table(part))
        if part.gain_over:
            parts.append(f"Gain over {escape(part.gain_over)}, in points:")
            parts.append(gains(part))
        if remarks := [*part.legend, *[SURE_TEXT] * part.has_sure_gain, *part.notes]:
            parts.append("\n".join(f"- {escape(note)}" for note in remarks))
    for plain in content.grids:
        parts += [f"## {escape(plain.title)}", grid_table(plain)]
        if plain.notes:
            parts.append("\n".join(f"- {escape(note)}" for note in plain.notes))
    return "\n\n".join(parts) + "\n"


def facts(content: Table) -> list[tuple[str, str]]:
    """Return the facts of a table with what its cells show."""
    if content.claimed:
        return list(content.facts)
    cells = "mean ± population standard deviation in percent over all runs"
    runs = f", {content.runs} (distilled sets × networks trained on each) unless a cell says otherwise" * bool(
        content.runs
    )
    return [*content.facts, ("Cells", cells + runs)]


def table(content: Table) -> str:
    """Return the table itself: best **bold**, second <u>underlined</u>."""
    rows = [[*_place(row), *(_cell(cell, content.runs) for cell in row.cells)] for row in content.rows]
    return grid(content.heads(), rows)


def gains(content: Table) -> str:
    """Return the table of gains over the baseline; columns without any gain are left out."""
    places = [
        place for place in range(len(content.columns)) if any(shown(row.cells[place], "").gain for row in content.rows)
    ]
    head = ["IPC", "Network", *(content.columns[place].label for place in places)]
    return grid(head, [[*_place(row), *(_gain(row.cells[p]) for p in places)] for row in content.rows])


def grid_table(content: Grid) -> str:
    """Return a plain table; columns of numbers are aligned right."""
    return grid(content.heads(), [[escape(text) for text in row] for row in content.texts()], content.numeric())


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] = (False, False)) -> str:
    """Return a Markdown table; ``right`` says which columns are aligned right, and all beyond it are."""
    rule = ["---:" if place >= len(right) or right[place] else "---" for place in range(len(head))]
    lines = [[escape(text) for text in head], rule, *([_bars(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _place(row: Row) -> list[str]:
    return [escape(row.budget), escape(row.network)]


def _bars(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _cell(cell: Entry | Claimed | None, usual: str) -> str:
    seen = shown(cell, usual)
    text = {1: f"**{seen.text}**", 2: f"<u>{seen.text}</u>"}.get(seen.rank, seen.text)
    return text + f"<sup>{TIED}</sup>" * seen.tied + f" ({seen.runs})" * bool(seen.runs)


def _gain(cell: Entry | Claimed | None) -> str:
    return escape(shown(cell, "").gain) or "–"
