"""Files that come from elsewhere: what is no file at all, or stands in for one, is named before anything reads it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from ddbench.errors import DataError, DDBenchError

#: Bytes of a record, a table of claims, a study: more is none of them.
MOST_TEXT = 256 * 2**20
#: How web pages begin, in lower case.
PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<script", b"<!--")
#: Endings of the files that models are read from.
MODEL_FILES = (".json", ".safetensors", ".bin", ".pt", ".pth", ".model", ".jinja")
#: An archive that unpacks to more than this many bytes, and to more than so many times its size, is no honest one.
LARGE, EXPANDS = 1 << 30, 100


def check_file(path: Path, kind: type[DDBenchError] = DataError) -> None:
    """Refuse what cannot be the content of a file of data.

    Args:
        path: the file.
        kind: of error.

    Raises:
        DDBenchError: a pipe or a device (reading would never end), a file that cannot be opened, or what
            :func:`stand_in` names.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise kind(f"{path} is a folder, not a file.")
        if not stat.S_ISREG(mode):
            raise kind(f"{path} is a pipe or a device, not a file.", hint="Copy what it gives into an ordinary file.")
        instead = stand_in(path)
    except OSError as error:
        raise kind(f"{path} cannot be read: {error.strerror or error}.") from error
    if instead:
        raise kind(f"{path.name} cannot be read: it {instead[0]}.", hint=instead[1])


def stand_in(path: Path) -> tuple[str, str] | None:
    """Return what a file is in place of data, and what helps: nothing, a pointer of Git LFS or a web page."""
    with path.open("rb") as file:
        return _stand_in(file.read(512))


def read_bytes(path: Path, kind: type[DDBenchError]) -> bytes:
    """Read a small file whole.

    Args:
        path: the file, which messages name by its last part: they may go onto a page.
        kind: of error.

    Raises:
        DDBenchError: no ordinary file, too large, unreadable, or something that stands in for it.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise kind(f"{path.name} is {'a folder' if stat.S_ISDIR(about.st_mode) else 'a pipe or a device'}.")
        if about.st_size > MOST_TEXT:
            raise kind(f"{path.name} has {about.st_size:,} bytes, more than {MOST_TEXT:,}.")
        data = path.read_bytes()
    except OSError as error:
        raise kind(f"{path.name} cannot be read: {error.strerror or error}.") from error
    if data and (instead := _stand_in(data[:512])):  # an empty file may be a good one
        raise kind(f"{path.name} {instead[0]}.", hint=instead[1])
    return data


def read_text(path: Path, kind: type[DDBenchError]) -> str:
    """Read a small text file, with or without a byte order mark.

    Raises:
        DDBenchError: as :func:`read_bytes`, or not UTF-8.
    """
    try:
        return read_bytes(path, kind).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise kind(f"{path.name} is not UTF-8 text: {error}.", hint="Save it as UTF-8.") from error


def _stand_in(begin: bytes) -> tuple[str, str] | None:
    if not begin:
        return "is empty", "Copy or download it again."
    if begin.startswith(b"version https://git-lfs.github.com/spec/"):
        return (
            "is a Git LFS pointer, which stands for the file itself",
            "Fetch the file itself: run `git lfs pull` in its repository, or download it from the repository's page.",
        )
    if begin.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(PAGES):
        return (
            "is a web page (a sign-in, a quota or an error), saved in place of the file itself",
            "Open its address in a browser, and download the file itself.",
        )
    return None


def why(path: Path, error: BaseException) -> str:
    """Return why a file cannot be read: what it is in place of data, else an error's first line."""
    try:
        instead = stand_in(path) if path.is_file() else None
    except OSError:
        instead = None
    return f"it {instead[0]}" if instead else first_line(error)


def first_line(error: BaseException) -> str:
    """Return the beginning of an error's message, which may be of many lines or empty; else its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def damaged_files(folder: Path) -> list[str]:
    """Return which files of a folder with a model cannot be read, and why.

    Of weights only the table of contents is read. Libraries tell much less: they name no file, or blame the network.
    """
    import json

    from safetensors import SafetensorError, safe_open

    problems = []
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.is_dir() or path.suffix not in MODEL_FILES or any(part.startswith(".") for part in place.parts):
            continue
        try:
            check_file(path)
            if path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(path, framework="numpy"):
                    pass
        except DataError as error:
            reason = str(error).removeprefix(str(path)).removeprefix(path.name).strip(" .")
            problems.append(f"{place.as_posix()} {reason}")
        except (OSError, ValueError, RecursionError, SafetensorError) as error:
            problems.append(f"{place.as_posix()} cannot be read ({first_line(error)})")
    return problems


def check_archive(path: Path, kind: type[DDBenchError] = DataError) -> None:
    """Refuse a zip archive, as ``.npz`` and torch's files are, that would unpack to far more than it holds.

    Raises:
        DDBenchError: it would fill the memory.
    """
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile, NotImplementedError):  # whoever reads it will say more
        return
    if size > LARGE and size > EXPANDS * path.stat().st_size:
        raise kind(
            f"{path.name} would unpack to {size / 1e9:.1f} GB from {path.stat().st_size / 1e6:.1f} MB.",
            hint="If you trust it, load it yourself and save it uncompressed.",
        )


def is_text(value: Any) -> bool:
    """Return whether a value is text that can be written: without half characters (lone surrogates)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
