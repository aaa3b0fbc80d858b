"""Data sets from arrays: checks, measured statistics, fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import ddbench
from ddbench import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Part:
    """One split before it becomes a :class:`ddbench.Split`.

    Attributes:
        images: uint8 [N, H, W, C].
        labels: int64 [N].
        ids: one per image; the zero-padded positions when None.
        content: digest of the images if it is known already.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: tuple[str, ...] | None = None
    content: str | None = None

    def split(self) -> ddbench.Split:
        """Return it as a split."""
        ids = self.ids or tuple(f"{i:05d}" for i in range(len(self.labels)))
        return ddbench.Split(ddbench.ArrayImages(self.images), self.labels, ids)

    def digest(self) -> str:
        """Return the digest of labels, pixels and shape, in order."""
        pixels = self.content or pixels_digest(self.images)
        labels = ddbench.digest_bytes(np.ascontiguousarray(self.labels, "<i8").data)
        return ddbench.digest([labels, pixels, list(self.images.shape)])


@dataclass(frozen=True)
class Classes:
    """Class ids and readable names in label order."""

    ids: tuple[str, ...]
    names: tuple[str, ...]


def from_arrays(
    name: str,
    classes: Classes,
    train: Part,
    test: Part,
    *,
    origin: str,
    image_size: int | None = None,
    stats: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    flip: bool = True,
) -> ddbench.Dataset:
    """Build a data set from two array splits.

    Args:
        name: the registered name.
        classes: ids and names in label order.
        train, test: the splits.
        origin: one sentence on files and split, without paths.
        image_size: side seen by methods; the shorter side of the images when None.
        stats: published mean and std; measured on the training split when None.
        flip: whether a mirrored image keeps its label.

    Raises:
        DataError: shapes, types, counts or labels that cannot be.
    """
    for what, part in (("training", train), ("test", test)):
        check(part, len(classes.ids), f"{name}: the {what} split")
    if len(classes.ids) < 2:
        raise DataError(f"{name} has one class; at least two are needed.", hint="Add images of other classes.")
    if train.images.shape[-1] != test.images.shape[-1]:
        raise DataError(
            f"{name}: training images have {train.images.shape[-1]} channels, test images {test.images.shape[-1]}.",
            hint="Save both splits with 1 channel, or both with 3.",
        )
    size = image_size or min(train.images.shape[1:3])
    mean, std = stats or measure(train.images)
    return ddbench.Dataset(
        name=name,
        class_names=classes.names,
        class_ids=classes.ids,
        image_size=size,
        mean=mean,
        std=std,
        train=train.split(),
        test=test.split(),
        fingerprint=fingerprint(classes.ids, size, train, test),
        origin=origin,
        flip=flip,
    )


def check(part: Part, num_classes: int, who: str) -> None:
    """Name the first thing wrong with a split.

    Raises:
        DataError: there is something.
    """
    images, labels = part.images, part.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:3]:
        raise DataError(
            f"{who} has images of {images.dtype} {list(images.shape)}.",
            hint="Images must be uint8 [N, H, W] or [N, H, W, 1 or 3], with values 0…255.",
        )
    if labels.ndim != 1 or len(labels) != len(images):
        raise DataError(
            f"{who} has {len(images)} images but labels of shape {list(labels.shape)}.", hint="Give one per image."
        )
    if labels.dtype != np.int64:
        raise DataError(f"{who} has labels of type {labels.dtype} instead of int64.", hint="Save class numbers.")
    if not len(labels):
        raise DataError(f"{who} has no images.", hint="Both splits need images of every class.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{who} has labels from {labels.min()} to {labels.max()}, outside 0…{num_classes - 1}.",
            hint="Labels are places in the list of classes, counted from 0.",
        )
    counts = np.bincount(labels, minlength=num_classes)
    if (counts == 0).any():
        raise DataError(
            f"{who} has no image of class number {int(np.argmin(counts))}.",
            hint="Both splits need images of every class; add some, or leave the class out of both.",
        )


#: Help of the option that accepts a test split of training images only.
ON_TRAINING = "Accept test images that are all training images; a score on them means nothing."


def tell_repeated(ctx: ddbench.Context, train: Iterable[Any], test: Iterable[Any], who: str) -> None:
    """Tell of test images that are training images.

    Args:
        ctx: of the loader, with its option ``test_on_training``.
        train, test: images, or what is equal for equal images.
        who: what they are images of.

    Raises:
        DataError: all of them are, and that was not asked for.
    """
    known = {hashlib.sha256(bytes(image)).digest() for image in train}
    seen = [hashlib.sha256(bytes(image)).digest() in known for image in test]
    count = f"all {len(seen):,}" if all(seen) else f"{sum(seen):,} of {len(seen):,}"
    words = f"{who}: {count} test images are training images, too; a score on them means nothing."
    if seen and all(seen) and not ctx.options.test_on_training:
        raise DataError(words, hint="Give other test images; if this is meant, say -o data.test_on_training=true.")
    if any(seen):
        ctx.warn(words)


def measure(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel of pixels scaled to [0, 1], to four decimals as they are published."""
    return measure_all(images[start : start + 4096] for start in range(0, len(images), 4096))


def measure_all(batches: Iterable[NDArray[np.uint8]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Do the same for images [n, H, W, C] that come in batches.

    Counted with exact integers, so the result is the same on every machine.
    """
    values = np.arange(256)
    histograms: list[NDArray[np.int64]] = []
    for batch in batches:
        counts = [np.bincount(batch[..., channel].ravel(), minlength=256) for channel in range(batch.shape[-1])]
        histograms = [a + b for a, b in zip(histograms, counts, strict=True)] if histograms else counts
    means, stds = [], []
    for histogram in histograms:
        total, first, second = (int((histogram * values**power).sum()) for power in (0, 1, 2))
        mean = first / total
        means.append(round(mean / 255, 4))
        # A constant channel has no spread; dividing by one leaves it at zero.
        stds.append(round(max(second / total - mean**2, 0) ** 0.5 / 255, 4) or 1.0)
    return tuple(means), tuple(stds)


def pixels_digest(images: NDArray[np.uint8]) -> str:
    """Return the digest of the pixels in order."""
    return ddbench.digest_bytes(np.ascontiguousarray(images).data)


def fingerprint(class_ids: Sequence[str], image_size: int, train: Part, test: Part) -> str:
    """Return the digest of class ids, size, per-class counts and content.

    The order of the images counts, because seeded choices go by position. The image size counts, because a network
    trained at one size is not the one of another.
    """
    return ddbench.digest(
        {
            "class_ids": list(class_ids),
            "image_size": image_size,
            "counts": [np.bincount(p.labels, minlength=len(class_ids)).tolist() for p in (train, test)],
            "content": [train.digest(), test.digest()],
        }
    )


def relabel(labels: NDArray[np.int64], classes: Sequence[str], wanted: Sequence[str], who: str) -> NDArray[np.int64]:
    """Turn labels that count in the order ``classes`` into labels that count in the order ``wanted``.

    Raises:
        DataError: the two are not the same classes.
    """
    if list(classes) == list(wanted):
        return labels
    if sorted(classes) != sorted(wanted):
        odd = sorted(set(classes) ^ set(wanted)) or [name for name in classes if list(classes).count(name) > 1]
        raise DataError(
            f"{who} has other classes than it should: {', '.join(odd[:5])}{' …' if len(odd) > 5 else ''}.",
            hint=f"Wanted: {', '.join(wanted[:12])}{' …' if len(wanted) > 12 else ''}.",
        )
    if labels.size and (labels.min() < 0 or labels.max() >= len(classes)):
        raise DataError(
            f"{who} has labels from {labels.min()} to {labels.max()}, outside 0…{len(classes) - 1}.",
            hint="Labels are places in the list of classes, counted from 0.",
        )
    position = {name: i for i, name in enumerate(wanted)}
    return np.array([position[name] for name in classes], np.int64)[labels]
