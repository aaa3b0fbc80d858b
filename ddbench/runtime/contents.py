"""Digests of files and folders that options name: what counts is their content, never where they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ddbench.errors import DataError
from ddbench.keys import digest

if TYPE_CHECKING:
    from ddbench.runtime.progress import Reporter
    from ddbench.runtime.store import Step, Store

#: Files from here on are read once; their digest is remembered until size or times change.
LARGE = 64 * 2**20
#: Files in a folder up to which their content is read; of larger ones, names and sizes count.
MANY = 10_000
#: Bytes read at a time.
CHUNK = 2**20


def content_digest(path: Path, store: Store, reporter: Reporter) -> str:
    """Return the sha256 of a file, or of a folder's regular files with their relative names (beyond MANY, their sizes).

    Args:
        path: a file or folder.
        store: remembers digests of large files.
        reporter: shows progress.

    Raises:
        DataError: it is not there, is no regular file, or cannot be read.
    """
    try:
        if path.is_dir():
            files = list(_inside(path))
            if len(files) > MANY:
                return digest([[name, file.stat().st_size] for name, file in files])
            return digest([[name, _file(file, store, reporter)] for name, file in files])
        return _file(path, store, reporter)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _inside(folder: Path) -> Iterator[tuple[str, Path]]:
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(root, name)
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _file(path: Path, store: Store, reporter: Reporter) -> str:
    if not path.is_file():
        raise DataError(f"{path} is not a file.")
    state = path.stat()
    if state.st_size < LARGE:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def build(step: Step) -> None:
        read, found = 0, hashlib.sha256()
        with path.open("rb") as file, reporter.task(f"reading {path.name}", state.st_size) as advance:
            while chunk := file.read(CHUNK):
                found.update(chunk)
                advance(read := read + len(chunk))
        step.info["sha256"] = found.hexdigest()

    # The time of the last change of a file's state cannot be set back by a copy, as the time of its content can.
    about = [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    inputs = {"path": os.fsencode(path.resolve()).hex(), "state": about}
    return str(store.build("file-digest", inputs, build).info["sha256"])
