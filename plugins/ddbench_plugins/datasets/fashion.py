"""Fashion-MNIST from its published files."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import ddbench
from ddbench.errors import DataError
from ddbench_plugins.datasets.arrays import Classes, Part, from_arrays
from ddbench_plugins.datasets.places import download, roots

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
STATS = ((0.2861,), (0.3530,))
#: sha256 of the decompressed files.
FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
#: Below a data folder: plain, as torchvision leaves them in its root, and in our folder.
FOLDERS = ("fashion-mnist", "FashionMNIST/raw", "fashion-mnist/FashionMNIST/raw")
#: Where Debian's package dataset-fashion-mnist puts them.
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
INSTRUCTIONS = (
    "Install the Debian package dataset-fashion-mnist, or put the four files train-images-idx3-ubyte.gz,"
    " train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz of"
    " https://github.com/zalandoresearch/fashion-mnist into fashion-mnist/ in a data folder."
)


class FashionMNIST(ddbench.DatasetLoader):
    """Fashion-MNIST: grey 28×28 images of clothes."""

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Return the data set; torchvision downloads it if it is nowhere.

        Raises:
            DataError: it is nowhere and cannot be downloaded, or a file does not match its checksum.
        """
        places = [*(root / name for root in roots() for name in FOLDERS), DEBIAN]
        folder = next((place for place in places if all(locate(place, name) for name in FILES)), None)
        if folder is None:
            folder = download("fashion-mnist", fetch, INSTRUCTIONS, places, offline=ctx.machine.offline)
        arrays = [read_idx(folder, name) for name in FILES]
        train, test = (Part(arrays[i][..., None], arrays[i + 1].astype(np.int64)) for i in (0, 2))
        return from_arrays(
            "fashion-mnist",
            Classes(tuple("0123456789"), NAMES),
            train,
            test,
            stats=STATS,
            origin=f"the published idx files: {len(train.labels):,} training and {len(test.labels):,} test images",
        )


def fetch(folder: Path) -> Path:
    """Download the files with torchvision and return where they are."""
    from torchvision.datasets import FashionMNIST as Downloader

    Downloader(str(folder), download=True)
    return folder / "FashionMNIST" / "raw"


def locate(folder: Path, name: str) -> Path | None:
    """Return one of the files, plain or compressed, or None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """Read one published file: uint8 [N, 28, 28] or [N].

    Raises:
        DataError: it is truncated or differs from what was published.
    """
    path = locate(folder, name)
    if path is None:
        raise DataError(f"Fashion-MNIST lacks the file {name}.", hint=INSTRUCTIONS)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} cannot be read: {error}", hint=INSTRUCTIONS) from error
    if hashlib.sha256(raw).hexdigest() != FILES[name]:
        raise DataError(f"{path.name} is damaged: its content is not what was published.", hint=INSTRUCTIONS)
    axes = raw[3]  # the format: two zero bytes, the type, the number of axes, then big-endian lengths
    shape = np.frombuffer(raw, ">u4", count=axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape.astype(int))
