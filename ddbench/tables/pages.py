"""The pages of a leaderboard folder: boards rendered, written or compared with what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ddbench.errors import UsageError
from ddbench.escaping import markdown as escape
from ddbench.files.writing import explained, write_atomic
from ddbench.tables.board import Board
from ddbench.tables.boards import INDEX
from ddbench.tables.formats import markdown


def render(content: Sequence[Board]) -> dict[str, str]:
    """Return file name → text of every page and of the index."""
    rows = []
    for board in content:
        evaluators = sorted({table.evaluator for table in board.tables})
        methods = sorted({column.method for table in board.tables for column in table.columns})
        link = f"[{escape(board.title)}]({board.name}.md)"
        rows.append([link, ", ".join(map(escape, evaluators)), ", ".join(map(escape, methods))])
    intro = (
        "Measured numbers come from records in the registry, and every run can be repeated from its record. Claims are"
        " numbers that others published, with their sources; the two never share a table."
    )
    listed = markdown.grid(["Board", "Evaluators", "Methods"], rows, (False, False, False))
    pages = {f"{board.name}.md": markdown.board(board) for board in content}
    return {INDEX: f"{markdown.MARK}\n\n# Leaderboards\n\n{intro}\n\n{listed}\n", **pages}


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
        if old is not None and not old.startswith(markdown.MARK):
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


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError):  # writing says what is wrong
        return None
