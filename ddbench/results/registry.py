"""A folder of records: reading it in a fixed order, choosing from it, finding edited, doubled or misplaced ones."""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddbench.errors import RecordError, UsageError
from ddbench.keys import digest
from ddbench.results.consistency import LARGEST, contradictions, unusable
from ddbench.results.runs import telling
from ddbench.results.schema import NUMERICS, Record, protocol_digest, read, record_key

RESULTS = "results"
#: What every record says about its data set, and the kind of value.
DATASET_FACTS: Mapping[str, type] = {
    "fingerprint": str,
    "image_size": int,
    "channels": int,
    "num_classes": int,
    "class_ids": list,
    "train_images": int,
    "test_images": int,
}
#: Bytes of a name at most: a record's file is named after three of them, and a file system takes 255.
LONGEST_NAME = 80


def check_name(name: str, hint: str) -> None:
    """Refuse a name that no record can have, before anything is measured for it.

    Raises:
        UsageError: it is too long or not printable.
    """
    if not (name and name.isprintable() and len(name.encode()) <= LONGEST_NAME):
        raise UsageError(f"{name!r} cannot be a name in a record: at most {LONGEST_NAME} printable bytes.", hint=hint)


def check_seed(seed: int) -> None:
    """Refuse a seed that no record can have, before anything is measured for it.

    Raises:
        UsageError: below zero or endless.
    """
    if not 0 <= seed < LARGEST:
        raise UsageError(f"{seed} is not a valid seed: seeds are whole numbers from 0.", hint="Take 0, 1, 2, …")


@dataclass(frozen=True)
class Problem:
    """What is wrong with one record; ``path`` is relative to the registry."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def paths(registry: Path) -> list[Path]:
    """Return the record files below ``registry/results``, sorted by their relative path."""
    return record_files(registry / RESULTS)[0]


def record_files(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return the files below a folder that are called as records are, sorted, and the folders that cannot be read."""
    unread: list[tuple[Path, str]] = []
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            unread.append((Path(error.filename), f"cannot be read: {error.strerror}"))

    for place, folders, names in os.walk(folder, onerror=failed, followlinks=True):
        try:
            about = Path(place).stat()
        except OSError as error:
            failed(error)
            continue
        if (about.st_dev, about.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        files += [Path(place, name) for name in (*names, *folders) if name.endswith(".json")]
    return sorted(files, key=Path.as_posix), unread


def relative(path: Path, folder: Path) -> str:
    """Return a path below a folder as text that can be printed, whatever bytes its name has."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def select(
    records: Iterable[Record],
    *,
    dataset: Collection[str] = (),
    method: Collection[str] = (),
    evaluator: Collection[str] = (),
    network: Collection[str] = (),
    ipc: Collection[int | None] = (),
    seed: Collection[int] = (),
) -> Iterator[Record]:
    """Yield the records that match every filter; an empty filter lets everything through."""
    for record in records:
        cell = record.cell
        facts = (
            (dataset, cell.dataset["name"]),
            (method, cell.method.name),
            (evaluator, cell.evaluator.name),
            (network, cell.network),
            (ipc, cell.ipc),
            (seed, cell.seed),
        )
        if all(not wanted or fact in wanted for wanted, fact in facts):
            yield record


def no_records(registry: Path, filters: Mapping[str, Collection[Any]]) -> UsageError:
    """Return the error that a registry holds no record, or none that the filters let through."""
    if any(filters.values()):
        return UsageError(
            f"No record in {registry} matches these filters.", hint="`ddbench leaderboard` shows what there is."
        )
    return UsageError(
        f"There are no records in {registry}.",
        hint="Make some with `ddbench run`, or name another folder with --registry.",
    )


def read_good(path: Path) -> Record:
    """Read one record and refuse it if anything is wrong in it.

    Raises:
        RecordError: unreadable, edited or inconsistent.
    """
    record = read(path)
    if wrong := flaws(record):
        raise RecordError(f"{path.name}: {'; '.join(wrong)}", hint="Invalid records are never shown or compared.")
    return record


@dataclass(frozen=True)
class Checked:
    """What looking at every record of a registry found.

    Attributes:
        records: how many are in order.
        problems: what is wrong with the others.
        notes: what is right, but good to know: records whose networks count once.
    """

    records: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


def check(registry: Path) -> Checked:
    """Look at every record of a registry, one after the other: what it takes hardly grows with their number."""
    problems: list[Problem] = []
    networks: dict[str, str] = {}
    answers: dict[str, tuple[str, str]] = {}
    notes: list[Problem] = []
    count = 0
    for where, record in scan(registry, problems):
        count += 1
        first = networks.setdefault(_networks(record), where)
        own = where, record.distilled.digest
        same, images = answers.setdefault(_answers(record), own) if telling(record) else own
        if first != where:
            notes.append(Problem(where, f"has the same images and seeds as {first}: their networks count once"))
        elif same == where and telling(record) and len(set(record.result.correct)) < len(record.result.correct):
            notes.append(Problem(where, "has networks that are right on exactly the same test images: they count once"))
        elif images != record.distilled.digest:
            notes.append(
                Problem(where, f"is right on exactly the same test images as {same}, with other images: a copy?")
            )
    return Checked(count, _sorted(problems), tuple(notes))


def load(
    registry: Path, *, without: Collection[str] = (), **filters: Collection[Any]
) -> tuple[list[Record], list[Problem]]:
    """Read a registry in path order: the good records, and what is wrong with the others.

    Args:
        registry: its folder; one that does not exist is empty.
        without: parts of results that are not needed, so that large registries fit into memory: ``curves`` are left
            empty, of ``correct`` only short digests are kept.
        filters: of :func:`select`; what does not match is not kept in memory.
    """
    problems: list[Problem] = []
    pool = Pool()
    good = (record for _, record in scan(registry, problems))
    records = [pool.shared(record, without) for record in select(good, **filters)]
    return records, list(_sorted(problems))


def scan(registry: Path, problems: list[Problem]) -> Iterator[tuple[str, Record]]:
    """Yield the good records of a registry with their paths relative to it, in path order, one at a time.

    Of records that hold the same cell, the first in its proper place counts as good.

    Args:
        registry: its folder.
        problems: receives what is wrong with the others; complete when all are read.
    """
    misplaced: list[tuple[str, str, str]] = []
    cells: dict[str, str] = {}
    files, unread = record_files(registry / RESULTS)
    problems += [Problem(relative(path, registry), message) for path, message in unread]
    for path in files:
        where = relative(path, registry)
        try:
            record = read(path)
        except RecordError as error:
            problems.append(Problem(where, str(error)))
            continue
        if wrong := flaws(record):
            problems.extend(Problem(where, message) for message in wrong)
            continue
        expected = (Path(RESULTS) / record.relative_path()).as_posix()
        if where != expected and is_beside(Path(where), Path(expected)):
            if record.key not in cells:  # the other result was taken away
                cells[record.key] = where
                yield where, record
        elif where != expected:
            misplaced.append((where, record.key, expected))
        elif same := cells.get(record.key):
            problems.append(Problem(where, f"is the same cell as {same}"))
        else:
            cells[record.key] = where
            yield where, record
    for where, key, expected in misplaced:
        problems.append(Problem(where, f"belongs at {expected}"))
        if key in cells:
            problems.append(Problem(where, f"is the same cell as {cells[key]}"))


def _sorted(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.path))


def _networks(record: Record) -> str:
    """Return what records whose networks count once share: method, images, seed, protocol and network under test.

    Two methods may come to the same images, as Herding and K-Center do at one per class: each has its result.
    """
    cell = record.cell
    made = cell.method.name, record.distilled.digest, record.protocol.digest, cell.other_options
    return digest([*made, cell.evaluator.name, cell.network, cell.evaluation_seed])


def _answers(record: Record) -> str:
    """Return which test images the networks of a record got right."""
    return digest([record.cell.dataset["fingerprint"], record.result.correct])


class Pool:
    """Tables that many records share (the facts of a data set, options, settings), each in memory once."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    def shared(self, record: Record, without: Collection[str] = ()) -> Record:
        """Return the record with shared tables, and without the parts of its result that are not needed."""
        cell, protocol = record.cell, record.protocol
        plugins = {
            name: part.model_copy(update={"options": self._one(part.options), "explicit": self._one(part.explicit)})
            for name, part in (("method", cell.method), ("evaluator", cell.evaluator))
        }
        shortened: dict[str, Any] = {}
        if "curves" in without:
            shortened["curves"] = [[] for _ in record.result.curves]
        if "correct" in without:  # enough to tell networks apart
            shortened["correct"] = [digest(text)[:16] for text in record.result.correct]
        return record.model_copy(
            update={
                "cell": cell.model_copy(update={"dataset": self._one(cell.dataset), **plugins}),
                "protocol": protocol.model_copy(update={"settings": self._one(protocol.settings)}),
                "environment": self._one(record.environment),
                "result": record.result.model_copy(update=shortened) if shortened else record.result,
            }
        )

    def _one(self, table: dict[str, Any]) -> dict[str, Any]:
        return self._known.setdefault(json.dumps(table), table)


def is_beside(path: Path, usual: Path) -> bool:
    """Return whether a file is the place of another result of the same cell, which tables do not count."""
    return (
        path.parent == usual.parent
        and re.fullmatch(re.escape(usual.stem) + r"_[0-9a-f]{8}\.json", path.name) is not None
    )


def flaws(record: Record) -> list[str]:
    """Return what is wrong inside one record."""
    wrong: list[str] = []
    cell, protocol = record.cell, record.protocol
    names = {
        "data set": cell.dataset.get("name"),
        "method": cell.method.name,
        "evaluator": cell.evaluator.name,
        "network": cell.network,
    }
    for kind, name in names.items():
        if not (isinstance(name, str) and name and name.isprintable()):
            wrong.append(f"its {kind} has no printable name")
        elif len(name.encode()) > LONGEST_NAME:
            wrong.append(f"its {kind} has a name longer than {LONGEST_NAME} bytes")
    missing = [name for name in DATASET_FACTS if name not in cell.dataset]
    if missing:
        wrong.append(f"its data set lacks {', '.join(missing)}")
    invalid = [name for name, kind in DATASET_FACTS.items() if not isinstance(cell.dataset.get(name, kind()), kind)]
    if invalid:
        wrong.append(f"its data set has no valid {', '.join(invalid)}")
    if cell.ipc is not None and not 0 < cell.ipc < LARGEST:
        wrong.append(f"its IPC of {cell.ipc} is not a possible number of images per class")
    if not set(record.distilled.key + record.distilled.digest) <= set("0123456789abcdef"):
        wrong.append("its distilled set's key or digest is not hexadecimal")
    wrong += _cost_flaws(record)
    if wrong:
        return wrong
    if reason := unusable(_tables(record)):
        return [reason]
    try:
        if record.computed_digest() != record.digest:
            wrong.append("its content does not match its digest: it was edited after it was written")
        if protocol_digest(protocol) != protocol.digest:
            wrong.append("its protocol does not match the protocol's digest")
        numerics = {name: str(record.environment.get(name, "")) for name in NUMERICS}
        if record_key(cell, numerics) != record.key:
            wrong.append("its key does not fit its cell and machine")
    except (ValueError, TypeError, RecursionError) as error:
        return [f"a number in it is not finite: {error}"]
    return wrong + (_result_flaws(record) or contradictions(record))


def _tables(record: Record) -> list[Any]:
    """Return what of a record may hold anything."""
    cell, made, costs = record.cell, record.distilled, record.costs
    plugins = [table for part in (cell.method, cell.evaluator) for table in (part.options, part.explicit)]
    tables = [cell.dataset, cell.other_options, *plugins, record.protocol.settings, record.shrunk, record.environment]
    numbers = [costs.distill_seconds, costs.evaluate_seconds, costs.peak_bytes, costs.bytes_images, costs.bytes_labels]
    return [*tables, made.extra, made.shape, made.count, costs.steps, numbers, record.result.metrics]


def _cost_flaws(record: Record) -> list[str]:
    costs = record.costs
    seconds = [step.get("seconds", 0) for step in costs.steps]
    if not all(isinstance(value, int | float) for value in seconds):
        return ["a step's seconds are no number"]
    amounts = [costs.distill_seconds or 0, costs.evaluate_seconds, costs.bytes_images, costs.bytes_labels, *seconds]
    return ["a cost is negative"] * any(amount < 0 for amount in [*amounts, costs.peak_bytes or 0])


def _result_flaws(record: Record) -> list[str]:
    result = record.result
    count = len(result.values)
    lists = {name: len(getattr(result, name)) for name in ("last", "best", "curves", "metrics", "correct")}
    if not count:
        return ["it holds no value"]
    if result.test_images < 1:
        return ["it was tested on no image"]
    if any(length != count for length in lists.values()):
        return [f"it holds {count} values but " + ", ".join(f"{n} {name}" for name, n in lists.items() if n != count)]
    wrong: list[str] = []
    accuracies = [*result.values, *result.last, *(value for value in result.best if value is not None)]
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in accuracies):
        wrong.append("an accuracy lies outside [0, 1]")
    if result.selection == "last" and result.values != result.last:
        wrong.append("its selection is 'last' but its values are not the last accuracies")
    packed = 4 * -(-result.test_images // 24)  # base64 of one bit per image; whole numbers, for these may be huge
    for repeat, last in enumerate(result.last):
        if len(result.correct[repeat]) != packed:
            wrong.append(f"the per-image correctness of repeat {repeat} cannot be read: it is not of every test image")
            continue
        try:
            # Counting bits is ten times faster than unpacking them, and padding bits that are set are found as well.
            bits = base64.b64decode(result.correct[repeat], validate=True)
            measured = int.from_bytes(bits, "big").bit_count() / result.test_images
        except ValueError as error:
            wrong.append(f"the per-image correctness of repeat {repeat} cannot be read: {error}")
            continue
        if not abs(measured - last) <= 1e-6:
            wrong.append(f"repeat {repeat} reports {last:.4f} but its per-image correctness averages {measured:.4f}")
    return wrong
