"""A tiny generated data set: three patterns at 8×8 that any classifier can learn, for tests that take milliseconds."""

from __future__ import annotations

import numpy as np

from ddbench.keys import digest_bytes
from ddbench.plugin.datasets import Dataset, Split
from ddbench.plugin.images import ArrayImages

NAMES = ("rows", "columns", "checks")
SIZE = 8


def toy_dataset(*, per_class: int = 12, test_per_class: int = 20, channels: int = 1, seed: int = 0) -> Dataset:
    """Return rows, columns and checks of random phase and contrast with a little noise, uint8 [N, 8, 8, channels].

    Args:
        per_class: training images per class.
        test_per_class: test images per class.
        channels: 1 or 3.
        seed: another one draws other images.
    """
    rng = np.random.default_rng([seed, channels])
    train, test = (
        _draw(rng, count, channels, part) for part, count in (("train", per_class), ("test", test_per_class))
    )
    pixels = np.asarray(train.images.batch(range(len(train)), SIZE)) / 255
    content = [array for part in (train, test) for array in (part.images.batch(range(len(part)), SIZE), part.labels)]
    return Dataset(
        name="toy",
        class_names=NAMES,
        class_ids=NAMES,
        image_size=SIZE,
        mean=tuple(pixels.mean((0, 1, 2)).tolist()),
        std=tuple(pixels.std((0, 1, 2)).tolist()),
        train=train,
        test=test,
        fingerprint=digest_bytes(*(np.ascontiguousarray(array).data for array in content)),
        origin=f"drawn with seed {seed}: {per_class} training and {test_per_class} test images per class",
        flip=True,
    )


def _draw(rng: np.random.Generator, per_class: int, channels: int, part: str) -> Split:
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.repeat(np.arange(len(NAMES), dtype=np.int64), per_class)
    images = []
    for label in labels:
        pattern = ((y, x, x + y)[label] // 2 + rng.integers(2)) % 2 if label < 2 else (y // 2 + x // 2) % 2
        image = 128 + rng.uniform(50, 90) * (2 * pattern - 1)[..., None] + rng.normal(0, 15, (SIZE, SIZE, channels))
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return Split(ArrayImages(np.stack(images)), labels, tuple(f"{part}-{i}" for i in range(len(labels))))
