"""MNIST and those like it from their published idx files."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import ddbench
from ddbench import DataError
from ddbench.files import check_file
from ddbench_plugins.datasets.arrays import Classes, Part, from_arrays
from ddbench_plugins.datasets.places import download, missing, roots

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: More than any of the published files has, unpacked.
MOST_BYTES = 64 * 2**20


class IdxFiles(ddbench.DatasetLoader):
    """Grey 28×28 images in four files, checked against published checksums.

    Attributes:
        name: the registered name, also a folder below a data folder.
        names: of the classes in label order; their ids are the digits.
        stats: published mean and std.
        checksums: sha256 of each decompressed file: training images, their labels, test images, theirs.
        torchvision_class: what downloads them, into a folder of its name.
        elsewhere: folders of other software that may have them.
        flip: whether a mirrored image keeps its label.
        instructions: how to get them.
    """

    name: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    stats: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]]
    checksums: ClassVar[Mapping[str, str]]
    torchvision_class: ClassVar[str]
    elsewhere: ClassVar[tuple[Path, ...]] = ()
    flip: ClassVar[bool] = True
    instructions: ClassVar[str]

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Return the data set; torchvision downloads it if it is nowhere.

        Raises:
            DataError: it is nowhere and cannot be downloaded, or a file does not match its checksum.
        """
        if not self._locate():
            download(self.name, self._fetch, self.instructions, self._places(), offline=ctx.machine.offline)
        folder = self._locate()
        if folder is None:
            raise missing(self.name, self.instructions, self._places(), "although it was downloaded.")
        arrays = [self._read(folder, name) for name in self.checksums]
        train, test = (Part(arrays[i][..., None], arrays[i + 1].astype(np.int64)) for i in (0, 2))
        return from_arrays(
            self.name,
            Classes(tuple("0123456789"), self.names),
            train,
            test,
            stats=self.stats,
            flip=self.flip,
            origin=f"the published idx files: {len(train.labels):,} training and {len(test.labels):,} test images",
        )

    def status(self, ctx: ddbench.Context, argument: str) -> ddbench.DataStatus:
        """Say where the files are, or how to get them."""
        if folder := self._locate():
            return ddbench.DataStatus(str(folder))
        error = missing(self.name, self.instructions, self._places())
        return ddbench.DataStatus(missing=str(error), advice=f"Any run downloads it unless offline. {error.hint}")

    def _places(self) -> list[Path]:
        raw = f"{self.torchvision_class}/raw"  # plain, as torchvision leaves them in its root, and in our folder
        own = [root / name for root in roots() for name in (self.name, raw, f"{self.name}/{raw}")]
        return [*own, *self.elsewhere]

    def _locate(self) -> Path | None:
        return next((place for place in self._places() if all(locate(place, name) for name in self.checksums)), None)

    def _fetch(self, folder: Path) -> None:
        import torchvision.datasets

        make: Any = getattr(torchvision.datasets, self.torchvision_class)
        make(str(folder), download=True)

    def _read(self, folder: Path, name: str) -> NDArray[np.uint8]:
        """Read one published file: uint8 [N, 28, 28] or [N].

        Raises:
            DataError: it is truncated or differs from what was published.
        """
        path = locate(folder, name)
        if path is None:
            raise DataError(f"{self.name} lacks the file {name}.", hint=self.instructions)
        check_file(path)
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                raw = file.read(MOST_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path.name} cannot be read: {error}", hint=self.instructions) from error
        if hashlib.sha256(raw).hexdigest() != self.checksums[name]:
            raise DataError(f"{path.name} is damaged: its content is not what was published.", hint=self.instructions)
        return parse_idx(raw)


def locate(folder: Path, name: str) -> Path | None:
    """Return one of the files, plain or compressed, or None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def parse_idx(raw: bytes) -> NDArray[np.uint8]:
    """Read the idx format: two zero bytes, the type, the number of axes, big-endian lengths, then the values."""
    axes = raw[3]
    shape = np.frombuffer(raw, ">u4", count=axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape.astype(int))
