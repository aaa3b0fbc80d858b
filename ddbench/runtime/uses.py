"""Which finished steps running processes use: each lists its own, under a lease that its death ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
from pathlib import Path

from ddbench.files.locks import Taken, acquired, leased

#: Folder of the lists below the artifact folder.
FOLDER = ".in-use"


class _Listed:
    """What this process uses of an artifact folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.process = root, os.getpid()
        self.steps: set[Path] = set()
        (root / FOLDER).mkdir(parents=True, exist_ok=True)
        self.names = root / FOLDER / f"{secrets.token_hex(8)}.txt"
        self.lease = acquired(self.names.with_suffix(".lease"), 0)

    def add(self, step: Path) -> None:
        with self.names.open("a", encoding="utf-8") as file:
            file.write(f"{step.parent.name}/{step.name}\n")
        self.steps.add(step)
        os.utime(step)

    def end(self) -> None:
        if os.getpid() == self.process:  # a forked process leaves that to the one that began it
            self.names.unlink(missing_ok=True)
            self.lease.release()


_listed: _Listed | None = None


def note(root: Path, step: Path) -> None:
    """List a finished step as used by this process, and make now the time of its last use (that of its folder).

    Nothing of that is done in a folder that cannot be written. A process uses one artifact folder at a time.
    """
    global _listed
    with contextlib.suppress(OSError):
        if _listed is None or _listed.root != root:
            end()
            _listed = _Listed(root)
        if step not in _listed.steps:
            _listed.add(step)


@atexit.register
def end() -> None:
    """Let go of what this process used."""
    global _listed
    former, _listed = _listed, None
    with contextlib.suppress(OSError):
        if former:
            former.end()


def used(root: Path) -> set[Path]:
    """Return the steps that running processes use, this one included; lists of dead ones are removed."""
    steps: set[Path] = set()
    for path in (root / FOLDER).glob("*.lease"):
        names = path.with_suffix(".txt")
        try:
            with leased(path):
                names.unlink(missing_ok=True)
        except Taken:
            with contextlib.suppress(FileNotFoundError):
                steps |= {root / name for name in names.read_text("utf-8").split()}
    return steps
