"""Captions of an unfinished run: files of consecutive captions, which several processes may write at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddbench import DataError, digest_bytes
from ddbench_plugins.captioners.metadata import entry, lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ddbench import Split

#: Files of captions, each with the number of its first image.
NAMES = "metadata.partial-*.jsonl"
#: Between a line and its digest.
SEAL = b', "digest": "'


class Pieces:
    """The captions of a split in a folder, as far as they are there.

    Attributes:
        batch: images that are always captioned at once, so that an interrupted run ends with the same captions.
    """

    def __init__(self, folder: Path, split: Split, batch: int) -> None:
        self.folder, self.ids, self.batch = folder, split.ids, batch

    def left(self) -> list[range]:
        """Return the batches that are still to be captioned; files are cut back to whole ones."""
        done: set[int] = set()
        for start, path in self._files():
            count = self._mend(path, start)
            done.update(range(start, start + count, self.batch))
        batches = (range(len(self.ids))[first : first + self.batch] for first in range(0, len(self.ids), self.batch))
        return [rows for rows in batches if rows.start not in done]

    def append(self, piece: int, rows: Sequence[int], texts: Sequence[str]) -> None:
        """Add captions to the file whose first image is ``piece``."""
        with (self.folder / NAMES.replace("*", f"{piece:08d}")).open("ab") as file:
            file.writelines(
                _sealed(lines([self.ids[row]], [text]).encode()) for row, text in zip(rows, texts, strict=True)
            )

    def texts(self) -> Iterator[str]:
        """Yield the captions in order, once all are there.

        Raises:
            DataError: some are not, or are not what was written.
        """
        count = 0
        for start, path in self._files():
            if start != count:
                break
            with path.open("rb") as file:
                for line in file:
                    if not _whole(line):
                        raise DataError(
                            f"{path} is damaged: it is not what was written.", hint="Run the command again."
                        )
                    yield entry(line, count - start + 1, path)[1]
                    count += 1
        if count != len(self.ids):
            raise DataError(f"The caption of image {self.ids[count]!r} is gone.", hint="Run the command again.")

    def _files(self) -> list[tuple[int, Path]]:
        return sorted((int(path.stem.rpartition("-")[2]), path) for path in self.folder.glob(NAMES))

    def _mend(self, path: Path, start: int) -> int:
        """Cut a file back to whole batches, or to nothing if it is of other images, and return its captions."""
        count = size = whole = kept = 0
        with path.open("rb+") as file:
            for line in file:
                row = start + count
                if not _whole(line) or row >= len(self.ids):
                    break  # cut off by a kill, or damaged
                if entry(line, count + 1, path)[0] != self.ids[row]:
                    whole = kept = 0
                    break
                count, size = count + 1, size + len(line)
                if count % self.batch == 0 or start + count == len(self.ids):
                    whole, kept = count, size
            file.truncate(kept)
        return whole


def _sealed(line: bytes) -> bytes:
    """Return a line with its digest."""
    return line[:-2] + SEAL + digest_bytes(line).encode() + b'"}\n'


def _whole(line: bytes) -> bool:
    """Whether a line is what was written."""
    return line == _sealed(line.rpartition(SEAL)[0] + b"}\n")
