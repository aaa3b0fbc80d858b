"""A folder of records: reading it in a fixed order, choosing from it, finding edited, doubled or misplaced ones."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ddbench.errors import RecordError, UsageError
from ddbench.keys import canonical, digest
from ddbench.records import Cell, Record, read

RESULTS = "results"
#: What of the environment changes results in the last digits, and is part of a record's key.
NUMERICS = ("device", "precision")
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


def read_good(path: Path) -> Record:
    """Read one record and refuse it if anything is wrong in it.

    Raises:
        RecordError: unreadable, edited or inconsistent.
    """
    record = read(path)
    if wrong := flaws(record):
        raise RecordError(f"{path.name}: {'; '.join(wrong)}", hint="A faulty record is never shown or compared.")
    return record


def verify(registry: Path) -> list[Problem]:
    """Return everything that is wrong in a registry: unreadable, edited, inconsistent, misplaced or doubled records."""
    return load(registry)[1]


def load(registry: Path) -> tuple[list[Record], list[Problem]]:
    """Read a registry in path order: the good records, and what is wrong with the others.

    Of records that hold the same cell or the same result, the first in its proper place counts as good.
    """
    good: list[Record] = []
    problems: list[Problem] = []
    results: dict[tuple[object, ...], str] = {}
    misplaced: list[tuple[str, Record, str]] = []

    cells: dict[str, str] = {}
    for path in paths(registry):
        where = path.relative_to(registry).as_posix()
        try:
            record = read(path)
        except RecordError as error:
            problems.append(Problem(where, str(error)))
            continue
        if found := flaws(record):
            problems.extend(Problem(where, message) for message in found)
            continue
        expected = (Path(RESULTS) / record.relative_path()).as_posix()
        if where != expected and is_beside(Path(where), Path(expected)):
            if record.key not in cells:  # the other result was taken away
                cells[record.key] = where
                good.append(record)
        elif where != expected:
            misplaced.append((where, record, expected))
        elif same := cells.get(record.key):
            problems.append(Problem(where, f"is the same cell as {same}"))
        elif same := results.get(mark := _result_mark(record)):
            problems.append(Problem(where, f"is the same result as {same}"))
        else:
            cells[record.key] = results[mark] = where
            good.append(record)
    for where, record, expected in misplaced:
        problems.append(Problem(where, f"belongs at {expected}"))
        if record.key in cells:
            problems.append(Problem(where, f"is the same cell as {cells[record.key]}"))
    return good, sorted(problems, key=lambda problem: problem.path)


def is_beside(path: Path, usual: Path) -> bool:
    """Return whether a file is the place of another result of the same cell, which tables do not count."""
    return (
        path.parent == usual.parent
        and re.fullmatch(re.escape(usual.stem) + r"_[0-9a-f]{8}\.json", path.name) is not None
    )


def record_key(cell: Cell, numerics: Mapping[str, str]) -> str:
    """Return the key of a cell on a kind of machine; presets only name options, which count themselves."""
    return digest({"cell": cell.model_dump(mode="json", exclude={"preset"}), "numerics": dict(numerics)})


def _result_mark(record: Record) -> tuple[object, ...]:
    """What no two records share unless one is a copy: the networks' answers on the same distilled set."""
    result = record.result
    cell = record.cell
    made = record.distilled.digest, record.protocol.digest, canonical(cell.other_options)
    return (*made, cell.evaluator.name, cell.network, cell.evaluation_seed, *result.last, *result.correct)


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
    cell, protocol = record.cell, record.protocol
    names = {
        "data set": cell.dataset.get("name"),
        "method": cell.method.name,
        "evaluator": cell.evaluator.name,
        "network": cell.network,
    }
    for kind, name in names.items():
        if not (isinstance(name, str) and name and name.isprintable()):
            found.append(f"its {kind} has no printable name")
        elif len(name.encode()) > LONGEST_NAME:
            found.append(f"its {kind} has a name longer than {LONGEST_NAME} bytes")
    missing = [name for name in DATASET_FACTS if name not in cell.dataset]
    if missing:
        found.append(f"its data set lacks {', '.join(missing)}")
    wrong = [name for name, kind in DATASET_FACTS.items() if not isinstance(cell.dataset.get(name, kind()), kind)]
    if wrong:
        found.append(f"its data set says nothing usable as {', '.join(wrong)}")
    if cell.ipc is not None and cell.ipc < 1:
        found.append(f"its budget of {cell.ipc} images per class is none")
    if not set(record.distilled.key + record.distilled.digest) <= set("0123456789abcdef"):
        found.append("its distilled set's key or digest is not hexadecimal")
    found += _cost_flaws(record)
    if found:
        return found
    try:
        if record.computed_digest() != record.digest:
            found.append("its content does not match its digest: it was edited after it was written")
        if digest({"settings": protocol.settings, "extension": protocol.extension})[:16] != protocol.digest:
            found.append("its protocol does not match the protocol's digest")
        numerics = {name: str(record.environment.get(name, "")) for name in NUMERICS}
        if record_key(cell, numerics) != record.key:
            found.append("its key does not fit its cell and machine")
        json.dumps([record.costs.model_dump(), record.environment], allow_nan=False)
    except (ValueError, TypeError) as error:
        return [f"a number in it is not finite: {error}"]
    return found + _result_flaws(record)


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
    found: list[str] = []
    accuracies = [*result.values, *result.last, *(value for value in result.best if value is not None)]
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in accuracies):
        found.append("an accuracy lies outside [0, 1]")
    if result.selection == "last" and result.values != result.last:
        found.append("its selection is 'last' but its values are not the last accuracies")
    packed = 4 * -(-result.test_images // 24)  # base64 of one bit per image; whole numbers, for these may be huge
    for repeat, last in enumerate(result.last):
        if len(result.correct[repeat]) != packed:
            found.append(f"the per-image correctness of repeat {repeat} cannot be read: it is not of every test image")
            continue
        try:
            # Counting bits is ten times faster than unpacking them, and padding bits that are set are found as well.
            bits = base64.b64decode(result.correct[repeat], validate=True)
            measured = int.from_bytes(bits, "big").bit_count() / result.test_images
        except ValueError as error:
            found.append(f"the per-image correctness of repeat {repeat} cannot be read: {error}")
            continue
        if not abs(measured - last) <= 1e-6:
            found.append(f"repeat {repeat} reports {last:.4f} but its per-image correctness averages {measured:.4f}")
    return found
