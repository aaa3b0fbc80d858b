"""Files that ddbench writes: whole or not at all, and what keeps one from being written in words."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ddbench.errors import StorageError


def home() -> Path:
    """Return the artifact folder: ``DDBENCH_HOME``, or the user's cache folder."""
    if chosen := os.environ.get("DDBENCH_HOME"):
        return Path(chosen).expanduser().absolute()  # also where a plugin goes elsewhere
    import platformdirs

    return Path(platformdirs.user_cache_dir("ddbench"))


#: Why a folder cannot be written, and what helps.
REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space, or point DDBENCH_HOME / --registry somewhere else."),
    errno.EDQUOT: ("your quota is used up", "Free some space, or point DDBENCH_HOME somewhere else."),
    errno.EROFS: ("the file system is read-only", "Choose another folder with DDBENCH_HOME or --registry."),
    errno.EFBIG: ("no file may be that large", "Raise the limit (`ulimit -f`), or choose another file system."),
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
        name, own = (str(Path(part).absolute()) for part in (error.filename or path, path))
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
        file = os.fdopen(handle, "wb", buffering=0)  # without a buffer, closing has nothing left to write
        try:
            for part in parts:  # whatever making it raises is no matter of this file
                rest = memoryview(part).cast("B")
                with explained(path.parent):
                    while rest:
                        rest = rest[file.write(rest) :]
            with writing(path):
                os.fsync(file.fileno())
        finally:
            with writing(path):
                file.close()
        mask = os.umask(0)
        os.umask(mask)
        with writing(path):
            Path(temporary).chmod(0o666 & ~mask)
            Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, or made where it is not there, before hours of work for it.

    Raises:
        StorageError: it is read-only, full, or something else has its place.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    try:
        with explained(folder):
            handle, name = tempfile.mkstemp(dir=there, prefix=".ddbench-")
            os.close(handle)
            Path(name).unlink()
    except OSError as error:
        if error.errno not in IN_THE_WAY:
            raise
        raise StorageError(
            f"Cannot write {folder}: {IN_THE_WAY[error.errno]}.", hint="Choose another place for it."
        ) from error


def sync(folder: Path) -> None:
    """Bring all files of a folder, and their names, to the disk."""
    for root, _, files in os.walk(folder):
        for name in files:
            sync_entry(Path(root, name))
        sync_entry(Path(root))


def sync_entry(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a file that is not to be read, or a system whose folders cannot be opened
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
