"""Any class-per-folder tree of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

import ddbench
from ddbench.errors import DataError
from ddbench_plugins.datasets.listing import Files, class_folders, scan
from ddbench_plugins.datasets.names import FILES, guess, read_names
from ddbench_plugins.datasets.places import looked_in, roots
from ddbench_plugins.datasets.split import stratified
from ddbench_plugins.datasets.trees import TreeImages, from_trees

TEST_NAMES = ("test", "val", "validation", "valid")
#: Folders of these names alone are splits, not classes.
SPLIT_NAMES = frozenset({"train", "training", "testing", "eval", "dev", *TEST_NAMES})
#: Uniform images up to this side are used as they are.
NATIVE_LIMIT = 64
DEFAULT_SIZE = 32


class Folder(ddbench.DatasetLoader):
    """``folder:PATH`` with PATH/train and PATH/test (or val), or with the class folders directly in PATH."""

    class Options(ddbench.Options):
        """Options of ``folder:``."""

        size: int | None = Field(
            None,
            ge=4,
            description="Side that methods see. When none: the images' own if all are squares of one side up to"
            f" {NATIVE_LIMIT}, else {DEFAULT_SIZE}.",
        )
        names: str | None = Field(
            None,
            description="File of readable class names: lines '<folder> <name>', a TOML or JSON table, or one name per"
            f" line in class order. When none: {', '.join(FILES)} in the folder, else the folders' names.",
        )
        test_fraction: float = Field(0.2, gt=0, lt=1, description="Share of test images if there is no test folder.")
        split_seed: int = Field(0, description="Seed of that split.")
        flip: bool = Field(True, description="Whether a mirrored image keeps its label.")

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Find the images, split them if need be, and decode them once.

        Raises:
            DataError: no such folder, no classes, an empty class, or files that cannot be read.
        """
        options = ctx.options
        folder = find_folder(argument)
        name = f"folder:{folder.resolve().name}"
        train_folder = folder / "train"
        test_folder = next((folder / n for n in TEST_NAMES if class_folders(folder / n)), None)
        if class_folders(train_folder) and test_folder is not None:
            classes = matching_classes(train_folder, test_folder, name)
            train, test = (scan(ctx, f, classes, f"{name}, {f.name}") for f in (train_folder, test_folder))
            how = f"folders train and {test_folder.name}"
        else:
            classes = class_folders(folder)
            if classes and {each.lower() for each in classes} <= SPLIT_NAMES:
                raise DataError(
                    f"{name} has {' and '.join(classes)}, but not both PATH/train/<class>/… and PATH/test/<class>/….",
                    hint=f"Call the folders train and {', '.join(TEST_NAMES[:-1])} or {TEST_NAMES[-1]}, with a folder"
                    " per class in each; or name the one folder that is to be split: folder:PATH/train.",
                )
            if len(classes) < 2:
                raise DataError(
                    f"{name} has {len(classes)} class folder(s); at least two are needed.",
                    hint="Put the images of each class in a folder of its own: PATH/<class>/… or PATH/train/<class>/….",
                )
            train, test = divide(scan(ctx, folder, classes, name), classes, options.test_fraction, options.split_seed)
            how = f"stratified split with seed {options.split_seed}, {options.test_fraction:g} of it for testing"
        side, channels = probe(train)
        return from_trees(
            name,
            classes,
            class_names(folder, classes, options.names),
            TreeImages(ctx, train, channels, f"{name} (train)"),
            TreeImages(ctx, test, channels, f"{name} (test)"),
            image_size=options.size or side,
            flip=options.flip,
            origin=f"image folder {folder.resolve().name} ({how}): {len(train):,} training and {len(test):,} test"
            " images",
        )


def find_folder(argument: str) -> Path:
    """Return the folder, looking from the working folder and in the data folders.

    Raises:
        DataError: there is none; every place looked in is named.
    """
    places = [Path(argument).expanduser(), *(root / argument for root in roots())]
    for place in places:
        if place.is_dir():
            return place
    raise DataError(f"There is no folder {argument!r}.", hint=looked_in(places))


def matching_classes(train: Path, test: Path, who: str) -> list[str]:
    """Return the class folders that both splits have.

    Raises:
        DataError: a class is in only one of them.
    """
    classes, others = class_folders(train), class_folders(test)
    if classes != others:
        odd = sorted(set(classes) ^ set(others))
        where = train.name if odd[0] in classes else test.name
        raise DataError(
            f"{who}: class {odd[0]!r} is only in {where} ({len(odd)} such classes).",
            hint=f"{train.name} and {test.name} must have the same class folders.",
        )
    return classes


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


def class_names(folder: Path, classes: list[str], chosen: str | None) -> tuple[str, ...]:
    """Return readable names: from the chosen file, from one in the folder, or guessed from the folder names.

    Raises:
        DataError: the chosen file does not exist, or a file lacks names.
    """
    if chosen is not None:
        places = [Path(chosen).expanduser(), folder / chosen]
        for place in places:
            if place.is_file():
                return read_names(place, classes)
        raise DataError(f"There is no file of class names {chosen!r}.", hint=looked_in(places))
    for name in FILES:
        if (folder / name).is_file():
            return read_names(folder / name, classes)
    return tuple(guess(name) for name in classes)


def probe(files: Files) -> tuple[int, int]:
    """Return the default side and the channels, from up to 200 files spread over the split.

    Images count as grey only if all probed ones are. Unreadable files are left to the decoder, which names them all.
    """
    from PIL import Image

    sides: set[tuple[int, int]] = set()
    modes: set[str] = set()
    for index in np.unique(np.linspace(0, len(files) - 1, 200, dtype=int)):
        try:
            with Image.open(files[index].path) as image:
                sides.add(image.size)
                modes.add(image.mode)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    width, height = sides.pop() if len(sides) == 1 else (0, 1)
    side = width if width == height and 4 <= width <= NATIVE_LIMIT else DEFAULT_SIZE
    return side, 1 if modes and modes <= {"1", "L", "LA", "I", "I;16"} else 3
