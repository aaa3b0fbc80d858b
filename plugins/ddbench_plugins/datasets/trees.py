"""Images of class-folder trees: looked at once, decoded once per size, kept as memory-mapped arrays."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

import ddbench
from ddbench import DataError, StorageError, write_atomic
from ddbench.files import why
from ddbench_plugins.datasets.arrays import measure, measure_all
from ddbench_plugins.datasets.listing import Files, complain
from ddbench_plugins.datasets.whole import looks_whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Splits that would take more bytes than this are decoded on demand instead of being kept as one array.
ARRAY_LIMIT = 8 * 2**30
#: Splits with more bytes of files than this, or more files, are identified by names and sizes only.
CONTENT_LIMIT = 4 * 2**30
FILES_LIMIT = 500_000
DIGESTS = "digests.bin"


class TreeImages(ddbench.FileImages):
    """Images of a tree; each size asked for as a whole is decoded once and kept as one array in the store.

    Attributes:
        listing: digest of the files' names and sizes, in order.
        content: digest of their bytes, or None of a large tree.
    """

    def __init__(self, ctx: ddbench.Context, files: Files, channels: int, who: str) -> None:
        super().__init__(files.places, channels)
        self.ctx = ctx
        self.files = files
        self.who = who
        self.listing = digest_of_list([file.id, file.size] for file in files)
        self.content = self._look()
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

    def keep(self, size: int, *, always: bool = False) -> ddbench.Done | None:
        """Decode all images at a size into the store, or find them there.

        Args:
            size: side in pixels.
            always: decode also what takes more than ``ARRAY_LIMIT``; else None is returned if it is not there yet.

        Raises:
            DataError: files that cannot be read; the first is named and all are counted.
        """
        if size not in self._steps:
            about = {"files": self.listing, "content": self.content, "channels": self.channels}
            call = decoded.of(self.ctx, Tree(about, self), size)
            if not always and self.nbytes(size) > ARRAY_LIMIT and not call.found():
                return None
            done = call.done()
            self._steps[size] = done
            self._arrays[size] = ddbench.ArrayImages(np.load(done.dir / "images.npy", mmap_mode="r"))
        return self._steps[size]

    def prepare(self, size: int) -> int:
        """Decode all images at a size into the store, however many, and return the bytes that they take there.

        Raises:
            StorageError: the disk has no room for them.
            DataError: files that cannot be read.
        """
        room = shutil.disk_usage(_existing(self.ctx.home)).free
        if not self.keep(size) and self.nbytes(size) > room:
            raise StorageError(
                f"{self.who} at {size}×{size} takes {self.nbytes(size) / 1e9:,.1f} GB; {room / 1e9:,.1f} GB are free.",
                hint="Free some space, point DDBENCH_HOME somewhere else, or decode on demand (do not prepare it).",
            )
        self.keep(size, always=True)
        return self.nbytes(size)

    def array(self, size: int) -> NDArray[np.uint8]:
        """Return all images at a size, read-only: uint8 [N, size, size, C]."""
        return self._arrays[size].array if self.keep(size) else self.batch(range(len(self)), size)

    def nbytes(self, size: int) -> int:
        """Return what all images at a size take."""
        return len(self) * size * size * self.channels

    def _look(self) -> str | None:
        """Look for cut-off files and return the digest of all files' bytes, or None if they are too many to read.

        Raises:
            DataError: files that are no whole images; the first is named and all are counted.
        """
        # Times of change decide only whether the bytes are read again; what is made of them is keyed by the bytes.
        about = {"files": self.listing, "changed": digest_of_list(file.changed for file in self.files)}
        self._looked = looked_at(self.ctx, Tree(about, self))
        content: str | None = self._looked.info["content"]
        return content

    def check(self, out: ddbench.Step) -> None:
        """Look for cut-off files and digest the bytes of all."""
        small = len(self) <= FILES_LIMIT and sum(file.size for file in self.files) <= CONTENT_LIMIT

        def look(index: int) -> tuple[str, str]:
            file = self.files[index]
            try:
                content = ddbench.digest_bytes(file.path.read_bytes()) if small else ""
                whole = looks_whole(file.place, file.size)
            except OSError as error:
                return "", f"{file.id} cannot be read ({error.strerror})"
            # Decoding is sure, and quick enough for the few that look cut off.
            return content, "" if whole else self._try(index, 8)[1]

        problems: list[str] = []

        def contents() -> Iterator[str]:
            with (out.dir / DIGESTS).open("wb") as kept:
                for content, problem in self._each(f"checking {self.who}", look, 0):
                    problems.extend([problem] if problem else [])
                    kept.write(bytes.fromhex(content))
                    yield content

        content = digest_of_list(contents())
        complain(self.who, problems)
        out.info["content"] = content if small else None

    def digests(self) -> list[bytes]:
        """Return the digest of each file's bytes; nothing of a large tree."""
        kept = (self._looked.dir / DIGESTS).read_bytes()
        return [kept[start : start + 32] for start in range(0, len(kept), 32)]

    def _try(self, index: int, size: int) -> tuple[NDArray[np.uint8] | None, str]:
        """Return an image decoded from its file, or None and why it cannot be."""
        from PIL.Image import DecompressionBombError

        try:
            return super().load(index, size), ""
        except (DataError, DecompressionBombError) as error:  # the latter: a damaged header claims a vast size
            reason = why(self.files[index].path, error.__cause__ or error)
            return None, f"{self.files[index].id} cannot be read ({reason})"

    def _each(self, title: str, work: Callable[[int], Any], start: int) -> Iterator[Any]:
        """Yield what ``work`` returns for each file in order, from number ``start``, with progress."""
        with ThreadPoolExecutor(4) as pool, self.ctx.progress(title, len(self)) as advance:
            for first in range(start, len(self), 256):
                stop = min(first + 256, len(self))
                # A task of several files, because handing one over takes as long as looking at it.
                blocks = [range(start, min(start + 64, stop)) for start in range(first, stop, 64)]
                for results in pool.map(lambda block: [work(index) for index in block], blocks):
                    yield from results
                advance(stop)

    def decode(self, out: ddbench.Step, size: int) -> None:
        """Decode all images at a size."""
        path = out.dir / "images.npy"
        shape = (size, size, self.channels)
        # Beside the pixels and not by ``out.save``, which imports torch: half of what decoding may take of memory.
        kept = out.dir / "decoded.json"
        state = json.loads(kept.read_text("utf-8")) if kept.exists() and path.exists() else None
        done, problems = (state["done"], state["problems"]) if state else (0, [])
        # Written as a stream: pages of a mapped file would count as memory of this process.
        with path.open("r+b" if state else "w+b") as file:
            start = _header(file, (len(self), *shape))
            file.seek(start + done * math.prod(shape))
            saved = time.monotonic()
            for image, problem in self._each(f"decoding {self.who}", lambda index: self._try(index, size), done):
                file.write(np.zeros(shape, np.uint8).data if image is None else image.tobytes())
                done += 1
                problems += [problem] if problem else []
                if time.monotonic() - saved > self.ctx.checkpoint_seconds:
                    file.flush()
                    write_atomic(kept, json.dumps({"done": done, "problems": problems}))
                    saved = time.monotonic()
            kept.unlink(missing_ok=True)
            if problems:
                path.unlink()
            complain(self.who, sorted(problems))

            def batches() -> Iterator[NDArray[np.uint8]]:
                file.seek(start)
                while raw := file.read(256 * math.prod(shape)):
                    yield np.frombuffer(raw, np.uint8).reshape(-1, *shape)

            out.info["mean"], out.info["std"] = (list(values) for values in measure_all(batches()))
            # What ``pixels_digest`` says of the whole array.
            digest = hashlib.sha256(self.nbytes(size).to_bytes(8, "little"))
            for batch in batches():
                digest.update(batch.data)
            out.info["pixels"] = digest.hexdigest()


@dataclass(frozen=True)
class Tree:
    """Images, as what says which they are."""

    about: dict[str, Any]
    images: TreeImages = field(compare=False)


@ddbench.step(name="image-files", data=False, version=3)
def looked_at(ctx: ddbench.Context, out: ddbench.Step, tree: Tree) -> None:
    """Look for cut-off files and digest the bytes of all."""
    tree.images.check(out)


@ddbench.step(
    name="images",
    work=lambda ctx, tree, size: len(tree.images),
    disk=lambda ctx, tree, size: tree.images.nbytes(size),
)
def decoded(ctx: ddbench.Context, out: ddbench.Step, tree: Tree, size: int) -> None:
    """Decode all images at a size."""
    tree.images.decode(out, size)


def _header(file: BinaryIO, shape: tuple[int, ...]) -> int:
    """Write the head of an .npy file of uint8 values and return its length."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.tell()


def digest_of_list(items: Iterable[Any]) -> str:
    """Return ``ddbench.digest(list(items))`` of texts, whole numbers and lists of them, without holding the list."""
    state, first = hashlib.sha256(b"["), True
    remaining = iter(items)
    while chunk := list(islice(remaining, 4096)):
        text = json.dumps(chunk, separators=(",", ":"), ensure_ascii=False)
        state.update(("" if first else ",").encode() + text[1:-1].encode())
        first = False
    state.update(b"]")
    return state.hexdigest()


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def split_of(images: TreeImages) -> ddbench.Split:
    """Return a tree as a split."""
    return ddbench.Split(images, images.files.labels, images.files.ids)


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
