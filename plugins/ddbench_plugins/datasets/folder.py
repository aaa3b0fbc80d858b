"""Any class-per-folder tree of images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

import ddbench
from ddbench import DataError, ImageSource
from ddbench_plugins.datasets.arrays import ON_TRAINING, tell_repeated
from ddbench_plugins.datasets.headers import GREY, TOLD, look_at
from ddbench_plugins.datasets.listing import Files, Layout, check_text, class_folders, classes_of, scan
from ddbench_plugins.datasets.names import FILES, guess, read_names
from ddbench_plugins.datasets.places import looked_in, roots
from ddbench_plugins.datasets.split import stratified
from ddbench_plugins.datasets.trees import TreeImages, from_trees

TEST_NAMES = ("test", "val", "validation", "valid")
_SPLIT = (
    r"(?:train|training|trn|trainval|test|testing|tst|val|valid|validation|eval|evaluation|dev|pred|predict|holdout"
    r"|hold[\W_]*out|unlabell?ed|unsup|unsupervised|(?:k?fold|split|partition|subset)[\W_]*\d+)"
)
#: Names of splits, alone or with words around them that say no more: training_set, seg_test, val2017, unlabeled.
SPLIT_NAME = re.compile(
    rf"(?:(?:[a-z]|seg|my|new|all|full|original|raw|images?|data|dataset|set)[\W_]+)*{_SPLIT}"
    r"(?:[\W_]*(?:sets?|split|data|dataset|images?|imgs?|pics|pictures|samples|folder|dir|seg|\d+))*",
    re.IGNORECASE,
)
#: A split's name inside another one: birds_train beside birds_test.
SPLIT_PART = re.compile(rf"(?<![^\W_]){_SPLIT}(?![^\W\d_])", re.IGNORECASE)
#: Folders that hold the parts of a data set, whatever its classes are.
PART_NAMES = frozenset({"images", "imgs", "jpegimages", "labels", "masks", "annotations"})
#: Uniform images up to this side are used as they are.
NATIVE_LIMIT = 64
DEFAULT_SIZE = 32


class Folder(ddbench.DatasetLoader):
    """``folder:PATH`` with PATH/train and PATH/test (or val), or with the class folders directly in PATH."""

    class Options(ddbench.DatasetOptions):
        """Options of ``folder:``."""

        size: int | None = Field(
            None,
            ge=4,
            le=ImageSource.LARGEST_SIDE,
            description="Side that methods see. When none: the images' own if all are squares of one side up to"
            f" {NATIVE_LIMIT}, else {DEFAULT_SIZE}.",
        )
        names: str | None = Field(
            None,
            description="File of readable class names: lines '<folder> <name>', or a TOML or JSON table. When none:"
            f" {', '.join(FILES)} in the folder, else the folders' names.",
        )
        test_fraction: float = Field(0.2, gt=0, lt=1, description="Share of test images if there is no test folder.")
        split_seed: int = Field(0, description="Seed of that split.")
        flip: bool = Field(True, description="Whether a mirrored image keeps its label.")
        nested: bool = Field(
            False, description="Read folders of the same names in all class folders as part of their class."
        )
        test_on_training: bool = Field(False, description=ON_TRAINING)

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Find the images, split them if need be, and decode them once.

        Raises:
            DataError: no such folder, no classes, an empty class, or files that cannot be read.
        """
        options = ctx.options
        folder = find_folder(argument)
        name = f"folder:{folder.resolve().name}"
        parts, classes, how = self._split(ctx, folder, name)
        train, test = parts
        side, channels = probe(ctx, parts, name)
        names, source = class_names(folder, classes, options.names)
        if source and options.names is None:
            ctx.log(f"{name}: class names are read from {source}, found in the folder")
        images = [
            TreeImages(ctx, files, channels, f"{name} ({split})") for split, files in (("train", train), ("test", test))
        ]
        tell_repeated(ctx, images[0].digests(), images[1].digests(), name)
        return from_trees(
            name,
            classes,
            names,
            *images,
            image_size=options.size or side,
            flip=options.flip,
            origin=f"image folder {folder.resolve().name} ({how}{f', class names of {source}' if source else ''}):"
            f" {len(train):,} training and {len(test):,} test images",
        )

    def _split(self, ctx: ddbench.Context, folder: Path, name: str) -> tuple[tuple[Files, Files], list[str], str]:
        """Return training and test files, the ids of the classes, and a few words on the split."""
        options = ctx.options
        train_folder = folder / "train"
        test_folder = next((folder / n for n in TEST_NAMES if class_folders(folder / n)), None)
        if class_folders(train_folder) and test_folder is not None:
            folders = [classes_of(part) for part in (train_folder, test_folder)]
            classes = matching_classes(folders, (train_folder, test_folder), name)
            check_classes(classes, name)
            for part, class_ids in zip((train_folder, test_folder), folders, strict=True):
                check_nested(ctx, part, class_ids, f"{name}, {part.name}")
            train, test = (
                scan(ctx, part, list(class_ids.values()), f"{name}, {part.name}", Layout(classes))
                for part, class_ids in zip((train_folder, test_folder), folders, strict=True)
            )
            return (train, test), classes, f"folders train and {test_folder.name}"
        class_ids = classes_of(folder)
        refuse_splits(folder, class_ids, name)
        classes = list(class_ids)
        check_classes(classes, name)
        check_nested(ctx, folder, class_ids, name)
        files = scan(ctx, folder, list(class_ids.values()), name, Layout(classes))
        how = f"stratified split with seed {options.split_seed}, {options.test_fraction:g} of it for testing"
        return divide(files, classes, options.test_fraction, options.split_seed), classes, how


def check_classes(classes: Sequence[str], who: str) -> None:
    """Refuse fewer than two classes.

    Raises:
        DataError: there are.
    """
    if len(classes) < 2:
        raise DataError(
            f"{who} has {len(classes)} class folder(s); at least two are needed.",
            hint="Put the images of each class in a folder of its own: PATH/<class>/… or PATH/train/<class>/….",
        )


def refuse_splits(folder: Path, classes: Mapping[str, str], who: str) -> None:
    """Refuse folders whose names say that they are splits or parts of a data set, not classes.

    A class may be called ``train`` (CIFAR-100 has one) in a folder that itself is named as a split.

    Raises:
        DataError: there are such folders, here or inside all class folders.
    """
    bare = Counter(SPLIT_PART.sub("", name).lower() for name in classes if SPLIT_PART.search(name))
    splits = [name for name in classes if SPLIT_NAME.fullmatch(name) or bare[SPLIT_PART.sub("", name).lower()] > 1]
    holding = [class_id for class_id in splits if class_folders(folder / classes[class_id])]
    inside_split = bool(SPLIT_NAME.fullmatch(folder.resolve().name))
    if splits and (holding or len(splits) > 1 or len(splits) == len(classes) or not inside_split):
        raise DataError(
            f"{who} has {' and '.join(splits)}, but not both PATH/train/<class>/… and PATH/test/<class>/….",
            hint=f"Call the folders train and {', '.join(TEST_NAMES[:-1])} or {TEST_NAMES[-1]}, with a folder"
            " per class in each; or name the one folder that is to be split: folder:PATH/train. A class of such a name"
            " needs another one.",
        )
    if classes and {class_id.lower() for class_id in classes} <= PART_NAMES:
        raise DataError(
            f"{who} has {' and '.join(classes)}, which are no classes by their names.",
            hint="Put the images of each class in a folder of its own: PATH/<class>/… or PATH/train/<class>/….",
        )
    for class_id, name in classes.items():
        if within := [inner for inner in class_folders(folder / name) if SPLIT_NAME.fullmatch(inner)]:
            raise DataError(
                f"{who}: class folder {class_id} has {' and '.join(within)} inside, so it is split already.",
                hint="Put the splits above the classes: PATH/train/<class>/… and PATH/test/<class>/….",
            )


def check_nested(ctx: ddbench.Context, folder: Path, classes: Mapping[str, str], who: str) -> None:
    """Tell of folders in class folders; refuse those that may be the classes, or domains of which a class has several.

    Raises:
        DataError: all class folders have the same two or more folders inside.
    """
    inside = {class_id: class_folders(folder / name) for class_id, name in classes.items()}
    shared = sorted(set.intersection(*map(set, inside.values())))
    if len(shared) > 1 and not ctx.options.nested:
        few = ", ".join(shared[:5]) + (", …" if len(shared) > 5 else "")
        raise DataError(
            f"{who}: every class folder has {few} inside; either may be the classes.",
            hint=f"If {next(iter(inside))} is a class, say -o data.nested=true; if it is a domain, name its folder:"
            f" folder:PATH/{next(iter(inside))}.",
        )
    if first := next((f"{class_id}/{names[0]}" for class_id, names in inside.items() if names), ""):
        ctx.log(f"{who}: images in folders inside of class folders count for the class, such as those in {first}")


def find_folder(argument: str) -> Path:
    """Return the folder, looking from the working folder and in the data folders.

    Raises:
        DataError: there is none; every place looked in is named.
    """
    places = [Path(argument).expanduser(), *(root / argument for root in roots())]
    for place in places:
        if place.is_dir():
            check_text(place.resolve().name, "The folder")
            return place
    raise DataError(f"There is no folder {argument!r}.", hint=looked_in(places))


def matching_classes(splits: Sequence[Mapping[str, str]], folders: Sequence[Path], who: str) -> list[str]:
    """Return the classes that both splits have.

    Raises:
        DataError: a class is in only one of them.
    """
    train, test = splits
    if odd := sorted(set(train) ^ set(test)):
        where, other = folders if odd[0] in train else reversed(folders)
        raise DataError(
            f"{who}: class {odd[0]!r} is only in {where.name}, not in {other.name} ({len(odd)} such classes).",
            hint=f"{folders[0].name} and {folders[1].name} must have the same class folders.",
        )
    return list(train)


def divide(files: Files, classes: list[str], fraction: float, seed: int) -> tuple[Files, Files]:
    """Split files class by class (see :func:`stratified`).

    Raises:
        DataError: a class has only one image.
    """
    lonely = [classes[i] for i in np.flatnonzero(np.bincount(files.labels) < 2)]
    if lonely:
        raise DataError(
            f"Class folder {lonely[0]!r} has only one image, so it cannot be split into training and test images.",
            hint="Add images to it, remove it, or give train and test folders.",
        )
    train, test = stratified(files.labels, list(files.ids), fraction, seed)
    return Files(files[i] for i in train), Files(files[i] for i in test)


def class_names(folder: Path, classes: Sequence[str], chosen: str | None) -> tuple[tuple[str, ...], str]:
    """Return readable names and the file they come from: the chosen one, one in the folder, or none.

    Raises:
        DataError: the chosen file does not exist, several are in the folder, or a file lacks names.
    """
    if chosen is not None:
        places = [Path(chosen).expanduser(), folder / chosen]
        for place in places:
            if place.exists():
                return read_names(place, classes), place.name
        raise DataError(f"There is no file of class names {chosen!r}.", hint=looked_in(places))
    there = [name for name in FILES if (folder / name).exists()]
    if len(there) > 1:
        raise DataError(
            f"{folder.name} has {' and '.join(there)}.",
            hint=f"Say which has the class names: -o data.names={there[0]}.",
        )
    if there:
        return read_names(folder / there[0], classes), there[0]
    return tuple(guess(name) for name in classes), ""


def probe(ctx: ddbench.Context, parts: Sequence[Files], who: str) -> tuple[int, int]:
    """Return the default side and the channels, from a look at every image of all splits.

    Images count as grey only if all of them are. A warning says what decoding leaves out.
    """
    seen = [look_at(ctx, files, who) for files in parts]
    modes = {mode for part in seen for mode in part["modes"]}
    sides = {tuple(side) for part in seen for side in part["sides"]}
    for what in ("alpha", "turned", "frames"):
        count = sum(part[what][0] for part in seen)
        if count:
            first = next(part[what][1] for part in seen if part[what][0])
            ctx.warn(f"{who}: {TOLD[what].format(count=f'{count:,}', first=first)}")
    width, height = sides.pop() if len(sides) == 1 else (0, 1)
    side = width if width == height and 4 <= width <= NATIVE_LIMIT else DEFAULT_SIZE
    return side, 1 if modes and modes <= GREY else 3
