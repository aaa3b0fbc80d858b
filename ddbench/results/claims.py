"""Published claims: numbers of papers with their sources, kept apart from everything that ddbench measured itself.

``registry/published/published.csv`` has one number per line, ``sources.md`` the sources that its ``source`` column
names, and ``aliases.toml`` what published names of networks and evaluators mean in ddbench.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ddbench.errors import RecordError
from ddbench.files.reading import read_text
from ddbench.files.schemas import Part, first_flaw, parse_toml
from ddbench.files.writing import write_atomic
from ddbench.results.registry import Problem

FOLDER, FILE, SOURCES, ALIASES = "published", "published.csv", "sources.md", "aliases.toml"
#: Whose number it is (explained in sources.md).
KINDS = ("own", "own-quoted", "ablation", "other", "baseline", "full", "benchmark", "third-party")
#: Metrics that are accuracies or recalls in percent; others are scores in points and may be negative.
ACCURACIES = (
    *("top1", "top1_avg_over_aug", "top1_avg_transfer"),
    *(f"{way}@{rank}" for way in ("tr", "ir") for rank in (1, 5, 10)),
)
METRICS = (*ACCURACIES, "hlr", "ior")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Claim:
    """One published number.

    Attributes:
        ipc: images per class; None for the whole data set.
        mean, std: as printed (text), in percent or points; ``std`` is "" where the source gives none.
        kind: whose number it is, one of :data:`KINDS`.
        source, table: a key of sources.md, and the place in it.
    """

    dataset: str
    ipc: int | None
    method: str
    evaluator: str
    network: str
    label_type: str
    metric: str
    mean: str
    std: str
    kind: str
    source: str
    table: str
    note: str

    @property
    def value(self) -> float:
        """The mean as a number."""
        return float(self.mean)

    @property
    def deviation(self) -> float | None:
        """The deviation as a number, where there is one."""
        return float(self.std) if self.std else None

    @property
    def text(self) -> str:
        """Mean ± deviation as printed."""
        return f"{self.mean} ± {self.std}" if self.std else self.mean

    @property
    def place(self) -> tuple[object, ...]:
        """What may be claimed only once."""
        where = (self.dataset, self.ipc, self.method, self.evaluator, self.network, self.label_type)
        return (*where, self.metric, self.source, self.table)


COLUMNS = tuple(column.name for column in fields(Claim))


def path(registry: Path) -> Path:
    """Return where a registry keeps its claims."""
    return registry / FOLDER / FILE


def read(registry: Path) -> Published:
    """Read a registry's claims in file order; none where it has no such file.

    Raises:
        RecordError: anything :func:`load` finds, with the line.
    """
    published, problems = load(registry)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:10])
        raise RecordError(f"{len(problems)} problem{'s' * (len(problems) > 1)} in {FOLDER}:\n{shown}")
    return published


def load(registry: Path) -> tuple[Published, list[Problem]]:
    """Return the good claims of a registry with their sources and aliases, and what is wrong with the others."""
    problems: list[Problem] = []
    try:
        known, wrong = _sources(registry)
        problems += [Problem(f"{FOLDER}/{SOURCES}", message) for message in wrong]
    except RecordError as error:  # no claim can be traced
        return Published(), [Problem(f"{FOLDER}/{SOURCES}", f"{error} No claim is shown.")]
    try:
        names = aliases(registry)
    except RecordError as error:
        names = Aliases()
        problems.append(Problem(f"{FOLDER}/{ALIASES}", str(error)))
    file = path(registry)
    if not os.path.lexists(file):
        return Published((), known, names), problems
    try:
        claims, lines = parse(read_text(file, RecordError), known)
    except RecordError as error:
        claims, lines = [], [str(error)]
    problems += [Problem(f"{FOLDER}/{FILE}", message) for message in lines]
    return Published(tuple(claims), known, names), problems


def parse(text: str, known: Collection[str]) -> tuple[list[Claim], list[str]]:
    """Read CSV text.

    Args:
        text: with the columns :data:`COLUMNS`.
        known: the keys of sources that may be named.

    Returns:
        Good claims, and what is wrong with the others, by line.
    """
    claims: list[Claim] = []
    problems: list[str] = []
    seen: dict[tuple[object, ...], int] = {}
    reader = csv.reader(io.StringIO(text))
    lines = _lines(reader)
    if tuple(next(lines, [])) != COLUMNS:
        return [], [f"line 1: the columns must be {','.join(COLUMNS)}"]
    for cells in lines:
        line = f"line {reader.line_num}"
        if isinstance(cells, csv.Error):
            problems.append(f"{line}: is no line of CSV: {cells}")
            continue
        if len(cells) != len(COLUMNS):
            problems.append(f"{line}: {len(cells)} cells, not {len(COLUMNS)}")
            continue
        row = dict(zip(COLUMNS, cells, strict=True))
        if wrong := _flaw(row, known):
            problems.append(f"{line}: {wrong}")
            continue
        claim = Claim(**{**row, "ipc": None if row["ipc"] == "full" else int(row["ipc"])})
        if claim.place in seen:
            problems.append(f"{line}: claims the same cell as line {seen[claim.place]}")
            continue
        seen[claim.place] = reader.line_num
        claims.append(claim)
    return claims, problems


def _lines(reader: Any) -> Iterator[Any]:
    """Yield the cells of each line, or the error in their place: one faulty line must not hide the others."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield error


def fractions(claims: Sequence[Claim]) -> list[Claim]:
    """Return the accuracies that look like fractions where percent are meant: 0.144 for 14.4.

    Those of a source none of which is above 1, and those below 1 with more decimals than percent are printed with.
    """
    highest: dict[str, float] = {}
    for claim in claims:
        if claim.metric in ACCURACIES:
            highest[claim.source] = max(claim.value, highest.get(claim.source, 0))
    return [
        claim
        for claim in claims
        if claim.metric in ACCURACIES
        and 0 < claim.value <= 1
        and (highest[claim.source] <= 1 or len(claim.mean.partition(".")[2]) > 2)
    ]


def _flaw(row: Mapping[str, str], known: Collection[str]) -> str:
    """Return what is wrong with a line, or ""."""
    for name in COLUMNS:
        if not row[name] and name not in ("std", "note"):
            return f"{name} is empty"
        if row[name] != row[name].strip() or not row[name].isprintable():
            return f"{name} has spaces around it or characters that do not print"
    if row["ipc"] != "full" and not (
        row["ipc"].isascii() and row["ipc"].isdigit() and len(row["ipc"]) < 10 and int(row["ipc"])
    ):
        return f"ipc {row['ipc']!r} is neither a number of images nor 'full'"
    for name, choices in (("kind", KINDS), ("metric", METRICS), ("source", known)):
        if row[name] not in choices:
            return f"{name} {row[name]!r} is not known" + (f" ({SOURCES} does not list it)" if name == "source" else "")
    low = 0.0 if row["metric"] in ACCURACIES else -100.0
    for name, least in (("mean", low), ("std", 0.0)):
        number = _number(row[name] or "0")
        if number is None or not least <= number <= 100:
            return f"{name} {row[name]!r} is no number from {least:g} to 100"
    return ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and set(text) <= set("-.0123456789") else None


def _sources(registry: Path) -> tuple[dict[str, str], list[str]]:
    """Return key → citation from the table of sources.md, and which lines are faulty."""
    file = registry / FOLDER / SOURCES
    if not os.path.lexists(file):
        return {}, []
    lines = iter(enumerate(read_text(file, RecordError).splitlines(), 1))
    citations: dict[str, str] = {}
    problems: list[str] = []
    for _, line in lines:
        if line.startswith("| key |"):
            break
    for number, line in itertools.islice(lines, 1, None):
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.split("|")[1:3]]
        if len(cells) < 2 or not all(cells):
            problems.append(f"line {number}: has no key and citation")
        elif cells[0] in citations:
            problems.append(f"line {number}: lists {cells[0]!r} twice")
        else:
            citations[cells[0]] = cells[1].replace("*", "")
    return citations, problems


def select(claims: Iterable[Claim], **filters: Collection[Any]) -> list[Claim]:
    """Return the claims that match every filter (field name → values); an empty filter lets everything through."""
    wanted = {name: set(values) for name, values in filters.items() if values}
    return [claim for claim in claims if all(getattr(claim, name) in values for name, values in wanted.items())]


def dump(claims: Iterable[Claim]) -> str:
    """Return claims as CSV text, in the order given."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for claim in claims:
        cells = [getattr(claim, name) for name in COLUMNS]
        writer.writerow(["full" if cell is None else cell for cell in cells])
    return text.getvalue()


def add(registry: Path, text: str, *, percent: bool = False) -> tuple[int, list[str]]:
    """Append the new claims of a CSV text to a registry.

    Args:
        registry: its folder.
        text: with the columns :data:`COLUMNS`.
        percent: accuracies that look like fractions are meant in percent.

    Returns:
        How many were added, and what was refused: faulty lines, cells already claimed with another number, and
        accuracies that look like fractions.

    Raises:
        RecordError: the registry's own claims are faulty.
    """
    had = read(registry)
    given, problems = parse(text, had.citations)
    known = {claim.place: claim for claim in had.claims}
    doubtful = () if percent else fractions([claim for claim in given if claim.place not in known])
    problems += [f"{_cell(claim)}: {claim.mean} looks like a fraction; accuracies are in percent" for claim in doubtful]
    new = [claim for claim in given if claim.place not in known and claim not in doubtful]
    for claim in given:
        old = known.get(claim.place)
        if old is not None and old.text != claim.text:
            problems.append(f"{_cell(claim)}: {old.text} is already there, not {claim.text}")
    if new:
        write_atomic(path(registry), dump([*had.claims, *new]))
    return len(new), problems


def _cell(claim: Claim) -> str:
    where = f"{claim.dataset} ipc {claim.ipc or 'full'} {claim.method} {claim.network}"
    return f"{claim.source} {claim.table}, {where}"


class NetworkAlias(Part):
    """A published network name and ddbench's; empty lists mean any."""

    published: str
    ddbench: str
    evaluator: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()


class EvaluatorAlias(Part):
    """A published protocol that is one of ddbench's evaluators with certain options."""

    published: str
    ddbench: str
    options: dict[str, Any] = Field(default={})


class About(Part):
    """What is known of some claims; empty lists mean any, an IPC of the whole data set is never meant."""

    source: tuple[str, ...] = ()
    table: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    evaluator: tuple[str, ...] = ()
    ipc: tuple[int, ...] = ()
    why: str

    def fits(self, claim: Claim) -> bool:
        """Whether a claim is meant."""
        names = ("source", "table", "dataset", "method", "evaluator", "ipc")
        return all(not getattr(self, name) or getattr(claim, name) in getattr(self, name) for name in names)


class Established(About):
    """The protocol of claims whose source does not state it, or that are under it by another name; ``why`` says how."""

    protocol: str


class Rests(About):
    """How many trained networks a claim rests on: distilled sets × networks trained on each."""

    networks: int


class Own(About):
    """Options that the source of a claim sets otherwise than the preset, so that ours are not scaled down by them."""

    options: tuple[str, ...]


class Experiment(About):
    """Claims whose experiment has other words in ddbench, and the options of the method that make it."""

    network: tuple[str, ...] = ()
    label_type: tuple[str, ...] = ()
    ddbench: dict[Literal["method", "network", "label_type"], str]
    options: dict[str, Any] = Field(default={})

    def fits(self, claim: Claim) -> bool:
        """Whether a claim is meant."""
        names = ("network", "label_type")
        return super().fits(claim) and all(getattr(claim, n) in getattr(self, n) for n in names if getattr(self, n))


class Aliases(Part):
    """The content of aliases.toml."""

    network: tuple[NetworkAlias, ...] = ()
    evaluator: tuple[EvaluatorAlias, ...] = ()
    established: tuple[Established, ...] = ()
    rests: tuple[Rests, ...] = ()
    own: tuple[Own, ...] = ()
    explained: tuple[About, ...] = ()
    experiment: tuple[Experiment, ...] = ()

    def experiment_of(self, claim: Claim) -> Experiment | None:
        """Return what a claim's experiment is called in ddbench, where no name or label type says it."""
        return next((known for known in self.experiment if known.fits(claim)), None)

    def established_of(self, claim: Claim) -> Established | None:
        """Return what is known of the protocol of a claim beyond what its source says."""
        return next((known for known in self.established if known.fits(claim)), None)

    def own_of(self, claim: Claim) -> frozenset[str]:
        """Return the options that the source of a claim sets otherwise than the preset."""
        return frozenset(name for known in self.own if known.fits(claim) for name in known.options)

    def network_of(self, claim: Claim) -> str:
        """Return ddbench's name of a claim's network."""
        for alias in self.network:
            fits = (alias.evaluator, claim.evaluator), (alias.dataset, claim.dataset)
            if alias.published == claim.network and all(not names or name in names for names, name in fits):
                return alias.ddbench
        return claim.network

    def protocol_of(self, evaluator: str, options: Mapping[str, Any]) -> str:
        """Return the published name of an evaluator with its options."""
        for alias in self.evaluator:
            if alias.ddbench == evaluator and all(options.get(key) == value for key, value in alias.options.items()):
                return alias.published
        return evaluator

    def options_of(self, protocol: str) -> dict[str, Any]:
        """Return the options that make an evaluator a published protocol."""
        return next((alias.options for alias in self.evaluator if alias.published == protocol), {})


def aliases(registry: Path) -> Aliases:
    """Read ``aliases.toml``; empty where there is none.

    Raises:
        RecordError: not TOML, or keys that are not known.
    """
    file = registry / FOLDER / ALIASES
    if not os.path.lexists(file):
        return Aliases()
    try:
        return Aliases.model_validate(parse_toml(read_text(file, RecordError), ALIASES, RecordError))
    except ValidationError as error:
        raise RecordError(f"{ALIASES} does not fit its schema: {first_flaw(error)}") from error


@dataclass(frozen=True)
class Published:
    """The claims of a registry with what is needed to show them."""

    claims: tuple[Claim, ...] = ()
    citations: Mapping[str, str] = field(default_factory=dict)
    aliases: Aliases = field(default_factory=Aliases)
