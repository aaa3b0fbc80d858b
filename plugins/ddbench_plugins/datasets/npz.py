"""Data sets in .npz files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

import ddbench
from ddbench.errors import DataError
from ddbench.reading import check_archive, check_file
from ddbench_plugins.datasets.arrays import Classes, Part, from_arrays, relabel
from ddbench_plugins.datasets.places import looked_in, roots

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What the arrays of a split may be called, in a file of its own and in a file of both splits.
IMAGE_KEYS = ("{split}_images", "x_{split}", "images")
LABEL_KEYS = ("{split}_labels", "y_{split}", "labels")


class Npz(ddbench.DatasetLoader):
    """``npz:FILE.npz`` with both splits, or ``npz:NAME`` for ``NAME_train.npz`` and ``NAME_test.npz``."""

    class Options(ddbench.Options):
        """Options of ``npz:``."""

        size: int | None = Field(None, ge=4, description="Side that methods see; the images' shorter side when none.")
        flip: bool = Field(True, description="Whether a mirrored image keeps its label.")

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Read the arrays.

        Raises:
            DataError: a file is missing, truncated or not what it should be.
        """
        files = find_pair(argument)
        train, names, ids = read_split(files[0], "train")
        test, test_names, _ = read_split(files[-1], "test")
        highest = max(int(part.labels.max(initial=-1)) for part in (train, test))
        names = names or test_names or tuple(str(i) for i in range(highest + 1))
        if test_names:
            test = Part(test.images, relabel(test.labels, test_names, names, files[-1].name))
        base = files[0].stem.removesuffix("_train")
        return from_arrays(
            f"npz:{base}",
            Classes(ids or names, names),
            train,
            test,
            image_size=ctx.options.size,
            flip=ctx.options.flip,
            origin=f"arrays of {' and '.join(f.name for f in files)}: {len(train.labels):,} training and"
            f" {len(test.labels):,} test images",
        )


def find_pair(argument: str) -> list[Path]:
    """Return the one file or the two files that an argument names, looking in the working folder and the data folders.

    Raises:
        DataError: there is none; every place looked in is named.
    """
    places = [Path(argument).expanduser(), *(root / argument for root in roots())]
    for place in places:
        if pair := pair_at(place):
            return pair
    raise DataError(
        f"There are no arrays at npz:{argument}.",
        hint="Give one .npz file with train_images, train_labels, test_images and test_labels, or two files"
        f" NAME_train.npz and NAME_test.npz with images and labels. {looked_in(places)}",
    )


def pair_at(place: Path) -> list[Path]:
    """Return ``[train file, test file]``, or ``[file of both]``, or nothing."""
    name = place.name.removesuffix(".npz").removesuffix("_train")
    pair = [place.with_name(f"{name}_{split}.npz") for split in ("train", "test")]
    single = place.with_name(f"{name}.npz")
    if all(file.is_file() for file in pair):
        return pair
    return [single] if single.is_file() else []


def read_split(path: Path, split: str) -> tuple[Part, tuple[str, ...], tuple[str, ...]]:
    """Return one split of a file, its class names and its class ids (empty where the file has none).

    Raises:
        DataError: the file is truncated, lacks an array, or needs unpickling (which is never done).
    """
    check_file(path)
    check_archive(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path.name} is a single array, not an .npz archive.")
            images = _pick(archive, IMAGE_KEYS, split, path)
            labels = _pick(archive, LABEL_KEYS, split, path)
            names, ids = (
                tuple(str(x) for x in archive[key].tolist()) if key in archive.files else ()
                for key in ("class_names", "class_ids")
            )
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path.name} cannot be read; it is probably truncated or no .npz file ({error}).",
            hint="Copy or download it again. Arrays that need unpickling are never loaded.",
        ) from error
    if images.ndim == 3:
        images = images[..., None]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path.name}: labels must be integers, not {labels.dtype}.")
    return Part(images, labels.astype(np.int64)), names, ids


def _pick(archive: Any, keys: Sequence[str], split: str, path: Path) -> NDArray[Any]:
    for key in (key.format(split=split) for key in keys):
        if key in archive.files:
            array: NDArray[Any] = archive[key]
            return array
    wanted = " or ".join(key.format(split=split) for key in keys)
    raise DataError(f"{path.name} has no array {wanted}; it has {', '.join(archive.files) or 'none'}.")
