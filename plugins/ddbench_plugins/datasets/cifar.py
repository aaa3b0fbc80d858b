"""CIFAR-10 and CIFAR-100 from arrays, class folders or torchvision's files."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import ddbench
from ddbench.errors import DataError
from ddbench_plugins.datasets.arrays import Classes, Part, from_arrays, relabel
from ddbench_plugins.datasets.npz import pair_at, read_split
from ddbench_plugins.datasets.places import download, roots
from ddbench_plugins.datasets.trees import TreeImages, class_folders, scan, split_of

TEST_NAMES = ("test", "val")
SIZE = 32


class _CIFAR(ddbench.DatasetLoader):
    """What the two have in common.

    In each data folder, in this order: arrays, class folders, torchvision's (pickled) batches, which only torchvision
    opens and only if their published checksums hold. If there are none, torchvision downloads them.
    """

    name: ClassVar[str]
    ids: ClassVar[tuple[str, ...]]
    stats: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]]
    torchvision_class: ClassVar[str]
    torchvision_folder: ClassVar[str]
    url: ClassVar[str]

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Return the data set.

        Raises:
            DataError: it is nowhere and cannot be downloaded, or its files are damaged.
        """
        train, test, what = self._find(ctx)
        return from_arrays(
            self.name,
            Classes(self.ids, tuple(name.replace("_", " ") for name in self.ids)),
            train,
            test,
            image_size=SIZE,
            stats=self.stats,
            origin=f"{what}: {len(train.labels):,} training and {len(test.labels):,} test images",
        )

    def _find(self, ctx: ddbench.Context) -> tuple[Part, Part, str]:
        places: list[Path] = []
        for root in roots():
            for folder in (root, root / self.name):
                if files := pair_at(folder / f"{self.name}.npz"):
                    parts = [self._from_npz(files[i], split) for i, split in ((0, "train"), (-1, "test"))]
                    return parts[0], parts[1], f"arrays {' and '.join(file.name for file in files)}"
            tree = root / self.name
            test = next((tree / name for name in TEST_NAMES if class_folders(tree / name)), None)
            if test is not None and class_folders(tree / "train"):
                return (
                    self._from_tree(ctx, tree / "train"),
                    self._from_tree(ctx, test),
                    f"class folders {tree.name}/{{train,{test.name}}}",
                )
            for folder in (root, root / self.name):
                if (folder / self.torchvision_folder).is_dir():
                    return self._from_torchvision(folder)
            places += [root / f"{self.name}_train.npz", tree / "train", tree / self.torchvision_folder]
        instructions = (
            f"Download {self.url} and unpack it in a data folder, or put {self.name}_train.npz and {self.name}_test.npz"
            f" (images, labels, class_names) or {self.name}/{{train,test}}/<class>/*.png there."
        )
        return download(
            self.name,
            lambda folder: self._from_torchvision(folder, download=True),
            instructions,
            places,
            offline=ctx.machine.offline,
        )

    def _from_npz(self, path: Path, split: str) -> Part:
        part, names, _ = read_split(path, split)
        if part.images.shape[1:] != (SIZE, SIZE, 3):
            raise DataError(f"{path.name} has images of shape {list(part.images.shape[1:])} instead of [32, 32, 3].")
        if names:
            labels = relabel(part.labels, [name.replace(" ", "_") for name in names], self.ids, path.name)
            part = Part(part.images, labels)
        return part

    def _from_tree(self, ctx: ddbench.Context, folder: Path) -> Part:
        """Read class folders, named by class or by five-digit number (Zou et al. 2025 rename them so).

        Files that are numbered through (``00029.png`` is image 29 of the original batches) come in that order, so that
        arrays and folders give the same data set.
        """
        found = class_folders(folder)
        numbered = [f"{i:05d}" for i in range(len(self.ids))]
        names = numbered if found == numbered else list(self.ids)
        if sorted(found) != sorted(names):
            relabel(np.empty(0, np.int64), found, names, f"{folder.parent.name}/{folder.name}")
        who = f"{self.name} ({folder.name})"
        files = scan(ctx, folder, names, who)
        stems = [file.path.stem for file in files]
        through = all(stem.isascii() and stem.isdigit() for stem in stems) and len({int(s) for s in stems}) == len(
            stems
        )
        if through:
            files.sort(key=lambda file: int(file.path.stem))
        images = TreeImages(ctx, files, 3, who)
        done = images.keep(SIZE)
        ids = tuple(f"{int(file.path.stem):05d}" for file in files) if through else split_of(images).ids
        return Part(images.array(SIZE), split_of(images).labels, ids, done.info["pixels"] if done else None)

    def _from_torchvision(self, folder: Path, *, download: bool = False) -> tuple[Part, Part, str]:
        import torchvision.datasets

        make: Any = getattr(torchvision.datasets, self.torchvision_class)
        try:
            sets = [make(str(folder), train=train, download=download) for train in (True, False)]
        except RuntimeError as error:
            if download:
                raise
            raise DataError(
                f"{self.torchvision_folder} is incomplete or damaged: {error}",
                hint=f"Download {self.url} again and unpack it in its place.",
            ) from error
        train, test = (
            Part(
                np.ascontiguousarray(data.data),
                relabel(np.asarray(data.targets, np.int64), data.classes, self.ids, self.torchvision_folder),
            )
            for data in sets
        )
        return train, test, f"the published batches {self.torchvision_folder}"


class CIFAR10(_CIFAR):
    """CIFAR-10 in its published class order."""

    name = "cifar10"
    ids = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    stats = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    torchvision_class = "CIFAR10"
    torchvision_folder = "cifar-10-batches-py"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"


class CIFAR100(_CIFAR):
    """CIFAR-100 with its fine labels, in alphabetical order as published."""

    name = "cifar100"
    ids = tuple(
        importlib.resources.files("ddbench_plugins.datasets").joinpath("cifar100.txt").read_text("utf-8").split()
    )
    stats = ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
    torchvision_class = "CIFAR100"
    torchvision_folder = "cifar-100-python"
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
