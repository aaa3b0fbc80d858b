"""Published archives of image trees: downloaded, checked, unpacked whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ddbench import DataError
from ddbench.files import check_file

#: Unpacked bytes per packed byte, beyond LARGE: pictures hardly shrink when they are packed.
RATIO, LARGE = 20, 2**30
#: What a damaged archive raises; RuntimeError: it is encrypted; NotImplementedError: a compression nobody knows.
DAMAGED = (
    *(EOFError, RuntimeError, NotImplementedError, ValueError, gzip.BadGzipFile),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
#: ``{"url": …, "checksum": "md5:…"}``; the checksum may be missing.
Archive = Mapping[str, str]


def find_archive(folders: Sequence[Path], archives: Sequence[Archive]) -> tuple[Path, Archive] | None:
    """Return the first of some archives that lies in one of the folders."""
    for archive in archives:
        for folder in folders:
            path = folder / file_name(archive)
            if path.is_file():
                return path, archive
    return None


def file_name(archive: Archive) -> str:
    """Return the file name of an archive."""
    return archive["url"].rpartition("/")[2]


def fetch(archive: Archive, folder: Path) -> None:
    """Download an archive into a folder and unpack it there.

    Raises:
        OSError: there is no connection, or the disk is full.
        DataError: what came is not what was published.
    """
    from torchvision.datasets.utils import download_url

    download_url(archive["url"], str(folder), file_name(archive))
    unpack(folder / file_name(archive), archive)


def unpack(path: Path, archive: Archive) -> None:
    """Unpack an archive beside itself; its folders appear when all of it is there.

    Raises:
        DataError: it is damaged, or not the published one.
    """
    hint = f"Remove it and download {archive['url']} again."
    check_file(path)
    kind, _, wanted = archive.get("checksum", "").partition(":")
    if kind:
        with path.open("rb") as file:
            if hashlib.file_digest(file, kind).hexdigest() != wanted:
                raise DataError(
                    f"{path.name} is damaged or incomplete: its {kind} is not the published one.", hint=hint
                )
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unpacking-") as temporary:
        try:
            _extract(path, Path(temporary), RATIO * path.stat().st_size + LARGE)
        except DAMAGED as error:
            raise DataError(f"{path.name} cannot be unpacked: {error}", hint=hint) from error
        for entry in sorted(Path(temporary).iterdir()):
            target = path.parent / entry.name
            if not target.exists():
                shutil.move(entry, target)


def _extract(path: Path, folder: Path, most: int) -> None:
    """Unpack an archive into a folder, as long as that takes no more bytes than ``most``."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as packed:
            _check_size(sum(member.file_size for member in packed.infolist()), most)
            packed.extractall(folder)
        return
    total = 0
    with tarfile.open(path) as packed:
        for member in packed:
            _check_size(total := total + member.size, most)
            packed.extract(member, folder, filter="data")


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise tarfile.TarError(f"it unpacks to more than {most / 1e9:,.1f} GB, so it does not hold pictures alone")
