"""Data sets as every plugin sees them: classes whose order ddbench owns, two splits, a fingerprint.

Images are NumPy arrays, uint8 [N, S, S, C]; they come from :class:`ddbench.ImageSource`.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.errors import PluginError, UsageError
from ddbench.plugin.arguments import whole
from ddbench.plugin.images import ImageSource, PartOfImages, unchangeable

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A folder of a machine inside a sentence.
ABSOLUTE = re.compile(r"(?:^|[\s('\"])(?:/|~/|[A-Za-z]:[\\/])\w")


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
        images: where its N images come from.
        labels: int64 [N] in 0…K−1, every class present. They cannot be written to, as images in memory cannot: every
            plugin gets the same ones.
        ids: one distinct, stable text per image (its file name or index).

    Raises:
        TypeError: labels of another type or shape.
    """

    images: ImageSource
    labels: NDArray[np.int64]
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.labels, np.ndarray) or self.labels.dtype != np.int64 or self.labels.ndim != 1:
            raise TypeError(f"the labels of a split must be a NumPy array int64 [N], not {describe(self.labels)}")
        object.__setattr__(self, "labels", unchangeable(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<Split of {len(self):,} images>"

    def checksum(self) -> list[int]:
        """Return checksums of the labels and of images that are in memory: another one after a plugin was at them."""
        return [zlib.crc32(np.ascontiguousarray(self.labels).data), self.images.checksum()]

    def of_class(self, label: int) -> NDArray[np.int64]:
        """Return the positions of one class, in order."""
        return np.flatnonzero(self.labels == label)

    def counts(self, num_classes: int) -> list[int]:
        """Return the number of images per class."""
        return [int(count) for count in np.bincount(self.labels, minlength=num_classes)]

    def part(self, rows: range) -> Split:
        """Return consecutive images, perhaps not of every class."""
        if len(rows) == len(self):
            return self
        where = slice(rows.start, rows.stop)
        return Split(PartOfImages(self.images, rows), self.labels[where], self.ids[where])

    def check(self, who: str, class_names: Sequence[str], channels: int) -> None:
        """Name the first contract violation of a split of a data set with these classes and channels.

        Raises:
            PluginError: lengths, labels, channels or ids.
        """
        if not len(self.images) == len(self.labels) == len(self.ids):
            sizes = f"{len(self.images)} images, {len(self.labels)} labels and {len(self.ids)} ids"
            raise PluginError(f"{who} has {sizes}.")
        if len(self.labels) and (self.labels.min() < 0 or self.labels.max() >= len(class_names)):
            raise PluginError(f"{who} has labels outside 0…{len(class_names) - 1}.")
        if 0 in (counts := self.counts(len(class_names))):
            raise PluginError(f"{who} has no image of class {class_names[counts.index(0)]!r}.")
        if self.images.channels != channels:
            raise PluginError(f"{who} has {self.images.channels} channels, the training images have {channels}.")
        if not _texts(self.ids) or len(set(self.ids)) != len(self.ids):
            raise PluginError(f"{who} has ids that are not distinct texts.", hint="One per image, such as its file.")


@dataclass(frozen=True)
class Dataset:
    """A data set whose class order and ids are owned by ddbench.

    Attributes:
        name: the registered name.
        class_names: readable, in label order.
        class_ids: stable ids in label order (synset ids for ImageNet), used to match teachers and distilled sets.
        image_size: side S that methods and evaluators see.
        mean: C values, of pixels scaled to [0, 1].
        std: as ``mean``.
        train: what methods distil.
        test: for evaluation only.
        fingerprint: digest of class ids, per-class counts and content; part of every key and record.
        origin: one sentence saying which files and which split these are; stored in every record.
        flip: whether a mirrored image keeps its label (a digit does not).
        zca: recipe by which methods and evaluators whiten images instead of normalising them by mean and std
            (:data:`ddbench.plugin.whitening.RECIPES`); None for not at all.
    """

    name: str
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    test: Split
    fingerprint: str
    origin: str
    flip: bool = True
    zca: str | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Image channels C (1 or 3)."""
        return self.train.images.channels

    def __repr__(self) -> str:
        images = f"{len(self.train):,} training and {len(self.test):,} test images"
        return f"<Dataset {self.name}: {self.num_classes} classes, {images} of {self.image_size}×{self.image_size}>"

    def checksum(self) -> list[int]:
        """Return checksums of what is in memory of both splits."""
        return [*self.train.checksum(), *self.test.checksum()]

    def arrays(self, split: str, size: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return a whole split in memory: uint8 [N, S, S, C] and int64 [N]."""
        part = {"train": self.train, "test": self.test}[split]
        images = part.images.batch(range(len(part)), size or self.image_size)
        return images, part.labels

    def key(self) -> dict[str, Any]:
        """Return all of this data set that a result can depend on: part of the key of every step of a run."""
        return {
            "fingerprint": self.fingerprint,
            "image_size": self.image_size,
            "channels": self.channels,
            "class_names": list(self.class_names),
            "class_ids": list(self.class_ids),
            "mean": [float(value) for value in self.mean],
            "std": [float(value) for value in self.std],
            "flip": bool(self.flip),
            **({"zca": self.zca} if self.zca else {}),
        }

    def describe(self) -> dict[str, Any]:
        """Return the facts of this data set that go into records."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "image_size": self.image_size,
            "channels": self.channels,
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "class_ids": list(self.class_ids),
            "train_images": len(self.train),
            "test_images": len(self.test),
            "origin": self.origin,
        }

    def check(self, who: str) -> None:
        """Name the first contract violation.

        Raises:
            PluginError: names, ids, size, statistics, fingerprint or a split; the message names the mistake.
        """
        k, channels = self.num_classes, self.channels
        if not (_texts(self.class_names) and _texts(self.class_ids)):
            raise PluginError(f"{who}: class names and ids must be tuples of text, none of it empty.")
        if len(self.class_ids) != k or len(set(self.class_ids)) != k:
            raise PluginError(f"{who} has {k} class names but {len(set(self.class_ids))} distinct class ids.")
        if not isinstance(self.image_size, int) or self.image_size < 1:
            raise PluginError(f"{who} has the image size {self.image_size!r}, which is no number of pixels.")
        if len(self.mean) != channels or len(self.std) != channels:
            raise PluginError(f"{who} has {channels} channels but a mean of {len(self.mean)} values.")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise PluginError(f"{who} has a mean of {self.mean} and a std of {self.std}: finite, and std above zero.")
        if not (_texts((self.name, self.fingerprint)) and isinstance(self.origin, str)):
            raise PluginError(f"{who}: name, fingerprint and origin must be text.", hint="See ddbench.digest_bytes.")
        if ABSOLUTE.search(self.origin):
            raise PluginError(
                f"{who} names a folder of this machine in its origin: {self.origin!r}.",
                hint="Records are published: say which files these are without where they lie.",
            )
        for name, split in (("train", self.train), ("test", self.test)):
            split.check(f"{who}: the {name} split", self.class_names, channels)


@dataclass(frozen=True)
class DataStatus:
    """Whether the files of a data set are on this machine; shown to the user, never part of a record.

    Attributes:
        found: what there is and where; empty when it cannot be loaded from what is here.
        missing: what is not there; empty when nothing is.
        advice: how to get it.
    """

    found: str = ""
    missing: str = ""
    advice: str = ""


def check_ipc(dataset: Dataset, ipc: int) -> None:
    """Refuse a budget that the smallest class cannot fill.

    Raises:
        UsageError: no whole number, below 1 or larger than the smallest class.
    """
    counts = dataset.train.counts(dataset.num_classes)
    smallest = int(np.argmin(counts))
    ipc = whole(ipc, "IPC", 1)
    if ipc > counts[smallest]:
        raise UsageError(
            f"IPC {ipc} is larger than class {dataset.class_names[smallest]!r} of {dataset.name},"
            f" which has {counts[smallest]} training images.",
            hint=f"Choose an IPC of at most {counts[smallest]}.",
        )


def _texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def describe(value: Any) -> str:
    """Return type and shape of what was meant to be an array: ``float64 [10, 2]`` or ``list``."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
