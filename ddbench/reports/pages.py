"""The pages of a leaderboard folder: what boards.toml declares, rendered, written or compared with what is there."""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ddbench.errors import UsageError, unknown
from ddbench.leaderboard import Layout, build
from ddbench.records import Record, slug
from ddbench.registry import select
from ddbench.reports import markdown
from ddbench.reports.board import Board
from ddbench.store import explained, write_atomic

FILE = "boards.toml"
INDEX = "README.md"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Columns(_Part):
    """The order of columns and the baseline of gains."""

    first: tuple[str, ...] = ()
    gain_over: str = ""


class Page(_Part):
    """A page declared in boards.toml; empty filters include everything."""

    name: str
    title: str
    dataset: tuple[str, ...] = ()
    evaluator: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    ipc: tuple[int, ...] = ()


class Declared(_Part):
    """The content of boards.toml."""

    columns: Columns = Columns()
    board: tuple[Page, ...] = ()


def declared(folder: Path) -> Declared:
    """Read ``boards.toml`` of a leaderboard folder, or ddbench's own where there is none.

    Raises:
        UsageError: not TOML, or a key that is not known.
    """
    path = folder / FILE
    try:
        if path.exists():
            text = path.read_text("utf-8")
        else:
            text = importlib.resources.files("ddbench.reports").joinpath(FILE).read_text("utf-8")
        return Declared.model_validate(tomllib.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{FILE}: {where}: {first['msg']}", hint="See docs/leaderboards.md.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{FILE} is not valid TOML: {error}") from error


def layout(content: Declared) -> Layout:
    """Return how tables are arranged."""
    return Layout(content.columns.first, content.columns.gain_over)


def boards(records: Sequence[Record], content: Declared, only: str = "") -> list[Board]:
    """Return one board per data set, by name, then the declared ones; boards without records are left out.

    Args:
        records: of a registry.
        content: of boards.toml.
        only: the name of the one board wanted.

    Raises:
        UsageError: no board of that name, or two boards of one name.
    """
    names = sorted({str(record.cell.dataset["name"]) for record in records})
    pages = [Page(name=slug(name), title=f"Data set {name}", dataset=(name,)) for name in names]
    pages += content.board
    known = [page.name for page in pages]
    for name in known:
        if known.count(name) > 1 or slug(name) != name or name.lower() == Path(INDEX).stem.lower():
            raise UsageError(f"The board name {name!r} is taken or no file name.", hint=f"Rename it in {FILE}.")
    if only and only not in known:
        raise unknown("board", only, known)
    found = []
    for page in pages:
        if only in ("", page.name):
            chosen = _chosen(records, page)
            if chosen:
                found.append(build(chosen, layout(content), name=page.name, title=page.title))
    return found


def _chosen(records: Sequence[Record], page: Page) -> list[Record]:
    # The whole training set belongs to every budget and stands beside any choice of methods.
    ipc: tuple[int | None, ...] = (*page.ipc, None) if page.ipc else ()
    found = select(records, dataset=page.dataset, evaluator=page.evaluator, network=page.network, ipc=ipc)
    return [r for r in found if not page.method or r.cell.ipc is None or r.cell.method.name in page.method]


def render(content: Sequence[Board]) -> dict[str, str]:
    """Return file name → text of every page and of the index."""
    rows = []
    for board in content:
        evaluators = sorted({table.evaluator for table in board.tables})
        methods = sorted({column.method for table in board.tables for column in table.columns})
        link = f"[{markdown.escape(board.title)}]({board.name}.md)"
        rows.append([link, ", ".join(map(markdown.escape, evaluators)), ", ".join(map(markdown.escape, methods))])
    intro = (
        "Every number was measured by ddbench and comes from a record in the registry; runs can be repeated from it."
    )
    listed = markdown.grid(["Board", "Evaluators", "Methods"], rows)
    pages = {f"{board.name}.md": markdown.board(board) for board in content}
    return {INDEX: f"{markdown.MARK}\n\n# Leaderboards\n\n{intro}\n\n{listed}\n", **pages}


def changes(folder: Path, pages: Mapping[str, str], *, complete: bool = True) -> list[str]:
    """Return what writing would do, in words: pages that are new, differ, or (when complete) are no longer made."""
    found = []
    for name, text in sorted(pages.items()):
        old = _read(folder / name)
        if old is None:
            found.append(f"{name} is missing")
        elif old != text:
            found.append(f"{name} is out of date")
    return found + [f"{path.name} is no longer made from any record" for path in _stale(folder, pages) if complete]


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
    except (FileNotFoundError, UnicodeDecodeError):
        return None
