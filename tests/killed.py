"""Kills a command of ddbench at every call that changes a file system, one run per call, each in a process of its own.

Processes are forked, so that a run takes milliseconds; what a call would have changed is left undone.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Audit events of calls that change a file system; ``os.replace`` is ``os.rename``.
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def kill_points(work: Callable[[], object], below: Path, step: int = 1) -> Iterator[int]:
    """Kill ``work`` at its first, second, … change of a file below a folder, until it comes to its end.

    Yields after every kill; the caller says then what must hold, and prepares the next one.
    """
    point = 0
    while run(work, below, kill_at=point) == -signal.SIGKILL:
        yield point
        point += step


def run(work: Callable[[], object], below: Path, *, kill_at: int | None = None) -> int:
    """Run ``work`` in a process of its own; return its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if kill_at is not None:
                sys.addaudithook(_Killer(str(below), kill_at))
            work()
            status = 0
        except BaseException as error:
            status = getattr(error, "exit_code", getattr(error, "code", 1)) or 0
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class _Killer:
    def __init__(self, below: str, left: int) -> None:
        self.below, self.left = below, left

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        changes = event in CHANGES
        if event == "open":
            flags = arguments[2]
            changes = isinstance(flags, int) and bool(flags & WRITING)
        if not changes or not any(isinstance(each, str | os.PathLike) and self._mine(each) for each in arguments[:2]):
            return
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def _mine(self, path: str | os.PathLike[str]) -> bool:
        return str(path).startswith(self.below)
