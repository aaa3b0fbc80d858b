"""What the artifact folder holds: finished steps, and what killed or repeated work left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddbench.files.locks import Taken, leased
from ddbench.runtime import uses
from ddbench.runtime.store import MARKER, lease_of

#: Folders of steps, as :class:`ddbench.runtime.store.Store` names them.
STEP = re.compile(r"[0-9a-f]{20}")
REPLACED = re.compile(r"[0-9a-f]{20}\.old-\d+")
STOPPED = re.compile(r"[0-9a-f]{20}\.partial")
DAY = 24 * 3600.0
#: Folder of the runs of workers, beside those of finished steps.
RUNS = "runs"


@dataclass(frozen=True)
class Finished:
    """A finished step.

    Attributes:
        path: its folder.
        dataset: name of the data set that it was made for, or "" where it is known of none.
        files: bytes of its files, by where they are on the disk: steps may share some.
        unused: seconds since a run made or last used it.
        ours: whether every file in it is one that the step wrote.
    """

    path: Path
    dataset: str
    files: dict[tuple[int, int], int]
    unused: float
    ours: bool

    @property
    def bytes(self) -> int:
        """Its size."""
        return sum(self.files.values())

    @property
    def kind(self) -> str:
        """The kind of step: a teacher, latents, a student."""
        return self.path.parent.name


@dataclass(frozen=True)
class Leftover:
    """A folder that no run needs, or that only a repeated command would resume.

    Attributes:
        path: the folder.
        resumes: whether the interrupted command would resume from here.
        bytes: its size.
        age: seconds since anything in it changed.
    """

    path: Path
    resumes: bool
    bytes: int
    age: float


def finished(root: Path) -> list[Finished]:
    """Return the finished steps below an artifact folder."""
    listed = []
    for folder in _folders(root):
        for path in sorted(folder.iterdir()):
            if STEP.fullmatch(path.name) and not path.is_symlink() and (path / MARKER).is_file():
                listed.append(_finished(path))
    return listed


def _finished(path: Path) -> Finished:
    known: dict[str, Any] = {"key": "", "files": {}, "about": {}}
    with contextlib.suppress(OSError, ValueError, TypeError):  # a marker that somebody else wrote
        known |= json.loads((path / MARKER).read_text("utf-8"))
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()}
    ours = str(known["key"]).startswith(path.name) and files == {*known["files"], MARKER}
    unused = max(0.0, time.time() - path.stat().st_mtime)
    return Finished(path, dict(known["about"]).get("dataset", ""), _on_disk(path), unused, ours)


def prune(root: Path, step: Finished) -> bool:
    """Remove a finished step, unless it holds other files or a running process uses it; return whether it is gone."""
    if not step.ours:
        return False
    gone = step.path.with_name(f"{step.path.name}.old-{time.time_ns()}")
    with contextlib.suppress(Taken), leased(lease_of(step.path)):
        step.path.rename(gone)
        if step.path in uses.used(root):  # asked when no process can find it any more
            gone.rename(step.path)
        else:
            shutil.rmtree(gone, ignore_errors=True)
    return not step.path.exists()


def leftovers(root: Path) -> list[Leftover]:
    """Return what stopped, killed and repeated work left below an artifact folder, and what workers left of their runs;
    nothing that is in use."""
    listed = []
    for folder in _folders(root):
        for path in sorted(folder.iterdir()):
            stopped = bool(STOPPED.fullmatch(path.name)) or _is_run(path)
            if not (stopped or REPLACED.fullmatch(path.name)) or path.is_symlink() or not path.is_dir():
                continue
            if stopped and _in_use(path):
                continue
            changed = max((file.lstat().st_mtime for file in (path, *path.rglob("*"))), default=0.0)
            listed.append(Leftover(path, stopped, size(path), max(0.0, time.time() - changed)))
    return listed


def remove(leftover: Leftover) -> bool:
    """Remove a leftover, unless a process took it up meanwhile; return whether it is gone."""
    if leftover.resumes:
        with contextlib.suppress(Taken), leased(_lease(leftover.path)):
            shutil.rmtree(leftover.path, ignore_errors=True)
    else:
        shutil.rmtree(leftover.path, ignore_errors=True)
    return not leftover.path.exists()


def size(folder: Path) -> int:
    """Return the bytes of the files below a folder."""
    return sum(_on_disk(folder).values())


def together(steps: Iterable[Finished]) -> int:
    """Return the bytes of several steps; a file that they share counts once."""
    return sum({place: size for step in steps for place, size in step.files.items()}.values())


def files(folder: Path) -> list[os.stat_result]:
    """Return what is known of every file below a folder."""
    return [path.lstat() for path in folder.rglob("*") if not path.is_dir()]


def freed(removed: Iterable[os.stat_result]) -> int:
    """Return the bytes that removing files frees: none of one that has another name elsewhere."""
    first: dict[tuple[int, int], os.stat_result] = {}
    names: Counter[tuple[int, int]] = Counter()
    for about in removed:
        first.setdefault(_place(about), about)
        names[_place(about)] += 1
    return sum(about.st_size for place, about in first.items() if names[place] >= about.st_nlink)


def _on_disk(folder: Path) -> dict[tuple[int, int], int]:
    return {_place(about): about.st_size for about in files(folder)}


def _place(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())


def _is_run(path: Path) -> bool:
    return path.parent.name == RUNS and (path / "run.json").is_file()


def _in_use(path: Path) -> bool:
    leases = [file for file in path.rglob("*.lease") if file.is_file()] if _is_run(path) else [_lease(path)]
    try:
        for lease in leases:
            with leased(lease):
                pass
    except Taken:
        return True
    return False


def _lease(path: Path) -> Path:
    return path / "driver.lease" if _is_run(path) else lease_of(path.with_suffix(""))
