"""Distilled sets of others: a folder that ddbench wrote, or any class-per-folder tree of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddbench import distilled as disk
from ddbench.contracts import Budget, DistilledSet
from ddbench.datasets import Dataset
from ddbench.errors import DataError, did_you_mean
from ddbench.images import FileImages
from ddbench.pipeline import Distilled
from ddbench.records import PluginPart
from ddbench.registry import check_name

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def import_folder(folder: Path, dataset: Dataset, name: str = "") -> Distilled:
    """Read a distilled set from a folder for evaluation on a data set.

    Args:
        folder: with a ``distilled.json`` of ddbench, or one sub-folder of images per class.
        dataset: whose class ids the set must have.
        name: what to call the method; the recorded or the folder's name when empty.

    Raises:
        DataError: no images, classes that are not the data set's, or unequal numbers of images per class.
        RecordError: a damaged ``distilled.json``.
        UsageError: a name that no record can have.
    """
    check_name(name or folder.resolve().name, "Give another with --name.")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.", hint="Give the folder of a distilled set.")
    if (folder / disk.FILE).exists():
        return _own(folder, dataset, name)
    return _tree(folder, dataset, name)


def _own(folder: Path, dataset: Dataset, name: str) -> Distilled:
    loaded = disk.load(folder, dataset)
    content = reorder(loaded.distilled, loaded.class_ids, dataset, folder.name)
    method = dict(loaded.about["method"])
    if name:
        method["name"] = name
    content.check(dataset, Budget(loaded.about["ipc"]), method["name"])
    return Distilled(
        plugin=PluginPart(**method),
        content=content,
        key=loaded.about["digest"],
        digest=disk.content_digest(content),
        ipc=loaded.about["ipc"],
        seed=loaded.about["seed"],
        shrunk=tuple((name, paper, used) for name, paper, used in loaded.about.get("shrunk", [])),
        steps=[],
        seconds=0.0,
        bytes=loaded.about["bytes"],
        path=folder,
    )


def _tree(folder: Path, dataset: Dataset, name: str) -> Distilled:
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise DataError(
            f"{folder} has neither {disk.FILE} nor class folders.", hint="Expected one sub-folder per class."
        )
    labels_of = {path.name: match_class(path.name, dataset) for path in classes}
    paths, labels = [], []
    for path in sorted(classes, key=lambda p: labels_of[p.name]):
        images = sorted(
            file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
        )
        paths += images
        labels += [labels_of[path.name]] * len(images)
    counts = np.bincount(labels, minlength=dataset.num_classes) if labels else np.zeros(dataset.num_classes, int)
    if counts.min() == 0 or counts.min() != counts.max():
        raise DataError(
            f"{folder.name} has {counts.min()} to {counts.max()} images per class.",
            hint="Every class of the data set needs the same number of images (its IPC).",
        )
    source = FileImages(paths, dataset.channels)
    content = DistilledSet(source.batch(range(len(paths)), _own_size(paths)), np.asarray(labels, np.int64))
    digest = disk.content_digest(content)
    size = sum(path.stat().st_size for path in paths)
    return Distilled(
        plugin=PluginPart(name=name or folder.resolve().name, version=1, options={}, explicit={}),
        content=content,
        key=digest,
        digest=digest,
        ipc=int(counts[0]),
        seed=0,
        shrunk=(),
        steps=[],
        seconds=0.0,
        bytes={"images": size, "labels": content.labels.nbytes},
        path=folder,
    )


def match_class(folder: str, dataset: Dataset) -> int:
    """Return the label of a class folder by id, by name, or by ddbench's own ``<index>_<id>``; never by position.

    Raises:
        DataError: the folder is no class of the data set.
    """
    for label, (class_id, class_name) in enumerate(zip(dataset.class_ids, dataset.class_names, strict=True)):
        if folder in (class_id, class_name, class_name.replace(" ", "_"), disk.class_folder(label, class_id)):
            return label
    known = [*dataset.class_ids, *dataset.class_names]
    raise DataError(
        f"Class folder {folder!r} is no class of {dataset.name}.{did_you_mean(folder, known)}",
        hint=f"Name the folders by class id or name: {', '.join(dataset.class_ids[:12])}"
        f"{' …' if dataset.num_classes > 12 else ''}.",
    )


def reorder(content: DistilledSet, class_ids: Sequence[str], dataset: Dataset, who: str) -> DistilledSet:
    """Return the set in the data set's class order, matched by class id.

    Raises:
        DataError: the two have different classes.
    """
    if tuple(class_ids) == dataset.class_ids:
        return content
    if set(class_ids) != set(dataset.class_ids):
        missing = sorted(set(dataset.class_ids) - set(class_ids))
        raise DataError(f"{who} was made for other classes than {dataset.name}'s: it lacks {', '.join(missing[:5])}.")
    new = np.array([dataset.class_ids.index(class_id) for class_id in class_ids])
    labels = new[content.labels]
    order = np.argsort(labels, kind="stable")

    def pick(items: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if items is None else tuple(items[i] for i in order)

    return DistilledSet(
        images=content.images[order],
        labels=labels[order],
        space=content.space,
        source_ids=pick(content.source_ids),
        prompts=pick(content.prompts),
        soft_labels=None if content.soft_labels is None else content.soft_labels[order][:, np.argsort(new)],
        learning_rate=content.learning_rate,
        extra=content.extra,
    )


def _own_size(paths: Sequence[Path]) -> int:
    from PIL import Image

    try:
        with Image.open(paths[0]) as image:
            return min(image.size)
    except OSError as error:
        raise DataError(f"Image {paths[0].parent.name}/{paths[0].name} cannot be read: {error}") from error
