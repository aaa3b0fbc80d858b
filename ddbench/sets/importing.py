"""Distilled sets of others: a folder that ddbench wrote, pictures in class folders, or the tensors of released code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.errors import DataError, RecordError, UsageError
from ddbench.plugin.contents import reordered
from ddbench.plugin.contracts import LABEL_KINDS, Budget, DistilledSet
from ddbench.plugin.datasets import Dataset
from ddbench.plugin.whitening import Whitened
from ddbench.results.registry import check_name
from ddbench.results.schema import PluginPart
from ddbench.sets import class_order, parquet, tensors
from ddbench.sets import folder as disk
from ddbench.sets import trees as folders
from ddbench.sets.declared import IMPORTED, Declared, RawSet, read_pixels
from ddbench.sets.made import Distilled
from ddbench.sets.parquet import Tables

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_set(
    source: Path,
    dataset: Dataset,
    name: str = "",
    declared: Declared | None = None,
    *,
    taken: Collection[str] = (),
    warn: Callable[[str], None] = lambda message: None,
    tables: Tables | None = None,
    origin: str = "",
    said: str = "",
) -> Distilled:
    """Read a distilled set for evaluation on a data set.

    Args:
        source: a folder with a ``distilled.json`` of ddbench, a tree of pictures, or a file of tensors.
        dataset: whose classes the set must have.
        name: what to call the method; the recorded or the folder's name when empty.
        declared: what the files do not state.
        taken: names of methods, which a third-party set must not bear.
        warn: receives what looks odd.
        tables: parquet files below ``source`` that hold the set.
        origin: the repository on the hub at its commit.
        said: what messages call the set; the name of ``source`` when empty.

    Raises:
        DataError: no images, classes that are not the data set's, or unequal numbers of images per class.
        RecordError: a damaged ``distilled.json``.
        UsageError: a name that no record can have or that is a method's, or something that must be declared.
    """
    declared = declared or Declared()
    called = name or (source.resolve().name if source.is_dir() else source.stem)
    check_name(called, "Give another with --name.")
    if not source.exists():
        raise DataError(f"{source} does not exist.", hint=f"A distilled set is {tensors.FORMATS}.")
    if (source / disk.FILE).exists():
        if declared:
            raise UsageError(f"{source.name} was written by ddbench: its {disk.FILE} already states this.")
        return replace(_own(source, dataset, name, taken, warn), origin=origin)
    if (
        tables is None
        and source.is_dir()
        and (inside := sorted(path.parent.name for path in source.glob(f"*/{disk.FILE}")))
    ):
        raise UsageError(f"{source} is a folder of {len(inside)} distilled set(s).", hint=f"Name them: {source}/*")
    _refuse_taken(called, taken)
    raw = _read(source, dataset, declared, warn) if tables is None else _parquet(tables, dataset, declared, warn)
    content = _content(raw, dataset, declared, source, said or source.resolve().name, warn, origin)
    digest = disk.content_digest(content)
    content_of_files = content.extra[IMPORTED]["sha256"]
    taken_for = _taken_for(content, declared)
    explicit = {key: value for key, value in taken_for.items() if key not in ("mean", "std") or declared.mean}
    size = sum(path.stat().st_size for path in raw.files) if raw.as_pictures else content.images.nbytes
    soft = 0 if content.soft_labels is None else content.soft_labels.nbytes
    return Distilled(
        plugin=PluginPart(
            name=called, version=1, options={IMPORTED: content_of_files[:16], **taken_for}, explicit=explicit
        ),
        content=content,
        key=digest,
        digest=digest,
        ipc=len(content.labels) // dataset.num_classes,
        seed=raw.run,
        shrunk=(),
        steps=[],
        seconds=None,
        bytes={"images": size, "labels": content.labels.nbytes + soft},
        path=source,
        origin=origin,
    )


def _taken_for(content: DistilledSet, declared: Declared) -> dict[str, Any]:
    """Return what the files were taken for on the user's word: taken for something else, they are another set."""
    imported = content.extra[IMPORTED]
    declared_as = {name: imported[name] for name in ("space", "mean", "std") if declared.space and name in imported}
    if declared.classes:
        declared_as["classes"] = list(declared.classes)
    if declared.learning_rate is not None:
        declared_as["learning_rate"] = declared.learning_rate
    if declared.labels:
        declared_as["labels"] = declared.labels
    if declared.factor is not None:
        declared_as["factor"] = declared.factor
    return declared_as


def write(made: Distilled, folder: Path, dataset: Dataset, preview: bytes = b"") -> None:
    """Write an imported set as an ordinary distilled set."""
    shrunk = [list(change) for change in made.shrunk]
    about: dict[str, Any] = {"method": made.plugin.model_dump(), "ipc": made.ipc, "seed": made.seed, "shrunk": shrunk}
    disk.save(folder, made.content, dataset, {**about, "bytes": dict(made.bytes)}, preview)


def _read(source: Path, dataset: Dataset, declared: Declared, warn: Callable[[str], None]) -> RawSet:
    if source.is_dir() and not (files := tensors.candidates(source)):
        if not folders.holds_pictures(source):
            raise DataError(
                f"{source} has neither {disk.FILE} nor class folders, nor files of tensors.",
                hint=f"A distilled set is {tensors.FORMATS}.",
            )
        if declared.run is not None:
            raise UsageError(f"{source.name} holds one set.", hint="--run is for res_*.pt, which may hold several.")
        if declared.labels:
            raise UsageError(
                f"The pictures of {source.name} are labelled by their folders.", hint="Leave --labels out."
            )
        return folders.read(source, dataset, warn)
    if source.is_dir():
        if len(files) > 1:
            listed = ", ".join(path.name for path in files[:12])
            raise UsageError(f"{source.name} holds several sets.", hint=f"Name one of its files: {listed}.")
        if folders.holds_pictures(source):
            raise UsageError(
                f"{source.name} holds both {files[0].name} and folders of pictures.",
                hint="Name the file, or put the folders into a folder of their own.",
            )
        source = files[0]
    if source.suffix not in tensors.SUFFIXES:
        raise DataError(f"{source.name} is not a distilled set.", hint=f"A distilled set is {tensors.FORMATS}.")
    return tensors.read(source, dataset, declared)


def _parquet(tables: Tables, dataset: Dataset, declared: Declared, warn: Callable[[str], None]) -> RawSet:
    if declared.run is not None:
        raise UsageError(
            f"{tables.files[0].name} holds one set.", hint="--run is for res_*.pt, which may hold several."
        )
    return parquet.read(tables, dataset, declared.labels, warn)


def _content(
    raw: RawSet,
    dataset: Dataset,
    declared: Declared,
    source: Path,
    name: str,
    warn: Callable[[str], None],
    origin: str,
) -> DistilledSet:
    labels, soft, meaning = class_order.renumber(raw, dataset, declared, name)
    if len(labels) != len(raw.images):
        raise DataError(f"{name} has {len(raw.images)} images, but {len(labels)} labels.")
    _check_counts(labels, dataset, name)
    images, space, pixels = read_pixels(raw, declared, dataset, warn)
    whitening = Whitened.by(declared.recipe, dataset) if declared.recipe else None
    order = np.argsort(labels, kind="stable")
    imported: dict[str, Any] = {
        "format": raw.kind,
        "files": len(raw.files) if len(raw.files) == len(raw.images) else [path.name for path in raw.files],
        "sha256": _digest(raw.files, source),
        "classes": meaning,
        **pixels,
    }
    if raw.runs > 1:
        imported |= {"run": raw.run, "runs": raw.runs}
    if origin:
        imported["origin"] = origin
    rate = declared.learning_rate or raw.learning_rate
    content = DistilledSet(
        images=np.ascontiguousarray(images[order]),
        labels=labels[order],
        space=space,
        whitening=whitening,
        soft_labels=None if soft is None else soft[order],
        label_kind=declared.labels or LABEL_KINDS[0],
        prompts=None if raw.prompts is None else tuple(raw.prompts[place] for place in order),
        learning_rate=None if rate is None else float(rate),
        extra={IMPORTED: imported, **({"factor": declared.factor} if declared.factor else {})},
    )
    content.check(dataset, Budget(len(labels) // dataset.num_classes), name)
    return content


def _check_counts(labels: np.ndarray[Any, np.dtype[np.int64]], dataset: Dataset, name: str) -> None:
    counts = np.bincount(labels, minlength=dataset.num_classes)
    if counts.min() == counts.max():
        return
    usual = int(np.bincount(counts).argmax())
    odd = [f"{dataset.class_names[label]} {counts[label]}" for label in np.flatnonzero(counts != usual)]
    raise DataError(
        f"{name} has {counts.min()} to {counts.max()} images per class: {usual} of most, but"
        f" {', '.join(odd[:12])}{' …' if len(odd) > 12 else ''}.",
        hint="Every class of the data set needs the same number of images (its IPC).",
    )


def _digest(files: Sequence[Path], source: Path) -> str:
    """Return one sha256 of files by their content and their names below ``source``."""
    names = {path.relative_to(source).as_posix() if source.is_dir() else path.name: path for path in files}
    state = hashlib.sha256()
    for name in sorted(names):
        with names[name].open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        state.update(f"{content}  {name}\n".encode())
    return state.hexdigest()


def _refuse_taken(name: str, taken: Collection[str]) -> None:
    if name in taken:
        raise UsageError(
            f"{name!r} is a method of ddbench, and a third-party set must not bear its name.",
            hint=f"Give another name, such as {name}-authors.",
        )


def _own(folder: Path, dataset: Dataset, name: str, taken: Collection[str], warn: Callable[[str], None]) -> Distilled:
    loaded = disk.load(folder, dataset)
    made_from = loaded.about["dataset"]
    # May be meant (another size), or training images in the test split.
    if made_from.get("fingerprint") != dataset.fingerprint:
        warn(
            f"{folder.name} was made from other images than these of {dataset.name}: {made_from.get('name')} with"
            f" fingerprint {str(made_from.get('fingerprint'))[:8]} at {made_from.get('image_size')} pixels, here"
            f" {dataset.fingerprint[:8]} at {dataset.image_size}; see that -o data.… are the same"
        )
    content = reorder(loaded.distilled, loaded.class_ids, dataset, folder.name)
    method = dict(loaded.about["method"])
    if lacking := {"version", "options", "explicit"} - {key for key, value in method.items() if value is not None}:
        raise RecordError(f"{folder / disk.FILE} is damaged: its method has no {min(lacking)}.")
    if name and name != method["name"]:
        _refuse_taken(name, taken)
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
        seconds=None,
        bytes=loaded.about["bytes"],
        path=folder,
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

    return replace(
        content,
        images=content.images[order],
        labels=labels[order],
        source_ids=pick(content.source_ids),
        prompts=pick(content.prompts),
        soft_labels=None if content.soft_labels is None else content.soft_labels[order][:, np.argsort(new)],
        shown=None if content.shown is None else content.shown[order],
        **{name: reordered(part, order) for name, part in content.contents().items()},
    )
