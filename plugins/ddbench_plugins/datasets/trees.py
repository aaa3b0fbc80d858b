"""Class-folder trees: finding the files, and decoding each of them only once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import ddbench
from ddbench.errors import DataError
from ddbench_plugins.datasets.arrays import measure, pixels_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
#: Splits that would take more bytes than this are decoded on demand instead of being kept as one array.
ARRAY_LIMIT = 8 * 2**30
#: Splits with more bytes of files than this are identified by names and sizes only.
CONTENT_LIMIT = 4 * 2**30
#: Raise when decoding changes.
VERSION = 1


@dataclass(frozen=True)
class File:
    """One image file.

    Attributes:
        label: class index.
        id: ``<class folder>/<path in it>``, the same wherever the tree is.
        path: where it is.
        size: in bytes.
        changed: time of the last change, in nanoseconds; only says whether to read it again.
    """

    label: int
    id: str
    path: Path
    size: int
    changed: int


def class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders of a tree, sorted; hidden ones do not count."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def scan(ctx: ddbench.Context, folder: Path, classes: Sequence[str], who: str) -> list[File]:
    """Return the image files of a tree by class and name; other files are left out with a warning.

    Args:
        ctx: hears the warning.
        folder: holds one folder per class.
        classes: names of the class folders in label order.
        who: what the tree is, for messages.

    Raises:
        DataError: a class has no images, or a file is empty; all of them are counted and the first is named.
    """
    files: list[File] = []
    others: list[str] = []
    for label, name in enumerate(classes):
        before = len(files)
        for identity, path, size, changed in sorted(_walk(str(folder / name), name)):
            if os.path.splitext(identity)[1].lower() in SUFFIXES:  # noqa: PTH122 (ten times as fast as pathlib)
                files.append(File(label, identity, Path(path), size, changed))
            else:
                others.append(identity)
        if len(files) == before:
            raise DataError(
                f"{who}: class folder {name!r} has no images.",
                hint=f"Known image files: {', '.join(sorted(SUFFIXES))}. Add images or remove the folder.",
            )
    if others:
        ctx.warn(f"{who}: {len(others)} file(s) that are no images were ignored, the first is {others[0]}.")
    complain(who, [f"{file.id} is {'empty' if file.size == 0 else 'not readable'}" for file in files if file.size < 1])
    return files


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, str, int, int]]:
    """Yield id, path, size (-1 for a dead link) and time of change of every file below a folder, except hidden ones."""
    with os.scandir(folder) as entries:
        for entry in entries:
            identity = f"{prefix}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, identity)
                continue
            try:
                about = entry.stat()
                yield identity, entry.path, about.st_size, about.st_mtime_ns
            except OSError:
                yield identity, entry.path, -1, 0


def complain(who: str, problems: Sequence[str]) -> None:
    """Raise for a list of broken files.

    Raises:
        DataError: there are any; the first is named and all are counted.
    """
    if problems:
        more = f" ({len(problems)} broken files in all)" if len(problems) > 1 else ""
        raise DataError(
            f"{who}: image {problems[0]}{more}.", hint="Replace or remove the file(s), then run the command again."
        )


class TreeImages(ddbench.FileImages):
    """Images of a tree; each size asked for as a whole is decoded once and kept as one array in the store."""

    def __init__(self, ctx: ddbench.Context, files: Sequence[File], channels: int, who: str) -> None:
        super().__init__([file.path for file in files], channels)
        self.ctx = ctx
        self.files = list(files)
        self.who = who
        self.listing = ddbench.digest([[file.id, file.size] for file in files])
        self.content = self._content()
        self._steps: dict[int, ddbench.Done] = {}
        self._arrays: dict[int, ddbench.ArrayImages] = {}

    def load(self, index: int, size: int) -> NDArray[np.uint8]:
        """Return one image: from the kept array of this size if there is one, else decoded from its file."""
        return self._arrays[size].load(index, size) if size in self._arrays else super().load(index, size)

    def batch(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """Return some images; asking for all of them keeps them for the next time."""
        if size not in self._arrays and len(indices) >= len(self):
            self.keep(size)
        return self._arrays[size].batch(indices, size) if size in self._arrays else super().batch(indices, size)

    def keep(self, size: int) -> ddbench.Done | None:
        """Decode all images at a size into the store, or find them there; None if they would be too large.

        Raises:
            DataError: files that cannot be read; the first is named and all are counted.
        """
        if len(self) * size * size * self.channels > ARRAY_LIMIT:
            return None
        if size not in self._steps:
            files = {"files": self.listing, "content": self.content}
            inputs = {"version": VERSION, **files, "size": size, "channels": self.channels}
            done = self.ctx.step("images", inputs, lambda step: self._decode(step, size))
            self._steps[size] = done
            self._arrays[size] = ddbench.ArrayImages(np.load(done.dir / "images.npy", mmap_mode="r"))
        return self._steps[size]

    def array(self, size: int) -> NDArray[np.uint8]:
        """Return all images at a size, read-only: uint8 [N, size, size, C]."""
        return self._arrays[size].array if self.keep(size) else self.batch(range(len(self)), size)

    def _content(self) -> str | None:
        """Return the digest of the files' bytes, or None if they are too large to read them all."""
        if sum(file.size for file in self.files) > CONTENT_LIMIT:
            return None

        def read(step: ddbench.Step) -> None:
            step.info["content"] = ddbench.digest([ddbench.digest_bytes(path.read_bytes()) for path in self.paths])

        # Times of change decide only whether the bytes are read again; what is made of them is keyed by the bytes.
        changed = ddbench.digest([file.changed for file in self.files])
        inputs = {"version": VERSION, "files": self.listing, "changed": changed}
        content: str = self.ctx.store.build("image-files", inputs, read).info["content"]
        return content

    def _decode(self, step: ddbench.Step, size: int) -> None:
        from PIL.Image import DecompressionBombError

        path = step.dir / "images.npy"
        shape = (len(self), size, size, self.channels)
        problems: list[str] = []
        try:
            array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)

            def decode(index: int) -> None:
                try:
                    array[index] = super(TreeImages, self).load(index, size)
                except (DataError, DecompressionBombError) as error:  # the latter: a damaged header claims a vast size
                    problems.append(f"{self.files[index].id} cannot be read ({error.__cause__ or error})")

            with ThreadPoolExecutor(4) as pool, self.ctx.progress(f"decoding {self.who}", len(self)) as advance:
                for start in range(0, len(self), 256):
                    stop = min(start + 256, len(self))
                    list(pool.map(decode, range(start, stop)))
                    advance(stop)
            complain(self.who, sorted(problems))
            array.flush()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        step.info["mean"], step.info["std"] = (list(values) for values in measure(array))
        step.info["pixels"] = pixels_digest(array)


def split_of(images: TreeImages) -> ddbench.Split:
    """Return a tree as a split."""
    labels = np.array([file.label for file in images.files], np.int64)
    return ddbench.Split(images, labels, tuple(file.id for file in images.files))


def from_trees(
    name: str,
    class_ids: Sequence[str],
    class_names: Sequence[str],
    train: TreeImages,
    test: TreeImages,
    *,
    image_size: int,
    origin: str,
    stats: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    flip: bool = True,
) -> ddbench.Dataset:
    """Build a data set from two trees, decoding both at ``image_size`` (which finds every broken file).

    The fingerprint covers class ids, size, per-class counts, names and the bytes of the files (sizes only beyond
    ``CONTENT_LIMIT``).

    Raises:
        DataError: files that cannot be read.
    """
    kept = [images.keep(image_size) for images in (train, test)]
    splits = [split_of(train), split_of(test)]
    if stats is None:
        info = kept[0].info if kept[0] else _sampled(train, image_size)
        stats = tuple(info["mean"]), tuple(info["std"])
    return ddbench.Dataset(
        name=name,
        class_names=tuple(class_names),
        class_ids=tuple(class_ids),
        image_size=image_size,
        mean=stats[0],
        std=stats[1],
        train=splits[0],
        test=splits[1],
        fingerprint=ddbench.digest(
            {
                "class_ids": list(class_ids),
                "image_size": image_size,
                "counts": [split.counts(len(class_ids)) for split in splits],
                "content": [[images.listing, images.content] for images in (train, test)],
            }
        ),
        origin=origin,
        flip=flip,
    )


def _sampled(images: TreeImages, size: int) -> dict[str, tuple[float, ...]]:
    chosen = np.linspace(0, len(images) - 1, 1000, dtype=int)
    mean, std = measure(images.batch(chosen.tolist(), size))
    return {"mean": mean, "std": std}
