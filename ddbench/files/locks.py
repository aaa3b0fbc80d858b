"""Locks between processes, with a word for those who wait."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock


#: Seconds between two lines of a process that waits for another one.
PATIENCE = 10.0


def silent(message: str) -> None:
    """Tell nobody."""


@contextlib.contextmanager
def patiently(lock: BaseFileLock, holder: Callable[[], str], tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock, saying now and then who has it. The system frees the locks of processes that have ended.

    Args:
        lock: of filelock.
        holder: what the lock is for, and who holds it.
        tell: takes lines for the user.
    """
    from filelock import Timeout

    waited = 0.0
    while True:
        try:
            lock.acquire(timeout=PATIENCE)
            break
        except Timeout:
            waited += PATIENCE
            tell(f"waiting for another process, {waited:.0f} s so far ({holder()}); Ctrl-C stops this one only")
    try:
        yield
    finally:
        lock.release()
