"""Which class a label number of a third-party set means: by name or id, by the data set's own numbers, or as declared.

Never by position: loaders of folders sort 1, 10, 2, and every code base numbers subsets of ImageNet in its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.errors import DataError, UsageError, did_you_mean
from ddbench.plugin.datasets import Dataset
from ddbench.plugin.images import ArrayImages
from ddbench.sets import trees as folders
from ddbench.sets.declared import Declared, RawSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Labels = NDArray[np.int64]


def renumber(raw: RawSet, dataset: Dataset, declared: Declared, name: str) -> tuple[Labels, Any, str]:
    """Turn the files' label numbers into the data set's labels; also return in words what they were taken for."""
    if not raw.numbered:
        if declared.classes:
            raise UsageError(f"The folders of {name} are named by class.", hint="Leave --classes out.")
        return raw.labels, raw.soft_labels, "matched by id or name"
    if raw.class_names:
        named = _by_name(raw, dataset, declared, name)
        if named is not None:
            return named
    low, high = int(raw.labels.min()), int(raw.labels.max())
    if low < 0 or high >= dataset.num_classes:
        raise DataError(
            f"{name} has the label numbers {low} … {high}, but {dataset.name} has {dataset.num_classes} classes"
            f" (0 … {dataset.num_classes - 1}).",
            hint="Name the data set it was distilled from with --dataset.",
        )
    soft = raw.soft_labels
    if soft is not None and soft.shape[1] != dataset.num_classes:
        raise DataError(f"{name} has soft labels of {soft.shape[1]} classes, not {dataset.num_classes}.")
    if not declared.classes:
        _refuse_unknown_order(raw, dataset, name)
        return raw.labels, soft, "numbered as in the data set"
    matched = [folders.match_class(class_, dataset) for class_ in declared.classes]
    if lost := [class_ for class_, label in zip(declared.classes, matched, strict=True) if label is None]:
        raise UsageError(f"{dataset.name} has no class {', '.join(map(repr, lost[:10]))}.", hint="See --classes.")
    new = np.asarray(matched, np.int64)
    if sorted(new.tolist()) != list(range(dataset.num_classes)):
        raise UsageError(f"--classes must name each of the {dataset.num_classes} classes of {dataset.name} once.")
    return new[raw.labels], None if soft is None else soft[:, np.argsort(new)], "numbered as listed"


def _by_name(raw: RawSet, dataset: Dataset, declared: Declared, name: str) -> tuple[Labels, Any, str] | None:
    """Match the class names that the files state; None where they are numbers of classes themselves (then the labels).

    Raises:
        DataError: names that are no class of the data set, or that cannot be told apart.
        UsageError: none of them is one, and the order of the numbers was not declared.
    """
    numbers = np.unique(raw.labels)
    if numbers[0] < 0 or numbers[-1] >= len(raw.class_names):
        raise DataError(
            f"{name} has the label number {numbers[[0, -1]].tolist()}, but {len(raw.class_names)} class names."
        )
    present = {int(number): raw.class_names[number] for number in numbers}
    matched = {number: folders.match_class(class_, dataset) for number, class_ in present.items()}
    lost = [present[number] for number, label in matched.items() if label is None]
    if len(lost) == len(present):
        if all(folders.NUMBERED.fullmatch(class_) for class_ in present.values()):
            _by_number(raw, name)
            return None
        if declared.classes:
            return None
        raise UsageError(
            f"{name} names its classes {_few(lost)}, none of which is a class of {dataset.name}.",
            hint="Name the data set with --dataset, or list the classes in the order of the label numbers in a file for"
            f" --classes. Those of {dataset.name} are {_few(dataset.class_ids)}.",
        )
    if lost:
        known = [*dataset.class_ids, *dataset.class_names]
        raise DataError(f"{name} has classes that {dataset.name} has not: {_few(lost)}.{did_you_mean(lost[0], known)}")
    if declared.classes:
        raise UsageError(f"{name} names its classes.", hint="Leave --classes out.")
    labels = {number: label for number, label in matched.items() if label is not None}
    if len(set(labels.values())) != len(labels):
        raise DataError(f"{name} has two names of one class: {_few(sorted(present.values()))}.")
    soft = raw.soft_labels
    if soft is not None:
        every = [folders.match_class(class_, dataset) for class_ in raw.class_names]
        order = [label for label in every if label is not None]
        if sorted(order) != list(range(soft.shape[1])) or len(order) != dataset.num_classes:
            raise DataError(
                f"{name} has soft labels of {soft.shape[1]} classes, which are not those of {dataset.name}."
            )
        soft = soft[:, np.argsort(order)]
    return np.asarray([labels[number] for number in raw.labels.tolist()], np.int64), soft, "matched by id or name"


def _by_number(raw: RawSet, name: str) -> None:
    """Replace label numbers by the numbers that their names are: '10' is ten, wherever it stands."""
    value = {
        place: int(match[1])
        for place, class_ in enumerate(raw.class_names)
        if (match := folders.NUMBERED.fullmatch(class_))
    }
    raw.labels = np.asarray([value[number] for number in raw.labels.tolist()], np.int64)
    if raw.soft_labels is not None:
        order = list(value.values())
        if sorted(order) != list(range(raw.soft_labels.shape[1])) or len(order) != len(raw.class_names):
            raise DataError(
                f"{name} has soft labels of {raw.soft_labels.shape[1]} classes for names {_few(raw.class_names)}."
            )
        raw.soft_labels = raw.soft_labels[:, np.argsort(order)]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


def _refuse_unknown_order(raw: RawSet, dataset: Dataset, name: str) -> None:
    """Refuse numbers that can mean two orders of classes: the data set's, and the sorted one of loaders of folders.

    Data sets kept as arrays come with label numbers of their own, which files of tensors have, too.
    """
    ids = list(dataset.class_ids)
    by_number = all(class_id.isdecimal() for class_id in ids)
    if ids == [str(number) for number in range(len(ids))]:
        return
    if ids == sorted(ids) and (not by_number or ids == sorted(ids, key=int)):
        return
    if not raw.as_pictures and isinstance(dataset.train.images, ArrayImages):
        return
    raise UsageError(
        f"{name} has numbers for classes, but the classes of {dataset.name} are not in sorted order, so that the"
        " numbers are ambiguous.",
        hint="List the class ids or names in the order of the numbers, one per line, in a file for --classes. The order"
        f" of {dataset.name} is {_few(ids)}.",
    )
