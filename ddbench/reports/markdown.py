"""Boards as Markdown: byte-stable, without dates or folders, so that a generated page can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from ddbench.reports.board import DECIMALS, Board, Entry, Table

#: First line of every generated page; only files that start with it are ever replaced or removed.
MARK = "<!-- Written by `ddbench leaderboard` from the records of the registry. Do not edit. -->"


def board(content: Board) -> str:
    """Return a page with all tables of a board."""
    parts = [MARK, f"# {escape(content.title)}"]
    for each in content.tables:
        parts.append(f"## {escape(each.title)}")
        parts.append("\n".join(f"- {escape(name)}: {escape(text)}" for name, text in facts(each)))
        parts.append(table(each))
        if each.gain_over:
            parts.append(f"Gain over {escape(each.gain_over)}, in points:")
            parts.append(gains(each))
        if each.notes:
            parts.append("\n".join(f"- {escape(note)}" for note in each.notes))
    return "\n\n".join(parts) + "\n"


def facts(content: Table) -> list[tuple[str, str]]:
    """Return the facts of a table with what its cells show."""
    shown = "mean ± population standard deviation in percent over all runs"
    runs = f", {content.runs} (distilled sets × networks trained on each) unless a cell says otherwise" * bool(
        content.runs
    )
    return [*content.facts, ("Cells", shown + runs)]


def table(content: Table) -> str:
    """Return the table itself: best **bold**, second <u>underlined</u>."""
    head = ["IPC", "Network", *(column.label for column in content.columns)]
    rows = [[row.budget, row.network, *(_cell(cell, content.runs) for cell in row.cells)] for row in content.rows]
    return grid(head, rows)


def gains(content: Table) -> str:
    """Return the table of gains over the baseline; columns without any gain are left out."""
    places = [
        place
        for place in range(len(content.columns))
        if any((cell := row.cells[place]) and cell.gain is not None for row in content.rows)
    ]
    head = ["IPC", "Network", *(content.columns[place].label for place in places)]
    return grid(head, [[row.budget, row.network, *(_gain(row.cells[p]) for p in places)] for row in content.rows])


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first two columns are aligned left, the others right."""
    rule = ["---" if place < 2 else "---:" for place in range(len(head))]
    lines = [[escape(text) for text in head], rule, *([_bars(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Escape what Markdown would read as markup in names and values."""
    for character in "\\`*_<>|[]":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")


def _bars(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _cell(cell: Entry | None, usual: str) -> str:
    if cell is None:
        return "–"
    text = {1: f"**{cell.text}**", 2: f"<u>{cell.text}</u>"}.get(cell.rank, cell.text)
    return text if cell.runs == usual else f"{text} ({cell.runs})"


def _gain(cell: Entry | None) -> str:
    return "–" if cell is None or cell.gain is None else f"{100 * cell.gain:+.{DECIMALS}f}"
