"""A data set in one file: squares, discs and crosses of random size and place at 16×16."""

import numpy as np

from ddbench import ArrayImages, Dataset, DatasetLoader, DatasetSpec, Split, digest_bytes, hookimpl

NAMES = ("square", "disc", "cross")
SIZE = 16


def draw(per_class, seed):
    """Draw one split: uint8 [N, 16, 16, 1], labels int64 in class order, one id per image."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.repeat(np.arange(3), per_class)
    images = rng.normal(60, 25, (len(labels), SIZE, SIZE))
    for image, label in zip(images, labels, strict=True):
        (cy, cx), r = rng.integers(5, 11, 2), rng.integers(3, 6)
        dy, dx = abs(y - cy), abs(x - cx)
        inside = (np.maximum(dy, dx) < r, dy**2 + dx**2 < r**2, (np.minimum(dy, dx) < 1) & (np.maximum(dy, dx) < r))
        image[inside[label]] += 120
    pixels = images.clip(0, 255).astype(np.uint8)[..., None]
    return Split(ArrayImages(pixels), labels, tuple(f"{seed}-{i}" for i in range(len(labels))))


class Shapes(DatasetLoader):
    """Drawn with fixed seeds, so that everybody has the same images."""

    def load(self, ctx, argument):
        train, test = draw(50, seed=0), draw(100, seed=1)
        pixels = train.images.array / 255
        return Dataset(
            name="shapes",
            class_names=NAMES,
            class_ids=NAMES,  # teachers and distilled sets are matched by these
            image_size=SIZE,
            mean=(float(pixels.mean()),),
            std=(float(pixels.std()),),
            train=train,
            test=test,
            fingerprint=digest_bytes(*(a.data for s in (train, test) for a in (s.images.array, s.labels))),
            origin="drawn by shapes.py: 50 training and 100 test images per class",
        )


@hookimpl
def ddbench_datasets():
    return [DatasetSpec("shapes", Shapes, "squares, discs and crosses at 16×16")]
