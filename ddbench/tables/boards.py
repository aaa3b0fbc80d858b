"""Boards from what a registry holds and boards.toml declares; pure functions but for reading the registry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from ddbench.errors import UsageError, unknown
from ddbench.results import claims as published
from ddbench.results.claims import Aliases, Claim, Published
from ddbench.results.registry import Problem, load, select
from ddbench.results.runs import experiment
from ddbench.results.schema import Record, slug
from ddbench.tables import classes, families, notes, paper, reproduced, variants, views
from ddbench.tables.board import Board, Grid, Heading, Table, Value
from ddbench.tables.declared import FILE, Declared, Page, declared
from ddbench.tables.formats import csv_json, html, latex, markdown
from ddbench.tables.leaderboard import HEADLINE, Layout, build

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Fingerprint of a data set, and int [test images].
Labels = tuple[str, "NDArray[np.int64]"]
#: Columns of acceptance figures beside each other at most.
MOST_SETS = 9
#: Name of the page that lists the others.
INDEX = "README.md"
#: The folder of pages where none is named; its boards.toml counts where another folder has none.
FOLDER = "leaderboards"
#: How boards are written as text.
FORMATS: Mapping[str, Callable[[Sequence[Board]], str]] = {
    "markdown": lambda boards: "\n".join(map(markdown.board, boards)),
    "csv": csv_json.to_csv,
    "json": csv_json.to_json,
    "latex": lambda boards: latex.boards(boards, _bibtex()),
    "html": lambda boards: "\n".join(map(html.board_html, boards)),
}


def _bibtex() -> dict[str, str]:
    """Return the citation of every method that is installed."""
    from ddbench.plugin.manager import load_plugins

    return {name: entry.spec.bibtex for name, entry in load_plugins().entries["method"].items()}


class Boards(tuple[Board, ...]):
    """Comparison tables, one page each, as :func:`ddbench.leaderboard` returns them; notebooks show them as HTML."""

    def to(self, format: str) -> str:
        """Return all of them as ``markdown``, ``csv``, ``json``, ``latex`` or ``html``.

        Raises:
            UsageError: another format.
        """
        if format not in FORMATS:
            raise unknown("format", format, FORMATS)
        return FORMATS[format](self)

    def __repr__(self) -> str:
        return f"<Boards: {', '.join(board.name for board in self) or 'none'}>"

    def _repr_html_(self) -> str:
        return self.to("html")


@dataclass(frozen=True)
class Content:
    """What a registry holds: good records and claims, and what is wrong with the others."""

    records: tuple[Record, ...]
    published: Published
    problems: tuple[Problem, ...]


def read_registry(registry: Path, *, without: Collection[str] = ()) -> Content:
    """Read everything boards are made of; faulty records and claims are left out and listed, the others unaffected.

    Args:
        registry: its folder.
        without: parts of results that are not needed, as for :func:`ddbench.results.registry.load`.
    """
    records, problems = load(registry, without=without)
    claims, wrong = published.load(registry)
    return Content(tuple(records), claims, (*problems, *wrong))


def of_registry(
    registry: Path, folder: Path, only: str = "", labels: Callable[[str], Labels] | None = None
) -> tuple[Boards, tuple[Problem, ...]]:
    """Return the boards of a registry, and what was left out because something is wrong with it.

    Args:
        registry: its folder.
        folder: of the pages, whose boards.toml counts; that of :data:`FOLDER` where it has none.
        only: the name of the one board wanted.
        labels: returns a data set's fingerprint and test labels; then boards have accuracies by class as well.

    Raises:
        UsageError: no board of that name, or a mistake in boards.toml.
    """
    content = read_registry(registry, without=("curves",) if labels else ("curves", "correct"))
    arrangement = declared(folder if (folder / FILE).exists() else Path(FOLDER))
    made = boards(content.records, arrangement, only, content.published)
    if labels:
        made = [_by_class(board, content, arrangement, labels) for board in made]
    return Boards(made), content.problems


def _by_class(board: Board, content: Content, arrangement: Declared, labels: Callable[[str], Labels]) -> Board:
    """Add accuracies by class to a board of records."""
    known: dict[str, NDArray[np.int64]] = {}
    for data in (table.dataset for table in board.tables):
        fingerprint, own = labels(str(data["name"]))
        if fingerprint != data["fingerprint"]:
            raise UsageError(
                f"The records are of another {data['name']} ({data['fingerprint'][:8]}) than the one here"
                f" ({fingerprint[:8]}), so that accuracies by class are not known.",
                hint="Name a board of another data set with --board.",
            )
        known[fingerprint] = own
    digests = {row.protocol for table in board.tables for row in table.rows}
    methods = {column.method for table in board.tables for column in table.columns}
    chosen = [r for r in content.records if r.protocol.digest in digests and r.cell.method.name in methods]
    first = arrangement.columns.first
    layout = replace(arrangement.layout(), first=first, names=arrangement.names, aliases=content.published.aliases)
    return replace(board, grids=(*board.grids, *classes.grids(chosen, layout, known)))


def boards(
    records: Sequence[Record], content: Declared, only: str = "", claims: Published | None = None
) -> list[Board]:
    """Return one board per data set, by name, then the declared ones; empty boards are left out.

    Args:
        records: of a registry.
        content: of boards.toml.
        only: the name of the one board wanted.
        claims: published ones.

    Raises:
        UsageError: no board of that name, or two boards of one name.
    """
    names = sorted({str(record.cell.dataset["name"]) for record in records})
    taken = {Path(INDEX).stem.lower(), *(page.name.lower() for page in content.board)}
    pages = [
        Page(name=_free(slug(name), taken), title=content.names.get(name, name), dataset=(name,)) for name in names
    ]
    own = {page.name for page in pages}
    elsewhere = {id(record) for page in content.board for record in _apart(records, page, content.columns.apart)}
    pages += content.board
    known = [page.name for page in pages]
    for name in known:
        if known.count(name) > 1 or slug(name) != name or name.lower() == Path(INDEX).stem.lower():
            raise UsageError(f"The board name {name!r} is taken or no file name.", hint=f"Rename it in {FILE}.")
    if only and only not in known:
        raise unknown("board", only, known)
    claims = claims or Published()
    filled = []
    for page in pages:
        if only in ("", page.name):
            chosen = _chosen(records, page)
            if page.name in own:
                chosen = [record for record in chosen if id(record) not in elsewhere]
            made = _board(page, chosen, content, claims, beside=page.name in own)
            if any(grid.rows for grid in made.grids):
                filled.append(made)
    return filled


def _free(name: str, taken: set[str]) -> str:
    """Take a name for a data set's page that no other page has: no record may stand in the way of a board."""
    chosen = next(
        free for free in chain([name], (f"{name}-{number}" for number in count(2))) if free.lower() not in taken
    )
    taken.add(chosen.lower())
    return chosen


def _board(page: Page, records: Sequence[Record], content: Declared, claims: Published, *, beside: bool) -> Board:
    layout = replace(
        content.layout(),
        first=page.method or content.columns.first,
        networks=page.network,
        names={**content.names, **page.names},
        aliases=claims.aliases,
    )
    layouts = [replace(layout, metric=metric, lower_is_better=metric in page.lower_is_better) for metric in page.metric]
    signs = {mark.sign: f"{mark.sign}: {mark.text}." for mark in content.mark}
    if page.style == "variants":
        grids = tuple(variants.grid(records, own, page.title, page.reference) for own in layouts)
        return Board(page.name, page.title, tuple(table for own in layouts for table in build(records, own)), grids)
    if page.style == "families":
        found = [table for own in layouts for table in build(records, own)]
        usual = views.usual_runs(found)
        by_family = families.grids(found, content.families, usual, content.names)
        return Board(page.name, page.title, tuple(found), tuple(by_family), families.lead(usual))
    if page.style == "reproduced":
        pairs = reproduced.pairs(records, _claimed(page, claims, claims.aliases), claims.aliases)
        return Board(page.name, page.title, (), (reproduced.grid(pairs, page.title, layout, claims.citations),))
    if page.source or page.kind:
        shown = _claimed(page, claims)
        blocks = paper.grids(shown, records, layout, content.venues, signs)
        sources = "; ".join(dict.fromkeys(claims.citations.get(claim.source, "") for claim in shown))
        return Board(page.name, page.title, (), tuple(blocks), f"Claimed: {sources}.", page.front)
    board = measured(records, layouts, page.name, page.title, signs)
    if beside and content.claims.kind:
        protocols = {claims.aliases.protocol_of(r.cell.evaluator.name, r.cell.evaluator.options) for r in records}
        also = published.select(
            claims.claims, dataset=page.dataset, kind=content.claims.kind, evaluator=protocols, metric=("top1",)
        )
        board = replace(board, grids=(*board.grids, *[paper.listing(also, layout)] * bool(also)))
    return board


def measured(
    records: Sequence[Record],
    layouts: Sequence[Layout],
    name: str = "",
    title: str = "",
    signs: Mapping[str, str] | None = None,
) -> Board:
    """Return a board of records: methods × settings, networks apart, protocols and acceptance figures folded away.

    Args:
        records: in any order.
        layouts: one for each metric.
        name, title: of the board.
        signs: what the layout's signs mean.
    """
    tables = {layout.metric: build(records, layout) for layout in layouts}
    usual = views.usual_runs(table for own in tables.values() for table in own)
    grids: list[Grid] = []
    for layout in layouts:
        better = f"{layout.metric}, {'lower' if layout.lower_is_better else 'higher'} is better: "
        for table in tables[layout.metric]:
            parts = [*views.matrix(table, usual), *views.networks(table, usual)]
            parts[0] = replace(parts[0], lead=f"{table.dataset['name']}: {notes.data_text(table.dataset)}.")
            prefix = "" if layout.metric == HEADLINE else better
            grids += [replace(part, title=prefix + part.title) for part in parts]
    for table in next(iter(tables.values())):
        grids.append(Grid("Protocols", notes=notes.protocols(table.rows), folded=True))
        if table.figures:
            grids += _acceptance(table)
        used = {sign for row in table.rows for cell in row.cells if cell for sign in cell.signs}
        if remarks := (*table.notes, *(meaning for sign, meaning in (signs or {}).items() if sign in used)):
            grids.append(Grid("Notes", notes=remarks, folded=True))
    everything = tuple(table for own in tables.values() for table in own)
    return Board(name, title, everything, tuple(grids), views.lead(usual) if everything else "")


def _acceptance(table: Table) -> list[Grid]:
    """Return acceptance figures, one per line; methods whose sets have the same ones share a column."""
    same: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    names = {column.label: column.name for column in table.columns}
    for label, figures in table.figures.items():
        same[tuple(figures.items())].append(names.get(label, label))
    sets = list(same.items())
    grids = []
    for start in range(0, len(sets), MOST_SETS):
        part = sets[start : start + MOST_SETS]
        lines = dict.fromkeys(figure for figures, _ in part for figure, _ in figures)
        rows: list[tuple[Value, ...]] = [
            (line, *(dict(figures).get(line, "") for figures, _ in part)) for line in lines
        ]
        headings = (Heading("Figure"), *(Heading(", ".join(dict.fromkeys(methods))) for _, methods in part))
        grids.append(Grid("Acceptance figures", headings, tuple(rows), folded=True))
    return grids


def _claimed(page: Page, claims: Published, aliases: Aliases | None = None) -> list[Claim]:
    """Return the claims a page shows; the whole data set belongs to every budget and choice of methods."""
    names = ("dataset", "evaluator", "source", "table", "kind")
    ipc = (*page.ipc, None) if page.ipc else ()
    return [
        claim
        for claim in published.select(claims.claims, ipc=ipc, **{name: getattr(page, name) for name in names})
        if (not page.network or (aliases.network_of(claim) if aliases else claim.network) in page.network)
        and (claim.ipc is None or not page.method or claim.method in page.method)
    ]


def _chosen(records: Sequence[Record], page: Page) -> list[Record]:
    # The whole training set belongs to every budget and stands beside any choice of methods.
    ipc: tuple[int | None, ...] = (*page.ipc, None) if page.ipc else ()
    chosen = list(select(records, dataset=page.dataset, evaluator=page.evaluator, network=page.network, ipc=ipc))
    chosen = [r for r in chosen if not page.method or r.cell.ipc is None or r.cell.method.name in page.method]
    if page.protocol:
        chosen = [r for r in chosen if r.cell.ipc is None or r.protocol.digest.startswith(page.protocol)]
    return _with_seeds(chosen, page.minimum_seeds) if page.minimum_seeds > 1 else chosen


def _apart(records: Sequence[Record], page: Page, evaluators: Collection[str]) -> list[Record]:
    """Return the records of evaluators that stand apart, where a declared board is theirs: no record is on no board."""
    named = set(page.evaluator).intersection(evaluators)
    return [record for record in _chosen(records, page) if record.cell.evaluator.name in named]


def _with_seeds(records: Sequence[Record], minimum: int) -> list[Record]:
    """Keep cells with enough distilled sets; the whole training set is one by nature."""
    sets: dict[str, set[str]] = defaultdict(set)
    keys = [experiment(record) for record in records]
    for key, record in zip(keys, records, strict=True):
        sets[key].add(record.distilled.digest)
    return [r for key, r in zip(keys, records, strict=True) if r.cell.ipc is None or len(sets[key]) >= minimum]
