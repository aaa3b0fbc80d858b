"""Small published data sets from arrays, class folders or torchvision's files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import ddbench
from ddbench import DataError
from ddbench.files import check_file
from ddbench_plugins.datasets.arrays import Classes, Part, from_arrays, relabel
from ddbench_plugins.datasets.headers import look_at
from ddbench_plugins.datasets.listing import Files, class_folders, scan
from ddbench_plugins.datasets.npz import pair_of, read_splits
from ddbench_plugins.datasets.places import download, missing, roots
from ddbench_plugins.datasets.trees import TreeImages, split_of

TEST_NAMES = ("test", "val")
SIZE = 32

Splits = tuple[Part, Part, str]


class Published(ddbench.DatasetLoader):
    """Colour images of 32×32 in two splits.

    In each data folder, in this order: arrays, class folders, torchvision's files, which only torchvision opens and
    only if their published checksums hold. If there are none, torchvision downloads them.

    Attributes:
        ids, names: of the classes in label order; readable names are made from the ids when there are none.
        stats: published mean and std.
        flip: whether a mirrored image keeps its label.
        files: what torchvision needs in a data folder.
        what: a word for these files.
        url: where they come from.
    """

    name: ClassVar[str]
    ids: ClassVar[tuple[str, ...]]
    names: ClassVar[tuple[str, ...]] = ()
    stats: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]]
    flip: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]]
    what: ClassVar[str]
    url: ClassVar[str]

    @abstractmethod
    def read(self, folder: Path, *, download: bool) -> tuple[Part, Part]:
        """Open the published files with torchvision.

        Raises:
            RuntimeError: they do not match their checksums.
        """

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Return the data set.

        Raises:
            DataError: it is nowhere and cannot be downloaded, or its files are damaged.
        """
        if not self._locate():
            download(
                self.name,
                lambda folder: self.read(folder, download=True),
                self._instructions(),
                self._places(),
                offline=ctx.machine.offline,
            )
        located = self._locate()
        if not located:
            raise missing(self.name, self._instructions(), self._places(), "although it was downloaded.")
        train, test, what = located[1](ctx)
        return from_arrays(
            self.name,
            Classes(self.ids, self.names or tuple(name.replace("_", " ") for name in self.ids)),
            train,
            test,
            image_size=SIZE,
            stats=self.stats,
            flip=self.flip,
            origin=f"{what}: {len(train.labels):,} training and {len(test.labels):,} test images",
        )

    def status(self, ctx: ddbench.Context, argument: str) -> ddbench.DataStatus:
        """Say where the files are, or how to get them."""
        if located := self._locate():
            return ddbench.DataStatus(located[0])
        error = missing(self.name, self._instructions(), self._places())
        return ddbench.DataStatus(missing=str(error), advice=f"Any run downloads it unless offline. {error.hint}")

    def _locate(self) -> tuple[str, Callable[[ddbench.Context], Splits]] | None:
        """Return where the first files are and what reads them."""
        for root in roots():
            for folder in (root, root / self.name):
                single = folder / f"{self.name}.npz"
                if files := pair_of(single) or ([single] if single.exists() else []):
                    return " and ".join(map(str, files)), partial(self._from_npz, files)
            tree = root / self.name
            test = next((tree / name for name in TEST_NAMES if class_folders(tree / name)), None)
            if test is not None and class_folders(tree / "train"):
                return f"{tree}/{{train,{test.name}}}", partial(self._from_tree, tree, test)
            for folder in (root, root / self.name):
                if all((folder / name).exists() for name in self.files):
                    where = " and ".join(str(folder / name) for name in self.files)
                    return where, partial(self._published, folder)
        return None

    def _places(self) -> list[Path]:
        own = [f"{self.name}_train.npz", f"{self.name}/train", *(f"{self.name}/{name}" for name in self.files)]
        return [root / name for root in roots() for name in own]

    def _instructions(self) -> str:
        return (
            f"Download {self.url} and put it in a data folder (unpacked if it is an archive), or put"
            f" {self.name}_train.npz and {self.name}_test.npz (images, labels, class_names) or"
            f" {self.name}/{{train,test}}/<class>/*.png there."
        )

    def _from_npz(self, files: list[Path], ctx: ddbench.Context) -> Splits:
        read = zip(files * 2, read_splits(files), strict=False)
        train, test = (self._part_of(path, part, classes) for path, (part, classes) in read)
        return train, test, f"arrays {' and '.join(file.name for file in files)}"

    def _part_of(self, path: Path, part: Part, classes: Classes | None) -> Part:
        if part.images.shape[1:] != (SIZE, SIZE, 3):
            raise DataError(
                f"{path.name} has images of shape {list(part.images.shape[1:])} instead of [32, 32, 3].",
                hint=f"That is not {self.name}; give other arrays as npz:{path.name}.",
            )
        if classes:
            ids = [name.replace(" ", "_") for name in classes.ids]
            part = Part(part.images, relabel(part.labels, ids, self.ids, path.name))
        return part

    def _from_tree(self, tree: Path, test: Path, ctx: ddbench.Context) -> Splits:
        parts = [self._part_in(ctx, folder) for folder in (tree / "train", test)]
        return parts[0], parts[1], f"class folders {tree.name}/{{train,{test.name}}}"

    def _part_in(self, ctx: ddbench.Context, folder: Path) -> Part:
        """Read class folders, named by class or by five-digit number (Zou et al. 2025 rename them so).

        Files that are numbered through (``00029.png`` is image 29 of the original batches) come in that order, so that
        arrays and folders give the same data set.
        """
        folders = class_folders(folder)
        numbered = [f"{i:05d}" for i in range(len(self.ids))]
        names = numbered if folders == numbered else list(self.ids)
        if sorted(folders) != sorted(names):
            relabel(np.empty(0, np.int64), folders, names, f"{folder.parent.name}/{folder.name}")
        who = f"{self.name} ({folder.name})"
        files = scan(ctx, folder, names, who)
        stems = [file.path.stem for file in files]
        through = all(stem.isascii() and stem.isdigit() for stem in stems) and len({int(s) for s in stems}) == len(
            stems
        )
        if through:
            files = Files(sorted(files, key=lambda file: int(file.path.stem)))
        if odd := [side for side in look_at(ctx, files, who)["sides"] if side != [SIZE, SIZE]]:
            raise DataError(
                f"{who} has images of {odd[0][0]}×{odd[0][1]} instead of {SIZE}×{SIZE}.",
                hint=f"That is not {self.name}; give other images as folder:PATH.",
            )
        images = TreeImages(ctx, files, 3, who)
        done = images.keep(SIZE)
        ids = tuple(f"{int(file.path.stem):05d}" for file in files) if through else split_of(images).ids
        return Part(images.array(SIZE), split_of(images).labels, ids, done.info["pixels"] if done else None)

    def _published(self, folder: Path, ctx: ddbench.Context) -> Splits:
        for name in self.files:
            place = folder / name
            for path in sorted(place.iterdir()) if place.is_dir() else [place]:
                if path.is_file():
                    check_file(path)
        try:
            return *self.read(folder, download=False), f"the published {self.what} {' and '.join(self.files)}"
        except RuntimeError as error:
            raise DataError(
                f"{self.files[0]} is incomplete or damaged: {error}",
                hint=f"Download {self.url} again and put it in its place.",
            ) from error


def opened(name: str, folder: Path, splits: tuple[dict[str, Any], dict[str, Any]], *, download: bool) -> list[Any]:
    """Open both splits of a torchvision data set."""
    import torchvision.datasets

    make = getattr(torchvision.datasets, name)
    return [make(str(folder), download=download, **split) for split in splits]
