"""Captions on disk: ``metadata.jsonl``, lines of ``{"file_name": …, "text": …}`` as image-folder loaders read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from ddbench import DataError, write_atomic

FILE = "metadata.jsonl"
#: Captions of an unfinished run, in the same format.
PARTIAL = "metadata.partial.jsonl"


def lines(ids: Iterable[str], captions: Iterable[str]) -> str:
    """Return captions as JSON lines, in order."""
    pairs = zip(ids, captions, strict=True)
    return "".join(json.dumps({"file_name": i, "text": text}, ensure_ascii=False) + "\n" for i, text in pairs)


def write_metadata(path: Path, ids: Sequence[str], captions: Sequence[str]) -> None:
    """Write one caption per image id.

    Raises:
        StorageError: the folder is full or cannot be written.
    """
    write_atomic(path, lines(ids, captions))


def read_metadata(path: Path, *, partial: bool = False) -> list[tuple[str, str]]:
    """Read (file name, caption) pairs in the order of the file.

    Args:
        path: the file.
        partial: a last line that was cut off by a kill is left out instead of refused.

    Raises:
        DataError: the file is missing, or a line is not an object with the strings ``file_name`` and ``text``.
    """
    try:
        raw = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Captions cannot be read from {path}: {error}") from error
    rows = raw.split("\n")
    if partial:
        rows = rows[:-1]  # what follows the last newline is incomplete
    found: list[tuple[str, str]] = []
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            entry = json.loads(row)
            name, text = entry["file_name"], entry["text"]
        except (ValueError, TypeError, KeyError):
            name = text = None
        if not isinstance(name, str) or not isinstance(text, str):
            raise DataError(
                f"Line {number} of {path.name} is not a caption.",
                hint='Every line must look like {"file_name": "images/0001.png", "text": "A small dog …"}.',
            )
        found.append((name, text))
    return found
