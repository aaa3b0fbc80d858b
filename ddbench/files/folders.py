"""Folders that a command writes for its user: they appear whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ddbench.errors import UsageError
from ddbench.files.writing import sync, sync_entry, writing

#: How the name of a folder begins while it is written, beside its place.
UNFINISHED = ".ddbench-unfinished-"
#: Held in such a folder as long as its process lives.
LOCK = ".lock"


@contextlib.contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Let a folder be written beside its place, and put it there when it is complete and on the disk.

    A kill leaves nothing but that hidden folder, which the next call for the same place removes.

    Raises:
        UsageError: something else has the place.
        StorageError: it cannot be written there.
    """
    from filelock import FileLock

    clear(final)
    with writing(final):
        partial = Path(tempfile.mkdtemp(prefix=_prefix(final), dir=final.parent))
        lock = FileLock(partial / LOCK)
        lock.acquire()
    try:
        yield partial
        with writing(final):
            sync(partial)
            mask = os.umask(0)
            os.umask(mask)
            partial.chmod(0o777 & ~mask)
            (partial / LOCK).unlink()
            try:
                partial.rename(final)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise taken(final) from error
                raise
            sync_entry(final.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        lock.release()


def clear(final: Path) -> None:
    """Remove what killed processes left beside a place, unless one still writes it."""
    from filelock import FileLock, Timeout

    for left in final.parent.glob(f"{_prefix(final)}*"):
        if left.is_symlink() or not left.is_dir():
            continue
        with contextlib.suppress(OSError, Timeout), FileLock(left / LOCK, timeout=0):
            shutil.rmtree(left, ignore_errors=True)


def taken(path: Path) -> UsageError:
    """Return the error that something else is where a folder or file should be written."""
    return UsageError(f"{path} exists already.", hint="Choose another place; ddbench never overwrites what is there.")


def _prefix(final: Path) -> str:
    return f"{UNFINISHED}{hashlib.sha256(final.name.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}-"
