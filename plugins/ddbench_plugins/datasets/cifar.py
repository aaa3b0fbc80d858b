"""CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import ClassVar

import numpy as np

from ddbench_plugins.datasets.arrays import Part, relabel
from ddbench_plugins.datasets.published import Published, opened


class _CIFAR(Published):
    torchvision_class: ClassVar[str]
    what = "batches"

    def read(self, folder: Path, *, download: bool) -> tuple[Part, Part]:
        """Open the pickled batches, whose classes may be in any order."""
        train, test = (
            Part(
                np.ascontiguousarray(data.data),
                relabel(np.asarray(data.targets, np.int64), data.classes, self.ids, self.files[0]),
            )
            for data in opened(self.torchvision_class, folder, ({"train": True}, {"train": False}), download=download)
        )
        return train, test


class CIFAR10(_CIFAR):
    """CIFAR-10 in its published class order."""

    name = "cifar10"
    ids = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    stats = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    torchvision_class = "CIFAR10"
    files = ("cifar-10-batches-py",)
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"


class CIFAR100(_CIFAR):
    """CIFAR-100 with its fine labels, in alphabetical order as published."""

    name = "cifar100"
    ids = tuple(
        importlib.resources.files("ddbench_plugins.datasets").joinpath("cifar100.txt").read_text("utf-8").split()
    )
    stats = ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
    torchvision_class = "CIFAR100"
    files = ("cifar-100-python",)
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
