"""scikit-learn's digits: the data set that is always there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import ddbench
from ddbench_plugins.datasets.arrays import Classes, Part, from_arrays
from ddbench_plugins.datasets.split import stratified

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Digits(ddbench.DatasetLoader):
    """The 1,797 digits of ``sklearn.datasets.load_digits`` (test part of the UCI set), shown at 16×16."""

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Return the digits with a fixed stratified split: 1,437 training and 360 test images."""
        images, labels = read_digits()
        ids = tuple(f"{i:05d}" for i in range(len(labels)))
        shown = enlarge(images)
        train, test = (
            Part(shown[where], labels[where], tuple(ids[i] for i in where))
            for where in stratified(labels, ids, fraction=0.2, seed=0)
        )
        return from_arrays(
            "digits",
            Classes(tuple("0123456789"), NAMES),
            train,
            test,
            origin=(
                "scikit-learn's load_digits (8×8, values 0…16, enlarged bilinearly to 16×16), stratified split, seed"
                f" 0: {len(train.labels):,} training and {len(test.labels):,} test images"
            ),
            flip=False,
        )

    def status(self, ctx: ddbench.Context, argument: str) -> ddbench.DataStatus:
        """They are part of a package that ddbench needs."""
        return ddbench.DataStatus("inside scikit-learn")


def read_digits() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the digits as int64 [1797, 8, 8] with values 0…16, and their labels.

    The file inside scikit-learn is read directly, because importing scikit-learn takes seconds.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package else ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            table = np.loadtxt(path, delimiter=",", dtype=np.int64)
            return table[:, :64].reshape(-1, 8, 8), table[:, 64]
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images.astype(np.int64), data.target.astype(np.int64)


def enlarge(images: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Double [N, 8, 8] with values 0…16 to uint8 [N, 16, 16, 1] with values 0…255.

    Bilinear with pixel centres aligned: each new pixel is ¾ of the nearest and ¼ of the next old one along both axes,
    in exact integers.
    """
    for axis in (1, 2):
        edges = [(0, 0)] * 3
        edges[axis] = (1, 1)
        padded = np.moveaxis(np.pad(images, edges, mode="edge"), axis, 0)
        before, here, after = padded[:-2], padded[1:-1], padded[2:]
        doubled = np.stack([before + 3 * here, 3 * here + after], axis=1)
        images = np.moveaxis(doubled.reshape(-1, *doubled.shape[2:]), 0, axis)
    # Two axes of quarters make sixteenths of 0…16.
    return ((images * 255 + 128) // 256).astype(np.uint8)[..., None]
