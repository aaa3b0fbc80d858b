"""The pages of a leaderboard folder: boards rendered, written or compared with what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ddbench.errors import UsageError
from ddbench.escaping import markdown as escape
from ddbench.files.writing import explained, write_atomic
from ddbench.tables.board import Board
from ddbench.tables.boards import INDEX
from ddbench.tables.formats import csv_json, markdown

#: The file of all cells, beside the pages.
CELLS = "long.csv"


def render(content: Sequence[Board], *, complete: bool = True) -> dict[str, str]:
    """Return file name → text of every page; when complete also of the index and of the file of all cells."""
    pages = {f"{board.name}.md": markdown.board(board) for board in content if not board.front}
    if not complete:
        return pages
    fronts = [board for board in content if board.front]
    intro = (
        "Measured numbers come from records in the registry, and every run can be repeated from its record. Claims are"
        " numbers that papers report, with their sources; the two are never ranked together. Small figures are"
        " distilled sets × networks trained on each. Bold: best of a column; underlined: second."
    )
    parts = [markdown.MARK, "# Leaderboards", intro]
    for board, before in zip(fronts, [None, *fronts], strict=False):
        same = before is not None and board.lead == before.lead
        parts += [f"## {escape(board.title)}", *markdown.parts(replace(board, lead="") if same else board, 3)]
    listed = [f"- [{escape(board.title)}]({board.name}.md)" for board in content if not board.front]
    cells = [f"- [Every cell with interval, tests and costs]({CELLS})"] * any(board.tables for board in content)
    parts += ["## All boards", "\n".join([*listed, *cells])]
    also = {CELLS: csv_json.to_csv(content)} if cells else {}
    return {INDEX: "\n\n".join(parts) + "\n", **pages, **also}


def changes(folder: Path, pages: Mapping[str, str], *, complete: bool = True) -> list[str]:
    """Return what writing would do, in words: pages that are new, differ, or (when complete) are no longer made."""
    lines = [
        f"{name} is {'missing' if old is None else 'out of date'}"
        for name, text in sorted(pages.items())
        if (old := _read(folder / name)) != text
    ]
    return lines + [f"{path.name} is no longer made from any record" for path in _stale(folder, pages) if complete]


def write(folder: Path, pages: Mapping[str, str], *, complete: bool = True) -> list[str]:
    """Write the pages that changed, remove generated ones that are no longer made, and return the names written.

    Raises:
        UsageError: a page would replace a file that ddbench did not write.
        StorageError: the folder cannot be written.
    """
    written = []
    for name, text in sorted(pages.items()):
        old = _read(folder / name)
        if old == text:
            continue
        if old is not None and not _own(name, old):
            raise UsageError(
                f"{name} was not written by ddbench and is not replaced.",
                hint="Move it away, or choose another folder with --out.",
            )
        write_atomic(folder / name, text)
        written.append(name)
    for path in _stale(folder, pages) if complete else []:
        with explained(folder):
            path.unlink()
    return written


def _stale(folder: Path, pages: Mapping[str, str]) -> list[Path]:
    others = [path for path in sorted(folder.glob("*.md")) if path.name not in pages]
    return [path for path in others if (_read(path) or "").startswith(markdown.MARK)]


def _own(name: str, text: str) -> bool:
    """Whether ddbench wrote a file."""
    return text.startswith(",".join(csv_json.COLUMNS[:3]) if name == CELLS else markdown.MARK)


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError):  # writing says what is wrong
        return None
