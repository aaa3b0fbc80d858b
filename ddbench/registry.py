"""A folder of records: reading it in a fixed order, choosing from it, finding edited or misplaced ones."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ddbench.errors import DDBenchError, RecordError
from ddbench.keys import digest
from ddbench.records import Record, read

RESULTS = "results"


@dataclass(frozen=True)
class Problem:
    """What is wrong with one record; ``path`` is relative to the registry."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def paths(registry: Path) -> list[Path]:
    """Return the record files below ``registry/results``, sorted by their relative path."""
    results = registry / RESULTS
    return sorted(results.glob("**/*.json"), key=lambda path: path.relative_to(results).as_posix())


def read_all(registry: Path) -> list[Record]:
    """Read every record of a registry, in path order; a registry that does not exist is empty.

    Raises:
        RecordError: a file that cannot be read as a record.
    """
    return [read(path) for path in paths(registry)]


def select(
    records: Iterable[Record],
    *,
    dataset: Collection[str] = (),
    method: Collection[str] = (),
    evaluator: Collection[str] = (),
    network: Collection[str] = (),
    ipc: Collection[int | None] = (),
) -> list[Record]:
    """Return the records that match every filter; an empty filter lets everything through."""

    def chosen(record: Record) -> bool:
        cell = record.cell
        facts = (
            (dataset, cell.dataset["name"]),
            (method, cell.method.name),
            (evaluator, cell.evaluator.name),
            (network, cell.network),
            (ipc, cell.ipc),
        )
        return all(not wanted or fact in wanted for wanted, fact in facts)

    return [record for record in records if chosen(record)]


def verify(registry: Path) -> list[Problem]:
    """Return everything that is wrong in a registry: unreadable, edited, inconsistent, misplaced or doubled records."""
    problems: list[Problem] = []
    seen: dict[str, list[str]] = defaultdict(list)
    for path in paths(registry):
        where = path.relative_to(registry).as_posix()
        try:
            record = read(path)
        except RecordError as error:
            problems.append(Problem(where, str(error)))
            continue
        problems.extend(Problem(where, message) for message in flaws(record))
        expected = (Path(RESULTS) / record.relative_path()).as_posix()
        if where != expected:
            problems.append(Problem(where, f"belongs at {expected}"))
        seen[record.key].append(where)
    for places in seen.values():
        problems.extend(Problem(place, f"is the same cell as {places[0]}") for place in places[1:])
    return problems


def require_valid(registry: Path) -> None:
    """Refuse a registry with anything wrong in it.

    Raises:
        RecordError: the first problems, by file.
    """
    if problems := verify(registry):
        shown = "\n".join(f"  {problem}" for problem in problems[:10])
        more = f"\n  … and {len(problems) - 10} more" if len(problems) > 10 else ""
        plural = "s" if len(problems) > 1 else ""
        raise RecordError(
            f"{len(problems)} problem{plural} in the records of {registry.name}/{RESULTS}:\n{shown}{more}",
            hint="Run these cells again, or move the files out of the registry.",
        )


def flaws(record: Record) -> list[str]:
    """Return what is wrong inside one record."""
    found: list[str] = []
    if record.computed_digest() != record.digest:
        found.append("its content does not match its digest: it was edited after it was written")
    protocol = record.protocol
    if digest({"settings": protocol.settings, "extension": protocol.extension})[:16] != protocol.digest:
        found.append("its protocol does not match the protocol's digest")
    return found + _result_flaws(record)


def _result_flaws(record: Record) -> list[str]:
    result = record.result
    count = len(result.values)
    lists = {name: len(getattr(result, name)) for name in ("last", "best", "curves", "metrics", "correct")}
    if not count:
        return ["it holds no value"]
    if any(length != count for length in lists.values()):
        return [f"it holds {count} values but " + ", ".join(f"{n} {name}" for name, n in lists.items() if n != count)]
    found: list[str] = []
    accuracies = [*result.values, *result.last, *(value for value in result.best if value is not None)]
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in accuracies):
        found.append("an accuracy lies outside [0, 1]")
    if result.selection == "last" and result.values != result.last:
        found.append("its selection is 'last' but its values are not the last accuracies")
    for repeat, last in enumerate(result.last):
        try:
            measured = float(result.correct_bits(repeat).mean())
        except (ValueError, DDBenchError) as error:
            found.append(f"the per-image correctness of repeat {repeat} cannot be read: {error}")
            continue
        if not abs(measured - last) <= 1e-6:
            found.append(f"repeat {repeat} reports {last:.4f} but its per-image correctness averages {measured:.4f}")
    return found
