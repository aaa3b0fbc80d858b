"""Captions on disk: ``metadata.jsonl``, lines of ``{"file_name": …, "text": …}`` as image-folder loaders read them."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from ddbench import DataError, write_atomic
from ddbench.files import is_text

FILE = "metadata.jsonl"


def lines(ids: Iterable[str], captions: Iterable[str]) -> str:
    """Return captions as JSON lines, in order."""
    pairs = zip(ids, captions, strict=True)
    return "".join(json.dumps({"file_name": i, "text": text}, ensure_ascii=False) + "\n" for i, text in pairs)


def write_metadata(path: Path, ids: Sequence[str], captions: Iterable[str]) -> None:
    """Write one caption per image id, each when it is there.

    Raises:
        ValueError: there are more or fewer captions than ids.
        StorageError: the folder is full or cannot be written.
    """
    write_atomic(path, (lines((image,), (text,)).encode() for image, text in zip(ids, captions, strict=True)))


def read_metadata(path: Path) -> list[tuple[str, str]]:
    """Read (file name, caption) pairs in the order of the file.

    Raises:
        DataError: the file is missing, or a line is not an object with the strings ``file_name`` and ``text``, neither
            of them empty.
    """
    pairs = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.removeprefix(codecs.BOM_UTF8).strip():
                    pairs.append(pair := entry(line, number, path))
                    if not (pair[0].strip() and pair[1].strip()):
                        what = "caption" if pair[0].strip() else "file_name"
                        raise DataError(
                            f"Line {number} of {path.name} has an empty {what}.",
                            hint="Write one, or leave the line out: images without a caption are named.",
                        )
    except OSError as error:
        raise DataError(f"Captions cannot be read from {path}: {error}") from error
    return pairs


def entry(line: bytes, number: int, path: Path) -> tuple[str, str]:
    """Return file name and caption of a line; a mark of the byte order before the first one is skipped.

    Raises:
        DataError: it is no object with the strings ``file_name`` and ``text``.
    """
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
        if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"{path.name} is written in UTF-16.", hint="Save it in UTF-8.")
    name = text = None
    reason = ""
    try:
        fields = json.loads(line.decode())
        name, text = fields["file_name"], fields["text"]
    except UnicodeDecodeError:
        reason = " in UTF-8"
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    if not isinstance(name, str) or not isinstance(text, str):
        raise DataError(
            f"Line {number} of {path.name} is not a caption{reason}.",
            hint='Every line must look like {"file_name": "images/0001.png", "text": "A small dog …"}.',
        )
    for what, value in (("file_name", name), ("text", text)):
        if not is_text(value):
            raise DataError(
                f"Line {number} of {path.name} has half a character in its {what}: {ascii(value)[:80]}.",
                hint="Such halves (\\ud800 … \\udfff) come from texts cut inside an emoji; take it out.",
            )
    return name, text


class StoredTexts(Sequence[str]):
    """The captions of a file, read from it one by one: eight bytes of memory for each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            lengths = np.fromiter((len(line) for line in file), np.int64)
        self._ends = np.cumsum(lengths)
        self._file = os.open(path, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return one caption or several; threads may do so at once."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start = int(self._ends[place - 1]) if place else 0
        return entry(os.pread(self._file, int(self._ends[place]) - start, start), place + 1, self.path)[1]

    def __iter__(self) -> Iterator[str]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield entry(line, number, self.path)[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredTexts, (self.path,)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)
