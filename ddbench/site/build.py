"""A registry → the page: read what is good, name what is not, and put everything into one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddbench.figures import sheets
from ddbench.results.schema import Record
from ddbench.site import boards, page
from ddbench.site.data import page_data
from ddbench.tables import boards as making
from ddbench.tables import reproduced
from ddbench.tables.declared import declared

if TYPE_CHECKING:
    from ddbench.plugin.manager import Plugins

FILE = "index.html"
#: Bytes of all contact sheets in the page at most; sets of the first seeds come first.
MOST_IMAGES = 12_000_000


@dataclass(frozen=True)
class Built:
    """The page and what was left out of it."""

    html: str
    records: int
    claims: int
    sheets: int
    problems: tuple[str, ...]


def build(registry: Path, leaderboards: Path, plugins: Plugins | None = None) -> Built:
    """Make the page of a registry; records, claims and pictures with anything wrong in them are left out and named.

    Args:
        registry: folder of records and claims.
        leaderboards: folder whose ``boards.toml`` declares the boards.
        plugins: installed plugins, for the summaries and papers of methods.

    Raises:
        UsageError: boards.toml is faulty.
    """
    content = making.read_registry(registry, without=("correct",))
    records, published = content.records, content.published
    problems = [str(problem) for problem in content.problems]
    drawn, faulty = sheets.collect(records, registry)
    problems += faulty
    chosen = _affordable(records, drawn)
    if left := len(drawn) - len(chosen):
        problems.append(f"{left} contact sheets were left out to keep the page small; the first seeds have theirs.")
    arrangement = declared(leaderboards)
    data = page_data(
        records,
        published.claims,
        sources=published.citations,
        aliases=published.aliases,
        sheets=chosen,
        boards=boards.plain(making.boards(records, arrangement, claims=published)),
        pairs=reproduced.pairs(records, published.claims, published.aliases),
        methods=_methods(plugins, arrangement.venues),
        names=arrangement.names,
        marks=arrangement.mark,
        baseline=arrangement.columns.gain_over or "random",
        first=arrangement.columns.first,
        problems=problems,
    )
    return Built(page.render(data), len(records), len(published.claims), len(chosen), tuple(problems))


def _affordable(records: Sequence[Record], drawn: dict[str, sheets.Sheet]) -> dict[str, sheets.Sheet]:
    chosen: dict[str, sheets.Sheet] = {}
    room = MOST_IMAGES
    for record in sorted(records, key=lambda r: (r.cell.seed, r.relative_path().as_posix())):
        sheet = drawn.get(record.distilled.digest)
        if sheet is not None and record.distilled.digest not in chosen and len(sheet.image) <= room:
            chosen[record.distilled.digest] = sheet
            room -= len(sheet.image)
    return chosen


def _methods(plugins: Plugins | None, venues: Mapping[str, str]) -> dict[str, dict[str, str]]:
    methods = {name: {"venue": venue} for name, venue in sorted(venues.items())}
    for name, entry in sorted(plugins.entries["method"].items()) if plugins else ():
        paper, _, venue = entry.spec.paper.partition(" (")[0].rpartition(", ")
        about = {"summary": entry.spec.summary, "paper": paper, "bibtex": entry.spec.bibtex}
        methods[name] = {"venue": venue, **methods.get(name, {}), **about}
    return methods
