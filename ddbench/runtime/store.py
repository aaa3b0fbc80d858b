"""The content-addressed store: every finished step is a folder named by the digest of what it depends on.

A step is built in ``<key>.partial`` (which also keeps its checkpoints), and renamed to ``<key>`` when it is done, so a
finished folder is always complete and a killed one resumes where it stopped. Checkpoints and the files of finished
steps carry digests, so that a damaged one is named and never used. Nothing but ddbench's own is ever deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ddbench.errors import DataError, StorageError
from ddbench.files.locks import Taken, check, leased, patiently, silent
from ddbench.files.writing import explained, sync, sync_entry, write_atomic, writing
from ddbench.keys import digest
from ddbench.runtime import metrics, uses

if TYPE_CHECKING:
    from filelock import SoftFileLease

#: The done marker and description of a finished step.
MARKER = "step.json"
#: A checkpoint's name holds its number and its SHA-256: ``checkpoint-<number>-<digest>.pt``.
CHECKPOINT = re.compile(r"checkpoint-(\d+)-([0-9a-f]{64})\.pt")
#: A checkpoint while it is written.
UNFINISHED = "checkpoint.tmp"
#: Checkpoints of former releases, which had no digest and are not used.
OLD = ("checkpoint.pt", "checkpoint.pt.tmp")
#: Who builds a step, for those who wait for it.
OWNER = "owner.json"
#: Files up to this size are read whole when a step is found finished; of larger ones, size and ends are compared.
WHOLE = 64 * 2**20
#: Bytes at either end of a larger file.
ENDS = 2**20
#: Where a checkpoint notes how much of the step's metrics belongs to it.
_METRICS = "ddbench: bytes of metrics"


def _unchecked() -> None:
    """Stand for a check where nobody can take a step over."""


def _unheard(step: Path, missing: int) -> None:
    """Tell nobody of shards."""


class NotMade(DataError):
    """Something is asked for that only a run makes, and this is a plan."""


class StepTaken(StorageError):
    """Another process is building a step, and this one does not wait.

    Attributes:
        path: where the step will be.
    """

    def __init__(self, name: str, path: Path, holder: str) -> None:
        super().__init__(f"The step {name} is being built by another process ({holder}).")
        self.path = path


class _Digesting:
    """A file that is written and digested at once; ``failure`` is what kept it from being written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.file.flush()


@dataclass
class Step:
    """A step while it is being built: a folder to write results into, and a checkpoint that survives a kill.

    Attributes:
        name, key: what it is and the digest of what it depends on.
        dir: where the builder writes its files.
        info: plain data the builder wants in the marker (figures, counts); readable later from ``step.json``.
        costs: what it cost; ``bytes_labels``, of labels that students need besides the distilled set, adds to a
            record's ``bytes_labels``.
        effort: what its time grows with, on which machine, and the modules imported, for
            :mod:`ddbench.runtime.estimates`.
        about: what a user may want to know of it, such as the ``dataset`` it belongs to.
        journal: what the step's loops say, by ``ctx.progress``.
        shards: of a step that is made in shards, those, finished and in order.
        inside: seconds spent in steps that were built inside this one, so that no second is billed twice.
        warn: called for a damaged checkpoint.
        check: raises where another process has taken the step over.
    """

    name: str
    key: str
    dir: Path
    info: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)
    effort: dict[str, Any] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    journal: metrics.Journal = field(init=False, repr=False)
    shards: Sequence[Done] = ()
    inside: float = field(default=0.0, init=False)
    warn: Callable[[str], None] = silent
    check: Callable[[], None] = _unchecked

    def __post_init__(self) -> None:
        self.journal = metrics.Journal(self.dir)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is this process's own."""
        return {**self.__dict__, "warn": silent, "check": _unchecked}

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a checkpoint of tensors and plain data (replaces the last one, once it is on the disk)."""
        import torch

        self.check()
        before = self.checkpoints()
        number = 1 + max((number for number, _, _ in before), default=0)
        with explained(self.dir):
            temporary = self.dir / UNFINISHED
            try:
                with temporary.open("wb") as file:
                    written = _Digesting(file)
                    torch.save({**state, _METRICS: self.journal.size}, written)
                    file.flush()
                    os.fsync(file.fileno())
            except (OSError, RuntimeError):
                temporary.unlink(missing_ok=True)
                if written.failure:  # torch says that a file ended where it should not
                    raise written.failure from None
                raise
            temporary.rename(self.dir / f"checkpoint-{number}-{written.digest.hexdigest()}.pt")
            sync_entry(self.dir)
        for _, _, path in before:
            path.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Return the last checkpoint, or None. One that is not what was written is named, and the step begins again."""
        import torch

        for _, content, path in self.checkpoints():
            with path.open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == content
            if whole:
                state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
                self.journal.resume(state.pop(_METRICS, 0))
                return state
            self.warn(f"the checkpoint of {self.name} in {self.dir} is damaged and is not used: {path.name}")
        return None

    def checkpoints(self) -> list[tuple[int, str, Path]]:
        """Return the checkpoints that are there, by number, digest and file; the newest first."""
        names = [(CHECKPOINT.fullmatch(path.name), path) for path in self.dir.glob("checkpoint-*.pt")]
        return sorted(((int(name[1]), name[2], path) for name, path in names if name), reverse=True)


@dataclass(frozen=True)
class Done:
    """A finished step.

    Attributes:
        name: what it is.
        key: digest of what it depends on.
        dir: its files.
        marker: what ``step.json`` in it holds: the builder's ``info``, costs, size and digest of every file.
        reused: whether it was there already.
    """

    name: str
    key: str
    dir: Path
    marker: Mapping[str, Any]
    reused: bool

    @property
    def info(self) -> Mapping[str, Any]:
        """What the builder noted."""
        info: Mapping[str, Any] = self.marker["info"]
        return info

    @property
    def seconds(self) -> float:
        """Seconds of work that building took, over all its sittings."""
        return float(self.marker["seconds"])

    def cost(self) -> dict[str, Any]:
        """Return what this step cost by itself: steps that were built inside it have bills of their own."""
        costs = dict(self.marker["costs"])
        own = max(0.0, self.seconds - costs.pop("inside_seconds", 0.0))
        return {"step": self.name, "key": self.key[:20], "seconds": round(own, 3), **costs}


@dataclass
class Build:
    """What :meth:`Store.building` is at: ``step`` is None where nothing is to be built; ``done`` is set in the end."""

    step: Step | None = None
    done: Done = field(init=False)


class Store:
    """Finished steps under one root folder.

    Attributes:
        root: the folder.
        warn: called for damaged checkpoints, and while a step waits for another process.
        waits: whether to wait for a step that another process is building; :class:`StepTaken` is raised otherwise.
        divides: told of a step of which shards are made, by its folder, and how many were missing; 0 in the end.
    """

    def __init__(self, root: Path, warn: Callable[[str], None] = silent, *, waits: bool = True) -> None:
        self.root, self.warn, self.waits = root, warn, waits
        self.divides: Callable[[Path, int], None] = _unheard
        self._checked: set[Path] = set()

    def path(self, name: str, key: str) -> Path:
        """Return where a step's folder is or would be."""
        return self.root / name / key[:20]

    def get(self, name: str, inputs: Mapping[str, Any]) -> Done | None:
        """Return the finished step for these inputs, or None."""
        key = digest(inputs)
        return self._finished(name, key, self.path(name, key), reused=True)

    def started(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Return whether an unfinished build of this step can be resumed."""
        path = self.path(name, digest(inputs))
        return path.with_name(path.name + ".partial").exists()

    def spent(self, name: str, inputs: Mapping[str, Any]) -> float:
        """Return the seconds of work in an unfinished build, as far as it noted them."""
        path = self.path(name, digest(inputs))
        return _spent(path.with_name(path.name + ".partial"))

    def finished(self, name: str) -> Iterator[Done]:
        """Yield every finished step of a kind."""
        for path in sorted((self.root / name).glob(f"*/{MARKER}")):
            with contextlib.suppress(DataError):
                marker = _read_marker(path)
                if str(marker.get("key", ""))[:20] == path.parent.name:
                    yield Done(name, marker["key"], path.parent, marker, reused=True)

    def build(
        self, name: str, inputs: Mapping[str, Any], builder: Callable[[Step], None], *, force: bool = False
    ) -> Done:
        """Return the finished step; ``builder`` writes into ``step.dir`` where it is to be built (:meth:`building`)."""
        with self.building(name, inputs, force=force) as build:
            if build.step:
                builder(build.step)
        return build.done

    @contextlib.contextmanager
    def building(
        self, name: str, inputs: Mapping[str, Any], *, force: bool = False, waits: bool | None = None
    ) -> Iterator[Build]:
        """Build a step in the body of ``with``, unless it is finished or another process finishes it meanwhile.

        Args:
            name: the kind of step (a folder name).
            inputs: plain data that determines the result; its digest is the key.
            force: build again even if it is there (the old folder is kept until the new one is done).
            waits: whether to wait for another process that builds it; as the store does when None.

        Raises:
            StorageError: the folder is full or read-only.
            DataError: a file of the finished step is not what was written.
            StepTaken: another process is building it, and this one does not wait.
        """
        key = digest(inputs)
        final = self.path(name, key)
        partial = final.with_name(final.name + ".partial")
        build = Build()
        if not force and (done := self._finished(name, key, final, reused=True)):
            build.done = done
            yield build
            return
        with writing(final):
            pass
        with explained(final.parent), self._lease(name, final, self.waits if waits is None else waits) as lease:
            if not force and (done := self._finished(name, key, final, reused=True)):
                build.done = done
                yield build
                return
            partial.mkdir(exist_ok=True)
            with self._sitting(
                name, key, dict(inputs), partial, lambda: check(lease, f"The step {name}")
            ) as build.step:
                yield build
            if final.exists():
                final.rename(final.with_name(f"{final.name}.old-{time.time_ns()}"))
            partial.rename(final)
            sync_entry(final.parent)
        self._checked.add(final)
        done = self._finished(name, key, final, reused=False)
        if done is None:
            raise StorageError(f"Step {name} vanished from {final} while it was being finished.")
        build.done = done

    @contextlib.contextmanager
    def _lease(self, name: str, final: Path, waits: bool) -> Iterator[SoftFileLease]:
        partial = final.with_name(final.name + ".partial")
        if waits:
            with patiently(lease_of(final), lambda: f"step {name}: {owner(partial)}", self.warn) as lease:
                yield lease
            return
        with contextlib.ExitStack() as held:
            try:
                lease = held.enter_context(leased(lease_of(final)))
            except Taken as error:
                raise StepTaken(name, final, owner(partial)) from error
            yield lease

    @contextlib.contextmanager
    def _sitting(
        self, name: str, key: str, inputs: Mapping[str, Any], partial: Path, check: Callable[[], None]
    ) -> Iterator[Step]:
        step = Step(name, key, partial, warn=self.warn, check=check)
        spent, step.inside = _spent(partial), _spent(partial, "inside")
        me = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        (partial / OWNER).write_text(json.dumps(me))
        start = time.perf_counter()
        try:
            yield step
        finally:
            # Time spent before a kill -9 is lost from the bill, time before Ctrl-C or an error is not.
            spent += time.perf_counter() - start
            with contextlib.suppress(OSError):
                (partial / "session.json").write_text(json.dumps({"seconds": spent, "inside": step.inside}))
        check()
        for leftover in (*(path.name for _, _, path in step.checkpoints()), UNFINISHED, OWNER, *OLD, "session.json"):
            (partial / leftover).unlink(missing_ok=True)
        with explained(partial):
            sync(partial)
        marker = {
            "step": name,
            "key": key,
            "inputs": inputs,
            "info": step.info,
            "costs": step.costs,
            "effort": step.effort,
            "about": step.about,
            "seconds": round(spent, 3),
            "files": {path.relative_to(partial).as_posix(): _content(path) for path in _files(partial)},
        }
        sealed = {**marker, "digest": _seal(marker)}
        write_atomic(partial / MARKER, json.dumps(sealed, indent=1, ensure_ascii=False) + "\n")
        check()

    def _finished(self, name: str, key: str, path: Path, *, reused: bool) -> Done | None:
        if (path / MARKER).exists():
            uses.note(self.root, path)  # before it is read: whatever is pruned later is not this one
        marker = _read_marker(path / MARKER)
        if marker.get("key") != key:
            return None
        if path not in self._checked:
            _check(path, marker.get("files", {}))
            self._checked.add(path)
        return Done(name, key, path, marker, reused)


def lease_of(final: Path) -> Path:
    """Return the file of the lease under which a step is built."""
    return final.with_name(final.name + ".lease")


def owner(partial: Path) -> str:
    """Return who builds in a folder, in words."""
    try:
        about = json.loads((partial / OWNER).read_text("utf-8"))
        return f"process {about['pid']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "not known which"


def _files(folder: Path) -> list[Path]:
    """Return the files of a step but its marker."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MARKER)


def _content(path: Path) -> list[int | str]:
    """Return the size and the digest of a file, of a large one the digest of its ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE:
            return [size, hashlib.file_digest(file, "sha256").hexdigest()]
        state = hashlib.sha256(file.read(ENDS))
        file.seek(size - ENDS)
        state.update(file.read(ENDS))
    return [size, state.hexdigest()]


def _check(folder: Path, files: Mapping[str, Any]) -> None:
    """Refuse a finished step with a file that is not what was written.

    Raises:
        DataError: the first such file.
    """
    for name, content in files.items():
        try:
            good = _content(folder / name) == content
        except OSError:
            good = False
        if not good:
            raise DataError(
                f"{folder / name} is damaged: it is not what was written.",
                hint="Move that folder away and run the command again; it will be rebuilt.",
            )


def _spent(partial: Path, on: str = "seconds") -> float:
    """Return the seconds of former sittings: all of them, or those ``inside`` of other steps."""
    with contextlib.suppress(OSError, ValueError, KeyError):  # a kill may have cut this note short
        return float(json.loads((partial / "session.json").read_text("utf-8"))[on])
    return 0.0


def _seal(marker: Mapping[str, Any]) -> str:
    """Return the digest of all else that a marker holds."""
    return hashlib.sha256(json.dumps(marker).encode()).hexdigest()


def _read_marker(path: Path) -> dict[str, Any]:
    """Return what a marker holds, nothing if there is none; those of earlier versions have no digest.

    Raises:
        DataError: it is not what was written.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        seal = content.pop("digest", None)
        if seal not in (None, _seal(content)):
            raise ValueError("it is not what was written")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged: {error}.", hint="Move that folder away and run the command again; it will be rebuilt."
        ) from error
    return content
