"""Pictures in folders: a folder per class by id or name, or numbered as RDED, SRe2L and their followers do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddbench.errors import DataError, did_you_mean
from ddbench.files.reading import check_file
from ddbench.plugin.datasets import Dataset
from ddbench.plugin.images import FileImages
from ddbench.sets import folder as disk
from ddbench.sets.declared import RawSet

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
#: ``00003`` (RDED, D4M), ``new003`` (SRe2L), ``class3``.
NUMBERED = re.compile(r"(?:new|class)?(\d{1,9})")
#: Modes of pictures without colour.
GREY = ("1", "L", "LA")
#: A larger difference between channels than compression makes of a grey picture is colour.
COLOUR = 8
#: ``class00003_id00007.jpg`` (RDED), ``class003_id007.jpg`` (SRe2L).
PICTURE = re.compile(r"class(\d{1,9})_id\d+", re.IGNORECASE)


def holds_pictures(folder: Path) -> bool:
    """Return whether a folder has class folders, or pictures named by class."""
    return any(path.is_dir() or PICTURE.match(path.stem) for path in _visible(folder))


def read(folder: Path, dataset: Dataset, warn: Callable[[str], None]) -> RawSet:
    """Read a tree of pictures; labels of named folders are the data set's, those of numbered ones the files' own.

    Raises:
        DataError: folders that are no class of the data set, numbers that contradict each other, unreadable pictures,
            pictures that would be left out, or not kept as they are (of several sizes, not square, of other channels).
    """
    classes = [path for path in _visible(folder) if path.is_dir()]
    if classes:
        labels_of, numbered = label_folders([path.name for path in classes], dataset)
        pictures = [(labels_of[path.name], file) for path in classes for file in _pictures(path)]
    else:
        numbered = True
        pictures = [(int(match[1]), file) for file in _pictures(folder) if (match := PICTURE.match(file.stem))]
    if numbered:
        for label, file in pictures:
            if (match := PICTURE.match(file.stem)) and int(match[1]) != label:
                raise DataError(
                    f"{file.parent.name}/{file.name} is named by class {int(match[1])}, but lies in the folder of class"
                    f" {label}.",
                    hint="Its folder and its name must agree.",
                )
    if not pictures:
        raise DataError(f"{folder.name} holds no pictures ({', '.join(SUFFIXES)}).")
    _nothing_left_out(folder, classes, {file for _, file in pictures}, warn)
    pictures.sort(key=lambda pair: pair[0])
    paths = [file for _, file in pictures]
    size = _one_size(paths, dataset.channels, warn)
    images = FileImages(paths, dataset.channels).batch(range(len(paths)), size)
    labels = np.asarray([label for label, _ in pictures], np.int64)
    kind = "numbered pictures" if numbered else "class folders"
    return RawSet(kind, images, labels, paths, numbered, as_pictures=True)


def label_folders(folders: list[str], dataset: Dataset) -> tuple[dict[str, int], bool]:
    """Return the label of every class folder, and whether these are numbers in the folders' names.

    Folders are matched by class id, by name, or by ddbench's own ``<index>_<id>``; never by their order. Numbers count
    only where no folder has the id or name of a class.

    Raises:
        DataError: folders that are no class of the data set, all of them named.
    """
    labels = {name: match_class(name, dataset) for name in folders}
    lost = [name for name, label in labels.items() if label is None]
    numbers = {name: NUMBERED.fullmatch(name) for name in folders}
    if len(lost) == len(folders) and all(numbers.values()):
        return {name: int(match[1]) for name, match in numbers.items() if match}, True
    if lost:
        known = [*dataset.class_ids, *dataset.class_names]
        which = f"folder {lost[0]!r} is no class" if len(lost) == 1 else f"folders {_list(lost)} are no classes"
        raise DataError(
            f"Class {which} of {dataset.name}.{did_you_mean(lost[0], known)}",
            hint=f"Name the folders by class id or name: {', '.join(dataset.class_ids[:12])}"
            f"{' …' if dataset.num_classes > 12 else ''}.",
        )
    return {name: label for name, label in labels.items() if label is not None}, False


def match_class(name: str, dataset: Dataset) -> int | None:
    """Return the label of a class by id, by name, or by ddbench's own folder name.

    Raises:
        DataError: several classes have the name, as two of ImageNet's are called crane.
    """
    if name in dataset.class_ids:
        return dataset.class_ids.index(name)
    known = enumerate(zip(dataset.class_ids, dataset.class_names, strict=True))
    labels = [
        label
        for label, (class_id, class_name) in known
        if name in (class_name, class_name.replace(" ", "_"), disk.class_folder(label, class_id))
    ]
    if len(labels) > 1:
        ids = ", ".join(dataset.class_ids[label] for label in labels)
        raise DataError(f"{dataset.name} has several classes called {name!r}.", hint=f"Name it by id: {ids}.")
    return labels[0] if labels else None


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.suffix.lower() in SUFFIXES]


def _list(names: list[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _nothing_left_out(folder: Path, classes: list[Path], read: set[Path], warn: Callable[[str], None]) -> None:
    """Refuse pictures in class folders that would not be read, and tell of other files that look like some.

    Raises:
        DataError: a file of another format or a folder in a class folder.
    """
    inside = [path for part in classes for path in _visible(part) if path not in read]
    lost = [path for path in inside if path.is_dir() or _is_picture(path)]
    if lost:
        raise DataError(
            f"{len(lost)} entries of class folders would be skipped, such as {lost[0].parent.name}/{lost[0].name}.",
            hint=f"Pictures ({', '.join(SUFFIXES)}) must lie in the folder of their class itself.",
        )
    if beside := [path.name for path in _visible(folder) if path.is_file() and path not in read and _is_picture(path)]:
        warn(f"Skipped, as they are in no class folder or match no class: {_list(beside)}.")


def _is_picture(path: Path) -> bool:
    from PIL import Image as pil

    return path.suffix.lower() in pil.registered_extensions()


def _one_size(paths: list[Path], channels: int, warn: Callable[[str], None]) -> int:
    """Return the side of square pictures that are all of one size, and have no more to them than is kept.

    Raises:
        DataError: they are not; colour or transparency would be lost.
    """
    from PIL import Image as pil

    sizes: dict[tuple[int, int], list[Path]] = {}
    grey = 0
    for path in paths:
        check_file(path)
        try:
            with pil.open(path) as image:
                sizes.setdefault(image.size, []).append(path)
                grey += image.mode in GREY
                missing = lost(image, channels)
        except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
            raise DataError(f"Image {path.parent.name}/{path.name} cannot be read: {error}") from error
        if missing:
            raise DataError(f"Image {path.parent.name}/{path.name} {missing}.")
    if len(sizes) > 1:
        rarest = min(sizes, key=lambda size: len(sizes[size]))
        listed = ", ".join(f"{len(paths)} of {size[0]}×{size[1]}" for size, paths in list(sizes.items())[:8])
        odd = sizes[rarest][0]
        raise DataError(
            f"The pictures have {len(sizes)} sizes: {listed} (such as {odd.parent.name}/{odd.name}).",
            hint="A distilled set has images of one size, which is kept: scale them yourself.",
        )
    (width, height) = next(iter(sizes))
    if width != height:
        raise DataError(
            f"The pictures have {width}×{height} pixels instead of square ones.", hint="Crop or scale them yourself."
        )
    if channels == 3 and 0 < grey < len(paths):
        warn(f"{grey} of {len(paths)} pictures are grey; their three channels will be equal.")
    return int(width)


def lost(image: Image, channels: int) -> str:
    """Return what would be lost of an opened picture, or an empty string."""
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        return "is transparent in places, which pixels of a data set cannot be"
    if channels == 1 and image.mode not in GREY and not image.mode.startswith(("I", "F")):
        pixels = np.asarray(image.convert("RGB"), np.int16)
        if int((pixels.max(-1) - pixels.min(-1)).max()) > COLOUR:
            return "is in colour, but the data set is grey"
    return ""
