"""Leases between processes and machines: files with an owner and a heartbeat, with a word for those who wait.

They need of a file system only that a file is created exclusively and renamed atomically, which NFS and Lustre do where
`flock` succeeds for everybody. The lease of a process that has ended is taken over at once on its own machine; one
elsewhere, when its file has not changed for :data:`LEASE` seconds by the clock of whoever looks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ddbench.errors import StorageError

if TYPE_CHECKING:
    from filelock import SoftFileLease

#: Seconds of silence after which a lease is taken over; all processes must agree on it.
LEASE = 60.0
#: Seconds between two lines of a process that waits for another one.
PATIENCE = 10.0
#: Leases that others hold: an object measures the silence from one look to the next.
_watched: dict[Path, SoftFileLease] = {}


class Taken(Exception):
    """Somebody else has the lease."""


def silent(message: str) -> None:
    """Tell nobody."""


def acquired(path: Path, timeout: float) -> SoftFileLease:
    """Return a lease that is held until it is released, or raise :class:`Taken` after ``timeout`` seconds."""
    from filelock import SoftFileLease, Timeout

    lease = _watched.get(path) or SoftFileLease(path, lease_duration=LEASE)
    try:
        lease.acquire(timeout=timeout)
    except Timeout as error:
        _watched[path] = lease
        raise Taken(str(path)) from error
    _watched.pop(path, None)
    return lease


@contextlib.contextmanager
def leased(path: Path) -> Iterator[SoftFileLease]:
    """Hold a lease, or raise :class:`Taken` at once.

    Raises:
        Taken: another process or thread has it.
    """
    lease = acquired(path, 0)
    try:
        yield lease
    finally:
        lease.release()


@contextlib.contextmanager
def patiently(path: Path, holder: Callable[[], str], tell: Callable[[str], None]) -> Iterator[SoftFileLease]:
    """Hold a lease, saying now and then who has it.

    Args:
        path: its file.
        holder: what it is for, and who holds it.
        tell: takes lines for the user.
    """
    waited = 0.0
    while True:
        try:
            lease = acquired(path, PATIENCE)
            break
        except Taken:
            waited += PATIENCE
            tell(f"waiting for another process, {waited:.0f} s so far ({holder()}); Ctrl-C stops this one only")
    try:
        yield lease
    finally:
        lease.release()


def check(lease: SoftFileLease, what: str) -> None:
    """Refuse to finish what another process has taken over.

    Raises:
        StorageError: the lease is lost.
    """
    if lease.compromise:
        raise StorageError(
            f"{what} was taken over by another process after this one had been silent for {LEASE:.0f} s.",
            hint="A suspended process or a file system that hangs does that; run the same command again.",
        )
