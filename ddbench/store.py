"""The content-addressed store: every finished step is a folder named by the digest of what it depends on.

A step is built in ``<key>.partial`` (which also keeps its checkpoints), and renamed to ``<key>`` when it is done, so a
finished folder is always complete and a killed one goes on where it stopped. Nothing but ddbench's own is ever deleted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddbench import metrics
from ddbench.errors import DataError, StorageError
from ddbench.keys import digest

#: The done marker and description of a finished step.
MARKER = "step.json"
CHECKPOINT = "checkpoint.pt"
#: Where a checkpoint notes how much of the step's metrics belongs to it.
_METRICS = "ddbench: bytes of metrics"


def home() -> Path:
    """Return the artifact folder: ``DDBENCH_HOME``, or the user's cache folder."""
    if chosen := os.environ.get("DDBENCH_HOME"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("ddbench"))


#: Why a folder cannot be written, and what helps.
REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space, or point DDBENCH_HOME / --registry somewhere else."),
    errno.EDQUOT: ("your quota is used up", "Free some space, or point DDBENCH_HOME somewhere else."),
    errno.EROFS: ("the file system is read-only", "Choose another folder with DDBENCH_HOME or --registry."),
    errno.EACCES: ("you may not write there", "Choose another folder with DDBENCH_HOME or --registry."),
}
#: What else keeps a file of the user's choice from being written.
IN_THE_WAY = {
    errno.EEXIST: "a file of that name is in the way",
    errno.ENOTDIR: "part of that path is a file",
    errno.EISDIR: "it is a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOENT: "there is no such place",
    errno.EPERM: "that is not permitted",
}


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into a :class:`StorageError` that names the folder."""
    try:
        yield
    except OSError as error:
        # A folder is also not to be written where one above it is not.
        name, own = str(error.filename or path), str(path)
        elsewhere = not (name.startswith(own) or own.startswith(name))
        if error.errno not in REASONS or (elsewhere and error.errno != errno.ENOSPC):
            raise
        reason, hint = REASONS[error.errno]
        raise StorageError(f"Cannot write to {path}: {reason}.", hint=f"{hint} Finished steps are kept.") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file that is to be written, and explain what keeps it from being written.

    Raises:
        StorageError: the folder is full or cannot be written, or something else has the place.
    """
    try:
        with explained(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield
    except OSError as error:
        if error.errno not in IN_THE_WAY:
            raise
        raise StorageError(
            f"Cannot write {path}: {IN_THE_WAY[error.errno]}.", hint="Choose another place for it."
        ) from error


def write_atomic(path: Path, data: bytes | str | Iterable[bytes]) -> None:
    """Write a file so that readers see the old content or the new, never half of it.

    Args:
        path: the file.
        data: all of it, or one part after the other, so that memory does not grow with the file.

    Raises:
        StorageError: the folder is full or cannot be written; the old file is untouched.
    """
    parts = [data.encode()] if isinstance(data, str) else [data] if isinstance(data, bytes) else data
    with writing(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:  # whatever making it raises is no matter of this file
                with explained(path.parent):
                    file.write(part)
            with writing(path):
                file.flush()
                os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        with writing(path):
            Path(temporary).chmod(0o666 & ~mask)
            Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@dataclass
class Step:
    """A step while it is being built: a folder to write results into, and a checkpoint that survives a kill.

    Attributes:
        name, key: what it is and the digest of what it depends on.
        dir: where the builder writes its files.
        info: plain data the builder wants in the marker (figures, counts); readable later from ``step.json``.
        costs: what it cost; ``bytes_labels``, of labels that students need besides the distilled set, adds to a
            record's ``bytes_labels``.
        effort: what its time grows with, on which machine, and the modules imported, for :mod:`ddbench.estimates`.
        journal: what the step's loops say, by ``ctx.progress``.
        inside: seconds spent in steps that were built inside this one, so that no second is billed twice.
    """

    name: str
    key: str
    dir: Path
    info: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)
    effort: dict[str, Any] = field(default_factory=dict)
    journal: metrics.Journal = field(init=False, repr=False)
    inside: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.journal = metrics.Journal(self.dir)

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a checkpoint of tensors and plain data (replaces the last one)."""
        import torch

        with explained(self.dir):
            temporary = self.dir / (CHECKPOINT + ".tmp")
            torch.save({**state, _METRICS: self.journal.size}, temporary)
            temporary.replace(self.dir / CHECKPOINT)

    def load(self) -> dict[str, Any] | None:
        """Return the last checkpoint, or None; an unreadable one (a crash while the disk was full) counts as none."""
        import torch

        path = self.dir / CHECKPOINT
        if not zipfile.is_zipfile(path):  # not there, or cut short
            return None
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        self.journal.resume(state.pop(_METRICS, 0))
        return state


@dataclass(frozen=True)
class Done:
    """A finished step: its folder and what its marker says."""

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


class Store:
    """Finished steps under one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str, key: str) -> Path:
        """Return where a step's folder is or would be."""
        return self.root / name / key[:20]

    def get(self, name: str, inputs: Mapping[str, Any]) -> Done | None:
        """Return the finished step for these inputs, or None."""
        key = digest(inputs)
        return self._finished(name, key, self.path(name, key), reused=True)

    def started(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Return whether an unfinished build of this step is there to go on with."""
        path = self.path(name, digest(inputs))
        return path.with_name(path.name + ".partial").exists()

    def spent(self, name: str, inputs: Mapping[str, Any]) -> float:
        """Return the seconds of work in an unfinished build, as far as it noted them."""
        path = self.path(name, digest(inputs))
        return _seconds(path.with_name(path.name + ".partial"))

    def finished(self, name: str) -> Iterator[Done]:
        """Yield every finished step of a kind."""
        for path in sorted((self.root / name).glob(f"*/{MARKER}")):
            with contextlib.suppress(DataError):
                marker = _read_json(path)
                if str(marker.get("key", ""))[:20] == path.parent.name:
                    yield Done(name, marker["key"], path.parent, marker, reused=True)

    def build(
        self, name: str, inputs: Mapping[str, Any], builder: Callable[[Step], None], *, force: bool = False
    ) -> Done:
        """Return the finished step, building it if needed; other processes that want the same step wait for it.

        Args:
            name: the kind of step (a folder name).
            inputs: plain data that determines the result; its digest is the key.
            builder: writes its files into ``step.dir``; may use ``step.save``/``step.load``.
            force: build again even if it is there (the old folder is kept until the new one is done).

        Raises:
            StorageError: the folder is full, read-only, or locked for too long.
        """
        from filelock import FileLock

        key = digest(inputs)
        final = self.path(name, key)
        partial = final.with_name(final.name + ".partial")
        if not force and (done := self._finished(name, key, final, reused=True)):
            return done
        with writing(final):
            pass
        with explained(final.parent), FileLock(str(final) + ".lock"):
            if not force and (done := self._finished(name, key, final, reused=True)):
                return done
            partial.mkdir(exist_ok=True)
            self._sit(name, key, dict(inputs), partial, builder)
            if final.exists():
                final.rename(final.with_name(f"{final.name}.old-{time.time_ns()}"))
            partial.rename(final)
        done = self._finished(name, key, final, reused=False)
        if done is None:
            raise StorageError(f"Step {name} vanished from {final} while it was being finished.")
        return done

    def _sit(
        self, name: str, key: str, inputs: Mapping[str, Any], partial: Path, builder: Callable[[Step], None]
    ) -> None:
        step = Step(name, key, partial)
        spent = _seconds(partial)
        start = time.perf_counter()
        try:
            builder(step)
        finally:
            # Time spent before a kill -9 is lost from the bill, time before Ctrl-C or an error is not.
            spent += time.perf_counter() - start
            with contextlib.suppress(OSError):
                (partial / "sitting.json").write_text(json.dumps({"seconds": spent}))
        for leftover in (CHECKPOINT, CHECKPOINT + ".tmp", "sitting.json"):
            (partial / leftover).unlink(missing_ok=True)
        marker = {
            "step": name,
            "key": key,
            "inputs": inputs,
            "info": step.info,
            "costs": step.costs,
            "effort": step.effort,
            "seconds": round(spent, 3),
        }
        write_atomic(partial / MARKER, json.dumps(marker, indent=1, ensure_ascii=False) + "\n")

    @staticmethod
    def _finished(name: str, key: str, path: Path, *, reused: bool) -> Done | None:
        marker = _read_json(path / MARKER)
        return Done(name, key, path, marker, reused) if marker.get("key") == key else None


def _seconds(partial: Path) -> float:
    with contextlib.suppress(OSError, ValueError):  # a kill may have cut this note short
        return float(json.loads((partial / "sitting.json").read_text("utf-8"))["seconds"])
    return 0.0


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise DataError(
            f"{path} is damaged: {error}", hint="Move that folder away and run the command again; it will be rebuilt."
        ) from error
    return content
