"""Class folders in a zip archive, as SRe2L publishes its sets: unpacked within limits, pictures alone."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from ddbench.errors import DataError
from ddbench.escaping import one_line
from ddbench.files.reading import check_file, first_line
from ddbench.sets.repository import check_names
from ddbench.sets.trees import SUFFIXES

#: Pictures hardly shrink when they are packed: bytes per packed byte, beyond LARGE.
RATIO, LARGE = 20, 2**30
#: What a damaged archive raises; RuntimeError: it is encrypted; NotImplementedError: a compression nobody knows.
DAMAGED = (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile, zlib.error)


def unpack(path: Path, folder: Path, warn: Callable[[str], None]) -> Path:
    """Unpack the pictures of an archive below an empty folder, and return the folder of its class folders.

    Raises:
        DataError: damaged, encrypted, without pictures, larger than pictures are, or with entries that lead elsewhere.
    """
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _checked(archive, path)
            beside = [name for name, member in members.items() if not name.lower().endswith(SUFFIXES)]
            pictures = [member for name, member in members.items() if name.lower().endswith(SUFFIXES)]
            if not pictures:
                raise DataError(f"{path.name} holds no pictures ({', '.join(SUFFIXES)}).")
            if beside:
                warn(
                    f"{path.name} has {len(beside)} files that are no pictures, such as {beside[0]}; they are left out."
                )
            free = shutil.disk_usage(folder).free
            if (size := sum(member.file_size for member in pictures)) > free:
                raise DataError(f"{path.name} unpacks to {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.")
            for member in pictures:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except DAMAGED as error:
        raise DataError(
            f"{path.name} cannot be unpacked: {one_line(first_line(error))}",
            hint="Download it again; it may be cut short.",
        ) from error
    while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir():  # sre2l_in1k_rn18_4k_ipc50/new000/…
        folder = inside[0]
    return folder


def _checked(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by name, without those of file managers."""
    members: dict[str, zipfile.ZipInfo] = {}
    size = 0
    for member in archive.infolist():
        name, mode = member.filename, member.external_attr >> 16
        check_names([name.rstrip("/") if member.is_dir() else name], path.name)
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{path.name} has a link or a device, {name[:80]}.", hint="Pack ordinary files.")
        if member.is_dir() or any(part.startswith((".", "__MACOSX")) for part in name.split("/")):
            continue
        if member.flag_bits & 1:
            raise DataError(f"{path.name} is encrypted.", hint="Unpack it yourself and name the folder.")
        if name in members:
            raise DataError(f"{path.name} has two files {name[:80]}.")
        members[name] = member
        size += member.file_size
    if size > (most := LARGE + RATIO * path.stat().st_size):
        raise DataError(
            f"{path.name} would unpack to {size / 1e9:.1f} GB from {path.stat().st_size / 1e6:.1f} MB, which pictures"
            f" do not (at most {most / 1e9:.1f} GB).",
            hint="If you trust it, unpack it yourself and name the folder.",
        )
    return members
