"""A distilled set on disk: readable without ddbench, never pickled.

``distilled.json``  what it is: class names and ids, method, budget, pixel space, prompts, source ids, digest
``images/<class index>_<class id>/<n>.png``  the images, for pixel space ``rgb_uint8``
``tensors.safetensors``  float images and soft labels, where there are any
``preview.png``  a contact sheet
``metrics.jsonl``  what the method's loop said while it ran, for methods with a loop; not part of the digest
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import metrics
from ddbench.contracts import DistilledSet
from ddbench.datasets import Dataset
from ddbench.errors import RecordError
from ddbench.images import to_pil
from ddbench.keys import canonical, digest_bytes
from ddbench.store import write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = "distilled.json"
FORMAT = 1
#: Files of a distilled set besides its images.
OWN = (FILE, "preview.png", "tensors.safetensors", metrics.FILE)
#: Sub-folder with sets from before the end of a distillation, each a folder like its parent.
SNAPSHOTS = "snapshots"


@dataclass(frozen=True)
class LoadedSet:
    """A distilled set with the class order it was made for.

    Attributes:
        distilled: images, labels and what travels with them.
        class_names, class_ids: in label order.
        about: the rest of ``distilled.json`` (method, options, data set, …).
        path: its folder.
    """

    distilled: DistilledSet
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    about: Mapping[str, Any]
    path: Path

    @property
    def images(self) -> NDArray[Any]:
        """Images [N, H, W, C]; uint8 in space ``rgb_uint8``, else float32."""
        return self.distilled.images

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels int64 [N]."""
        return self.distilled.labels

    @property
    def prompts(self) -> tuple[str, ...] | None:
        """One text per image, for text-guided methods."""
        return self.distilled.prompts

    def torch_dataset(self) -> Any:
        """Return a ``torch.utils.data.TensorDataset`` of (float images [C, H, W], label).

        Pixels are in [0, 1] for ``rgb_uint8``, as stored for the other spaces.
        """
        import torch

        images = torch.from_numpy(np.ascontiguousarray(self.images.transpose(0, 3, 1, 2))).float()
        if self.distilled.space == "rgb_uint8":
            images = images / 255
        return torch.utils.data.TensorDataset(images, torch.from_numpy(self.labels))


def content_digest(distilled: DistilledSet) -> str:
    """Return the digest of everything a student can see: images, labels, space, soft labels, learned rate."""
    soft = b"" if distilled.soft_labels is None else np.ascontiguousarray(distilled.soft_labels, np.float32).data
    about = canonical([distilled.space, list(distilled.images.shape), distilled.learning_rate, distilled.whole])
    return digest_bytes(
        about.encode(), np.ascontiguousarray(distilled.images).data, np.ascontiguousarray(distilled.labels).data, soft
    )


def save(folder: Path, distilled: DistilledSet, dataset: Dataset, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a distilled set into a folder and return the content of its ``distilled.json``.

    The images of a whole training set are not copied: only the reference to the data set is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[Any]] = {}
    files: list[str] = []
    if not distilled.whole and distilled.space == "rgb_uint8":
        files = _save_images(folder, distilled, dataset)
    elif not distilled.whole:
        tensors["images"] = np.ascontiguousarray(distilled.images)
    if distilled.soft_labels is not None:
        tensors["soft_labels"] = np.ascontiguousarray(distilled.soft_labels, np.float32)
    if tensors:
        from safetensors.numpy import save as dump

        write_atomic(folder / "tensors.safetensors", dump(tensors))
    content = {
        "format": FORMAT,
        "digest": content_digest(distilled),
        "dataset": dataset.describe(),
        "space": distilled.space,
        "shape": list(distilled.images.shape),
        "labels": [] if distilled.whole else distilled.labels.tolist(),
        "files": files,
        "source_ids": None if distilled.source_ids is None or distilled.whole else list(distilled.source_ids),
        "prompts": None if distilled.prompts is None else list(distilled.prompts),
        "learning_rate": distilled.learning_rate,
        "whole": distilled.whole,
        "bytes": sizes(folder, distilled),
        "extra": dict(distilled.extra),
        **about,
    }
    if not distilled.whole:
        from ddbench.reports.gallery import contact_sheet

        contact_sheet([distilled], dataset.class_names).save(folder / "preview.png")
    write_atomic(folder / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return content


def load(folder: Path, dataset: Dataset | None = None) -> LoadedSet:
    """Read a distilled set.

    Args:
        folder: where its ``distilled.json`` is.
        dataset: needed for a whole training set, whose images are the data set's own.

    Raises:
        RecordError: the folder is not a distilled set, a file of it is missing, or its content was changed.
    """
    path = folder / FILE
    try:
        about = json.loads(path.read_text("utf-8"))
        if not isinstance(about, dict):
            raise ValueError(f"a {type(about).__name__} is no description of a distilled set")
    except FileNotFoundError as error:
        raise RecordError(f"{folder} is not a distilled set: it has no {FILE}.") from error
    except ValueError as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    if about.get("format") != FORMAT:
        raise RecordError(f"{path} has format {about.get('format')!r}; this ddbench reads format {FORMAT}.")
    try:
        loaded = _load(folder, about, dataset)
        found = content_digest(loaded.distilled)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if found != loaded.about["digest"]:
        raise RecordError(
            f"{folder}: the images or labels were changed after they were distilled (digest {found[:8]}, not"
            f" {about['digest'][:8]}).",
            hint="Distil again, or evaluate the changed images as an ordinary class folder without distilled.json.",
        )
    return loaded


def _load(folder: Path, about: Mapping[str, Any], dataset: Dataset | None) -> LoadedSet:
    if about["whole"]:
        if dataset is None:
            raise RecordError(f"{folder} is a whole training set; it can only be read together with its data set.")
        images, labels = dataset.arrays("train")
        distilled = DistilledSet(images, labels, whole=True, source_ids=dataset.train.ids)
    else:
        distilled = _load_arrays(folder, about)
    described = about["dataset"]
    missing = {"digest", "bytes", "method", "ipc", "seed", "extra"} - about.keys()
    if missing:
        raise KeyError(min(missing))
    return LoadedSet(distilled, tuple(described["class_names"]), tuple(described["class_ids"]), about, folder)


def copy(source: Path, target: Path) -> None:
    """Copy a distilled set's own files to a new folder."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_file() and (path.name in OWN or "images" in name.parts):
            write_atomic(target / name, path.read_bytes())


def dataset_name(folder: Path) -> str:
    """Return the data set a distilled set says it was made from, or an empty string."""
    try:
        name: str = json.loads((folder / FILE).read_text("utf-8"))["dataset"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return name


def sizes(folder: Path, distilled: DistilledSet) -> dict[str, int]:
    """Return what the set costs to store, in bytes: images (files as written) and labels (8 per hard label)."""
    images = sum(path.stat().st_size for path in folder.glob("images/*/*.png"))
    if not images:
        images = distilled.images.nbytes
    soft = 0 if distilled.soft_labels is None else distilled.soft_labels.nbytes
    return {"images": int(images), "labels": int(distilled.labels.nbytes + soft)}


def class_folder(label: int, class_id: str) -> str:
    """Return the zero-padded folder name of a class, whose order survives sorting: ``0003_n03000684``."""
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in class_id)
    return f"{label:04d}_{safe}"


def _save_images(folder: Path, distilled: DistilledSet, dataset: Dataset) -> list[str]:
    files: list[str] = []
    seen: dict[int, int] = {}
    for image, label in zip(distilled.images, distilled.labels.tolist(), strict=True):
        number = seen.get(label, 0)
        seen[label] = number + 1
        name = f"images/{class_folder(label, dataset.class_ids[label])}/{number:04d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        to_pil(image).save(folder / name)
        files.append(name)
    return files


def _load_arrays(folder: Path, about: Mapping[str, Any]) -> DistilledSet:
    from PIL import Image

    tensors: dict[str, NDArray[Any]] = {}
    if (folder / "tensors.safetensors").exists():
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(folder / "tensors.safetensors")
        except (OSError, SafetensorError) as error:
            raise RecordError(f"{folder / 'tensors.safetensors'} cannot be read: {error}") from error
    channels = about["shape"][-1]
    if about["files"]:
        pixels = []
        for name in about["files"]:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise RecordError(f"{folder / FILE} names a file outside its folder: {name}.")
            try:
                with Image.open(folder / name) as image:
                    pixels.append(np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8))
            except (OSError, SyntaxError, Image.DecompressionBombError) as error:
                raise RecordError(f"{folder / name} cannot be read: {error}") from error
        images = np.stack(pixels).reshape(about["shape"])
    else:
        images = tensors["images"]
    return DistilledSet(
        images=images,
        labels=np.asarray(about["labels"], np.int64),
        space=about["space"],
        source_ids=None if about["source_ids"] is None else tuple(about["source_ids"]),
        prompts=None if about["prompts"] is None else tuple(about["prompts"]),
        soft_labels=tensors.get("soft_labels"),
        learning_rate=about["learning_rate"],
        extra=about["extra"],
    )
