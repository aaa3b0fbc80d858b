"""Image folders without class folders: the validation images of ImageNet and Tiny-ImageNet, labelled by a file."""

from __future__ import annotations

import io
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ddbench
from ddbench import DataError
from ddbench.files import MOST_TEXT, check_file, read_bytes, read_text
from ddbench_plugins.datasets.listing import File, Files, check, check_text, facts, is_image

#: A file name and its synset, as in Tiny-ImageNet's annotations and Kaggle's solution file.
ROW = re.compile(r"^([^,\s]+)[,\s]+(n\d{8})\b")
DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH, META = "data/ILSVRC2012_validation_ground_truth.txt", "data/meta.mat"
#: What ILSVRC's lists without file names number.
NUMBERED = "ILSVRC2012_val_{:08d}"
#: For error messages.
KNOWN = (
    f"{DEVKIT}/ or {DEVKIT}.tar.gz (the development kit), LOC_val_solution.csv (Kaggle's),"
    " imagenet_2012_validation_synset_labels.txt (one synset a line) or val_annotations.txt (Tiny-ImageNet's)"
)


def images_in(folder: Path) -> Path | None:
    """Return the folder that holds images directly: itself or its ``images``; None if neither does."""
    for place in (folder, folder / "images"):
        if place.is_dir() and any(entry.is_file() and is_image(entry.name) for entry in os.scandir(place)):
            return place
    return None


def label_file(images: Path, root: Path) -> Path | None:
    """Return the file that labels flat images, looked for beside them and upwards as far as the data folder."""
    above = [folder for folder in (images, *images.parents) if folder == root or root in folder.parents]
    for folder in above:
        for name in READERS:
            if (folder / name).exists():
                return folder / name
    return None


def read_labels(path: Path) -> dict[str, str]:
    """Return the synset of each image (its file name without ending).

    Raises:
        DataError: the file is not what its name claims.
    """
    try:
        if not path.is_dir():
            check_file(path)
        labels = READERS[path.name](path)
    except (
        DataError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        tarfile.TarError,
        zlib.error,
    ) as error:
        raise DataError(f"The labels in {path.name} cannot be read: {error}", hint=f"Known: {KNOWN}.") from error
    if not labels:
        raise DataError(f"{path.name} labels no image.", hint=f"Known: {KNOWN}.")
    return labels


def scan_flat(ctx: ddbench.Context, images: Path, labels: Mapping[str, str], classes: Sequence[str], who: str) -> Files:
    """Return the image files of a flat folder by class and name; those of other classes are left alone.

    Raises:
        DataError: an image has no label, a class has no image, or a file is empty.
    """
    place = {name: label for label, name in enumerate(classes)}
    labelled: list[File] = []
    unknown: list[str] = []
    for entry in os.scandir(images):
        if entry.name.startswith(".") or not is_image(entry.name):
            continue
        check_text(entry.name, f"{who}: the file")
        synset = labels.get(os.path.splitext(entry.name)[0], "")  # noqa: PTH122
        if not synset:
            unknown.append(entry.name)
        elif synset in place:
            labelled.append(File(place[synset], f"{synset}/{entry.name}", entry.path, *facts(entry)))
    if unknown:
        raise DataError(f"{who}: image {min(unknown)} has no label ({len(unknown)} such images).", hint=f"Use {KNOWN}.")
    lacking = sorted(set(classes) - {classes[file.label] for file in labelled})
    if lacking:
        raise DataError(f"{who}: class {lacking[0]} has no images ({len(lacking)} such classes).")
    files = Files(sorted(labelled, key=lambda file: (file.label, file.id)))
    check(files, who)
    return files


def _rows(path: Path) -> dict[str, str]:
    labels: dict[str, str] = {}
    for match in map(ROW.match, read_text(path, DataError).splitlines()):
        if match and labels.setdefault(name := match[1].partition(".")[0], match[2]) != match[2]:
            raise ValueError(f"it gives {name} two labels")
    return labels


def _synsets(path: Path) -> dict[str, str]:
    return _numbered(read_text(path, DataError).split())


def _devkit(path: Path) -> dict[str, str]:
    """Read the development kit, unpacked or not: numbers of classes, and the table of what the numbers mean."""
    if path.is_dir():
        truth, meta = (read_bytes(path / name, DataError) for name in (TRUTH, META))
    else:
        with tarfile.open(path) as archive:
            truth, meta = (_member(archive, f"{DEVKIT}/{name}") for name in (TRUTH, META))
    from scipy.io import loadmat

    table = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    synset = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table}
    return _numbered([synset[int(number)] for number in truth.split()])


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None or archive.getmember(name).size > MOST_TEXT:
        raise ValueError(f"{name} is no file, or too large")
    return file.read()


def _numbered(synsets: Sequence[str]) -> dict[str, str]:
    return {NUMBERED.format(number): synset for number, synset in enumerate(synsets, 1)}


READERS: dict[str, Callable[[Path], dict[str, str]]] = {
    "val_annotations.txt": _rows,
    "LOC_val_solution.csv": _rows,
    "imagenet_2012_validation_synset_labels.txt": _synsets,
    DEVKIT: _devkit,
    f"{DEVKIT}.tar.gz": _devkit,
}
