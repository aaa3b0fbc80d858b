"""Records between registries: writing without loss, import from and export to another folder or CSV."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ddbench import escaping
from ddbench.errors import RecordError, UsageError
from ddbench.files.folders import clear, taken, whole_folder
from ddbench.files.locks import patiently, silent
from ddbench.files.writing import write_atomic, writing
from ddbench.results import schema
from ddbench.results.collection import COLUMNS, rows
from ddbench.results.registry import RESULTS, Problem, flaws, is_beside, paths, record_files, relative
from ddbench.results.schema import Record

LOCK = ".lease"


@dataclass
class Report:
    """What an import did, by paths below ``registry/results``."""

    added: list[str] = field(default_factory=list)
    extended: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    refused: list[Problem] = field(default_factory=list)


@contextlib.contextmanager
def locked(registry: Path, tell: Callable[[str], None] = silent) -> Iterator[None]:
    """Let one process at a time read and write a registry's records; the others wait, and say so.

    Raises:
        StorageError: the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        with writing(registry / LOCK):
            held.enter_context(patiently(registry / LOCK, lambda: f"writing to the registry {registry.name}", tell))
        yield


def keep(record: Record, registry: Path, warn: Callable[[str], None]) -> Record:
    """Write a record, unless the registry already has the same result or one with more repeats; safe among processes.

    No record is ever replaced by one that is not the same experiment with more repeats: another result of the same cell
    (made on another machine, with other versions, or from another distilled set) is kept beside the first.

    Args:
        record: freshly made.
        registry: its folder.
        warn: called when another result of the same cell is there.

    Returns:
        What the registry holds now.
    """
    with locked(registry, warn):
        usual = registry / RESULTS / record.relative_path()
        for path in _places(usual):
            try:
                old = schema.read(path)
            except RecordError as error:
                warn(f"{error} The file is left as it is.")
                continue
            if extends(old, record):
                return old if len(old.result.values) > len(record.result.values) else record
            if extends(record, old):
                write_atomic(path, record.dump())
                return record
            if path == usual:
                warn(
                    f"{path.name} is another result of the same cell: {old.mean:.2%}, made by ddbench"
                    f" {old.environment.get('ddbench')} on {old.environment.get('processor')}. This one,"
                    f" {record.mean:.2%}, is kept beside it; tables count the first (remove its file to count this one)"
                )
        write_atomic(registry / RESULTS / record.relative_path(beside=usual.exists()), record.dump())
    return record


def path_of(record: Record, registry: Path) -> Path:
    """Return the file of a record that :func:`keep` returned."""
    usual = registry / RESULTS / record.relative_path()
    for path in _places(usual):
        with contextlib.suppress(RecordError):
            if schema.read(path).digest == record.digest:
                return path
    return usual


def _places(usual: Path) -> Iterator[Path]:
    """Yield the files that hold results of a cell: the usual one, then those beside it, for which a folder is read."""
    if usual.exists():
        yield usual
    for path in sorted(usual.parent.glob(f"{glob.escape(usual.stem)}_*.json")):
        if is_beside(path, usual):
            yield path


def extends(longer: Record, shorter: Record) -> bool:
    """Return whether a record holds the runs of another, and perhaps more."""
    count = len(shorter.result.last)
    return (
        longer.distilled.digest == shorter.distilled.digest
        and longer.protocol.digest == shorter.protocol.digest
        and longer.result.last[:count] == shorter.result.last
        and longer.result.correct[:count] == shorter.result.correct
        and longer.computed_digest() == longer.digest
    )


def import_records(source: Path, registry: Path, *, replace: bool = False) -> Report:
    """Copy records of another registry, a folder of records or one record; faulty and contradicting ones are refused.

    Args:
        source: a registry (with ``results/``), any folder of records, or a file.
        registry: where they go.
        replace: let a contradicting record take the place of ours.

    Raises:
        UsageError: nothing there.
    """
    single = not source.is_dir()
    files, unread = ([source], []) if single else record_files(source / RESULTS)
    if not (files or unread):
        files, unread = record_files(source)
    if not (files or unread):
        raise UsageError(f"{source} holds no record.", hint="Name a registry, a folder of records or a record.")
    report = Report(refused=[Problem(relative(path, source), message) for path, message in unread])
    for file in files:
        where = file.name if single else relative(file, source)
        try:
            record = schema.read(file)
        except RecordError as error:
            report.refused.append(Problem(where, str(error)))
            continue
        if wrong := flaws(record):
            report.refused.append(Problem(where, "; ".join(wrong)))
            continue
        # Reading and checking may take long: others write meanwhile, and between any two records.
        with locked(registry):
            _import(record, where, registry, report, replace)
    return report


def _import(record: Record, where: str, registry: Path, report: Report, replace: bool) -> None:
    usual = record.relative_path()
    name = record.relative_path(beside=is_beside(usual.with_name(Path(where).name), usual)).as_posix()
    path = registry / RESULTS / name
    kind = report.added
    if path.exists():
        try:
            old = schema.read(path)
        except RecordError as error:
            report.refused.append(Problem(where, f"ours at {name} is invalid: {error}"))
            return
        if extends(old, record):
            report.same.append(name)
            return
        kind = report.extended if extends(record, old) else report.replaced
        if kind is report.replaced and not replace:
            message = f"contradicts ours at {name}: {record.mean:.2%} there, {old.mean:.2%} here"
            report.refused.append(Problem(where, message))
            return
    write_atomic(path, record.dump())
    kind.append(name)


def to_folder(records: Iterable[Record], folder: Path) -> int:
    """Write records as a registry of its own, all of them or none, and return their number.

    Raises:
        UsageError: the folder holds other records already.
    """
    texts = {record.relative_path(): record.dump().encode() for record in records}
    results = folder / RESULTS
    if there := paths(folder):
        clear(results)
        if {path.relative_to(results): path.read_bytes() for path in there if path.is_file()} != texts:
            raise UsageError(
                f"{folder} holds records already.", hint="Choose a new folder, or `registry import` there."
            )
        return len(texts)
    with whole_folder(results) as partial:
        for name, text in texts.items():
            write_atomic(partial / name, text)
    return len(texts)


def to_csv_file(records: Iterable[Record], path: Path) -> int:
    """Write one line per trained network to a file that does not exist yet, and return the number of records.

    Raises:
        UsageError: the file exists.
    """
    if os.path.lexists(path):
        raise taken(path)
    listed = list(records)
    write_atomic(path, to_csv(listed))
    return len(listed)


def to_csv(records: Iterable[Record]) -> str:
    """Return one line per trained network, as :func:`ddbench.results.collection.rows` has them."""
    return escaping.csv_text([COLUMNS, *rows(records)])
