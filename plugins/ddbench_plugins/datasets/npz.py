"""Data sets in .npz files."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

import ddbench
from ddbench import DataError, ImageSource
from ddbench.files import check_archive, check_file
from ddbench_plugins.datasets.arrays import ON_TRAINING, Classes, Part, from_arrays, relabel, tell_repeated
from ddbench_plugins.datasets.names import composed
from ddbench_plugins.datasets.places import looked_in, roots

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What the arrays of a split may be called.
IMAGE_KEYS = ("{split}_images", "x_{split}")
LABEL_KEYS = ("{split}_labels", "y_{split}")
#: What they may be called besides in a file of one split.
ALONE = ("images", "labels")
SPLITS = ("train", "test")
MOST_CLASSES = 1_000_000
LAYOUT = (
    "Give one .npz file with train_images, train_labels, test_images and test_labels, or two files NAME_train.npz and"
    " NAME_test.npz with images and labels."
)
#: Whatever reading a file that is no sound .npz archive raises; RuntimeError: it is encrypted.
UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


class Npz(ddbench.DatasetLoader):
    """``npz:FILE.npz`` with both splits, or ``npz:NAME`` for ``NAME_train.npz`` and ``NAME_test.npz``."""

    class Options(ddbench.DatasetOptions):
        """Options of ``npz:``."""

        size: int | None = Field(
            None,
            ge=4,
            le=ImageSource.LARGEST_SIDE,
            description="Side that methods see; the images' shorter side when none.",
        )
        flip: bool = Field(True, description="Whether a mirrored image keeps its label.")
        test_on_training: bool = Field(False, description=ON_TRAINING)

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Read the arrays.

        Raises:
            DataError: a file is missing, truncated or not what it should be.
        """
        files = find_files(argument)
        (train, classes), (test, test_classes) = read_splits(files)
        base = files[0].stem.removesuffix("_train") if len(files) > 1 else files[0].stem
        name = f"npz:{base}"
        if classes and test_classes:
            test = Part(test.images, relabel(test.labels, test_classes.ids, classes.ids, files[-1].name))
        classes = classes or test_classes or _numbered((train, test), name)
        tell_repeated(ctx, train.images, test.images, name)
        return from_arrays(
            name,
            classes,
            train,
            test,
            image_size=ctx.options.size,
            flip=ctx.options.flip,
            origin=f"arrays of {' and '.join(f.name for f in files)}: {len(train.labels):,} training and"
            f" {len(test.labels):,} test images",
        )


def find_files(argument: str) -> list[Path]:
    """Return the one file or the two files that an argument names, looking in the working folder and the data folders.

    Raises:
        DataError: there is none, with every place looked in; or both kinds.
    """
    places = [Path(argument).expanduser(), *(root / argument for root in roots())]
    for place in places:
        if place.suffix == ".npz" and place.exists():
            return _named(place)
    for place in places:
        pair, single = pair_of(place), place.with_name(f"{place.name}.npz")
        if pair and single.exists() and single not in pair:
            raise DataError(
                f"npz:{argument} may be {single.name}, or {pair[0].name} and {pair[1].name}.",
                hint=f"Say npz:{argument}.npz or npz:{argument}_train.npz.",
            )
        if pair or single.exists():
            return pair or _named(single)
    raise DataError(f"There are no arrays at npz:{argument}.", hint=f"{LAYOUT} {looked_in(places)}")


def _named(path: Path) -> list[Path]:
    """Return a file that was asked for, or with its other half if it is ``NAME_train.npz`` and has no test images."""
    check_file(path)
    half = path.stem.endswith("_train") and not set(_keys(IMAGE_KEYS, "test")) & _members(path)
    return (half and pair_of(path)) or [path]


def pair_of(place: Path) -> list[Path]:
    """Return ``[NAME_train.npz, NAME_test.npz]`` if both are there."""
    name = place.name.removesuffix(".npz").removesuffix("_train")
    pair = [place.with_name(f"{name}_{split}.npz") for split in SPLITS]
    return pair if all(file.is_file() for file in pair) else []


def read_splits(files: Sequence[Path]) -> list[tuple[Part, Classes | None]]:
    """Return training and test split, each with its classes as far as its file names them.

    Args:
        files: one of both splits, or one for each.

    Raises:
        DataError: a file is truncated, lacks an array, or needs unpickling (which is never done).
    """
    return [
        _read_split(file, split, whole=len(files) > 1) for file, split in zip([*files, *files][:2], SPLITS, strict=True)
    ]


def _read_split(path: Path, split: str, *, whole: bool) -> tuple[Part, Classes | None]:
    """Read one split; ``whole``: the file holds nothing else."""
    check_file(path)
    check_archive(path)
    keys = [
        [*_keys(known, split), *([alone] if whole else [])]
        for known, alone in zip((IMAGE_KEYS, LABEL_KEYS), ALONE, strict=True)
    ]
    _members(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not whole and set(ALONE) <= set(archive.files):
                raise DataError(
                    f"{path.name} has images and labels of no split; they cannot be training and test images at once.",
                    hint=LAYOUT,
                )
            images, labels = (_pick(archive, names, path) for names in keys)
            classes = _classes(archive, path)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if images.ndim == 3:
        images = images[..., None]
    return Part(images, _labels(labels, path)), classes


def _keys(known: Sequence[str], split: str) -> list[str]:
    return [key.format(split=split) for key in known]


def _members(path: Path) -> set[str]:
    """Return the names of the arrays in a file, none of which is read."""
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise DataError(f"{path.name} is a single array, not an .npz archive.", hint=LAYOUT)
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(
        f"{path.name} cannot be read; it is probably truncated or no .npz file ({error}).",
        hint="Copy or download it again. Arrays that need unpickling are never loaded.",
    )


def _pick(archive: Any, keys: Sequence[str], path: Path) -> NDArray[Any]:
    """Return the one array of these names."""
    there = [key for key in keys if key in archive.files]
    if len(there) == 1:
        return _array(archive, there[0], path)
    if there:
        raise DataError(f"{path.name} has both {' and '.join(there)}.", hint="Keep the one that is meant.")
    has = ", ".join(archive.files[:12]) or "none"
    raise DataError(f"{path.name} has no array {' or '.join(keys)}; it has {has}.", hint=LAYOUT)


def _array(archive: Any, key: str, path: Path) -> NDArray[Any]:
    """Read an array."""
    member = archive.zip.getinfo(key if key in archive.zip.NameToInfo else f"{key}.npy")
    if member.flag_bits & 1:
        raise DataError(f"{path.name} is encrypted.", hint="Save it without a password.")
    array: NDArray[Any] = archive[key]
    return array


def _classes(archive: Any, path: Path) -> Classes | None:
    """Return ids and names of the classes, or None if the file has neither; ids are the names if there are none."""
    listed: dict[str, tuple[str, ...]] = {}
    for key in ("class_ids", "class_names"):
        if key in archive.files:
            values = _array(archive, key, path)
            if values.ndim != 1 or values.dtype.kind not in "USiu":
                raise DataError(
                    f"{path.name}: {key} is {values.dtype} {list(values.shape)}.",
                    hint="It must be a list of texts, one per class.",
                )
            texts = values if values.dtype.kind != "S" else np.char.decode(values, "utf-8")
            listed[key] = tuple(composed(str(text)) for text in texts.tolist())
    if not listed:
        return None
    ids = listed.get("class_ids") or listed["class_names"]
    names = listed.get("class_names") or ids
    if len(ids) != len(names):
        raise DataError(f"{path.name} has {len(ids)} class_ids for {len(names)} class_names.", hint="Give one each.")
    if twice := [text for text in ids if ids.count(text) > 1]:
        raise DataError(
            f"{path.name} has the class {twice[0]!r} more than once.",
            hint="Call every class differently; classes of one name need class_ids of their own.",
        )
    if not all(text.strip() for text in (*ids, *names)):
        raise DataError(f"{path.name} has a class without a name.", hint="Name every class in class_names.")
    return Classes(ids, names)


def _labels(labels: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """Return labels as int64 [N]."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{path.name}: labels must be integers, not {labels.dtype}.",
            hint="Save class numbers 0, 1, 2, …, for example as labels.astype(int).",
        )
    if labels.ndim != 1:
        raise DataError(
            f"{path.name}: labels have the shape {list(labels.shape)}.",
            hint="Save one class number per image; of one-hot rows, labels.argmax(1).",
        )
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < MOST_CLASSES:
        raise DataError(
            f"{path.name} has labels from {labels.min()} to {labels.max()}.",
            hint="Labels are the numbers of the classes: 0, 1, 2, …",
        )
    return labels.astype(np.int64)


def _numbered(parts: Sequence[Part], who: str) -> Classes:
    """Return classes named by their numbers, of which none may be left out."""
    used = np.unique(np.concatenate([part.labels for part in parts]))
    if len(used) and used[-1] != len(used) - 1:
        gap = int(np.argmax(used != np.arange(len(used))))
        raise DataError(
            f"{who} has labels up to {used[-1]}, but no image of class {gap}.",
            hint="Number the classes 0, 1, 2, … without gaps, or add the class.",
        )
    ids = tuple(map(str, range(len(used))))
    return Classes(ids, ids)
