"""Lists of images with captions as users have them, several captions of one image among them.

Karpathy's splits (``dataset_flickr30k.json``, ``dataset_coco.json``), the lists of BLIP, MVL and LoRS
(``flickr30k_train.json`` beside ``flickr30k_test.json``), COCO's annotations (``captions_train2014.json`` beside
``captions_val2014.json``), and folders with ``metadata.jsonl`` as image-folder loaders read them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ddbench import DataError
from ddbench.files import check_file, first_line, is_text, read_text

METADATA = "metadata.jsonl"
#: Names of the test split, in files and folders; the first that is there counts.
TESTS = ("test", "val", "validation")
#: What Karpathy's splits mean; "val" is neither.
KARPATHY = {"train": "train", "restval": "train", "test": "test"}


class Row(NamedTuple):
    """An image with its captions; ``split`` is "train", "test" or another part that is not used."""

    split: str
    name: str
    captions: tuple[str, ...]


def read_pairs(path: Path) -> list[Row]:
    """Return the images of a list, or of a folder with train and test folders, in order, each with all its captions.

    Raises:
        DataError: it cannot be read, is none of the known lists, or names images outside of their folder.
    """
    if path.is_dir():
        there = [name for name in TESTS if (path / name / METADATA).exists()][:1]
        found = [
            (split, f"{folder}/{name}", text)
            for split, folder in [("train", "train"), *(("test", name) for name in there)]
            for name, text in _lines(path / folder / METADATA)
        ]
    else:
        found = [row for split, file in _files(path) for row in _listed(file, split)]
    captions: dict[tuple[str, str], list[str]] = {}
    for split, name, text in found:
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or not (is_text(name) and is_text(text) and text.strip()):
            raise DataError(
                f"{path.name} lists the image {name!r} with the caption {text[:40]!r}.",
                hint="Names are paths below the folder of the images, and captions are no empty texts.",
            )
        captions.setdefault((split, str(place)), []).append(" ".join(text.split()))
    return [Row(split, name, tuple(texts)) for (split, name), texts in captions.items()]


def _files(path: Path) -> list[tuple[str, Path]]:
    """Return a list with its split, and that of the test images beside it."""
    start, word, end = path.name.rpartition("train")
    beside = [path.with_name(start + name + end) for name in TESTS] if word else []
    return [("train", path), *(("test", other) for other in beside if other.exists())][:2]


def _listed(path: Path, split: str) -> Iterator[tuple[str, str, str]]:
    check_file(path)
    try:
        content = json.loads(read_text(path, DataError))
        yield from _rows(content, split)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path.name} is no list of images with captions: {first_line(error)}",
            hint="Known: Karpathy's splits, BLIP's lists (image, caption), and COCO's annotations.",
        ) from error


def _rows(content: Any, split: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(content, list):
        for row in content:
            for text in _several(row["caption"]):
                yield split, row["image"], text
    elif "annotations" in content:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        for row in content["annotations"]:
            yield split, names[row["image_id"]], row["caption"]
    else:
        for image in content["images"]:
            name = "/".join(filter(None, (image.get("filepath"), image["filename"])))
            for sentence in image["sentences"]:
                yield KARPATHY.get(image["split"], image["split"]), name, sentence["raw"]


def _several(caption: Any) -> Iterable[str]:
    return [caption] if isinstance(caption, str) else [str(text) for text in caption]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    check_file(path)
    for number, line in enumerate(read_text(path, DataError).splitlines(), 1):
        try:
            if line.strip():
                row = json.loads(line)
                yield row["file_name"] + "", row["text"] + ""
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"Line {number} of {path.name} is not a caption.",
                hint='Every line must look like {"file_name": "0001.png", "text": "A small dog …"}.',
            ) from error
