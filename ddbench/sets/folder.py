"""A distilled set on disk: readable without ddbench, never pickled.

``distilled.json``  what it is: class names and ids, method, budget, pixel space, prompts, source ids, digest
``images/<class index>_<class id>/<n>.png``  the images, for pixel space ``rgb_uint8``
``tensors.safetensors``  float images and soft labels, where there are any
``preview.png``  a contact sheet
``metrics.jsonl``  what the method's loop reported, for methods with a loop; not part of the digest
"""

from __future__ import annotations

import base64
import filecmp
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ddbench import escaping
from ddbench.errors import RecordError
from ddbench.files.folders import clear, taken, whole_folder
from ddbench.files.reading import check_file, read_bytes
from ddbench.files.schemas import first_flaw
from ddbench.files.writing import explained, write_atomic
from ddbench.keys import canonical, digest_bytes
from ddbench.plugin.contents import CONTENTS, arrays, plain, rebuilt
from ddbench.plugin.contracts import DistilledSet
from ddbench.plugin.datasets import Dataset
from ddbench.plugin.images import to_pil
from ddbench.runtime import metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = "distilled.json"
PREVIEW = "preview.png"
FORMAT = 1
#: A set is written in the first format that can hold it (:func:`format_of`), and an older ddbench refuses the others.
FORMATS = (FORMAT, 2, 3)
#: Files of a distilled set besides its images.
OWN = (FILE, PREVIEW, "tensors.safetensors", metrics.FILE)


class DatasetDescription(BaseModel):
    """What :meth:`ddbench.Dataset.describe` returns, as far as it is read again."""

    name: str
    fingerprint: str
    image_size: PositiveInt
    class_names: list[str]
    class_ids: list[str]


class MadeBy(BaseModel):
    """Which method made a set; its version and options are needed for a record only."""

    name: str
    version: int | None = None
    options: dict[str, Any] | None = None
    explicit: dict[str, Any] | None = None


class Description(BaseModel):
    """What ``distilled.json`` must hold; its digest covers what students see only."""

    format: int
    digest: str
    dataset: DatasetDescription
    space: Literal["rgb_uint8", "unit", "normalized", "zca"]
    label_kind: Literal["probabilities", "centred", "free"] = "probabilities"
    counted: Literal["images", "numbers"] = "images"
    whitening: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    bases: dict[str, Any] | None = None
    texts: dict[str, Any] | None = None
    similarity: dict[str, Any] | None = None
    shape: tuple[PositiveInt, PositiveInt, PositiveInt, Literal[1, 3]]
    labels: list[NonNegativeInt]
    files: list[str]
    source_ids: list[str] | None
    prompts: list[str] | None
    learning_rate: Annotated[FiniteFloat, Field(gt=0)] | None
    whole: bool
    bytes: dict[Literal["images", "labels"], NonNegativeInt]
    extra: dict[str, Any]
    method: MadeBy
    ipc: PositiveInt | None
    seed: int
    shrunk: list[tuple[str, Any, Any]] = []

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        classes, count = len(self.dataset.class_ids), self.shape[0]
        if len(self.dataset.class_names) != classes or len(set(self.dataset.class_ids)) != classes:
            raise ValueError(f"{len(self.dataset.class_names)} class names for {classes} class ids, or ids twice")
        wanted = 0 if self.whole else count
        if len(self.labels) != wanted:
            raise ValueError(f"{len(self.labels)} labels for {count} images")
        if max(self.labels, default=0) >= classes:
            raise ValueError(f"the label {max(self.labels)}, but {classes} classes")
        if len(self.files) != (0 if self.whole or self.space != "rgb_uint8" else count):
            raise ValueError(f"{len(self.files)} files for {count} images in space {self.space}")
        for name, values in (("source_ids", self.source_ids), ("prompts", self.prompts)):
            if values is not None and len(values) not in (wanted, count):
                raise ValueError(f"{len(values)} {name} for {count} images")
        even = self.counted == "images" and not self.whole
        if self.ipc is not None and even and set(Counter(self.labels).values()) != {self.ipc}:
            raise ValueError(f"classes with more or fewer images than its IPC, {self.ipc}")
        if set(self.bytes) != {"images", "labels"}:
            raise ValueError("bytes without those of images and labels")
        return self


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

    def torch_dataset(self, transform: Callable[[Any], Any] | None = None) -> Any:
        """Return a ``torch.utils.data.Dataset`` of (image, label).

        Args:
            transform: applied to every image as it is read, such as one of torchvision's; it is given a float tensor
                [C, H, W], with pixels in [0, 1] for space ``rgb_uint8`` and as stored for the others.

        Example:
            >>> flipped = ddbench.load("path/to/set").torch_dataset(torchvision.transforms.RandomHorizontalFlip())
            >>> loader = torch.utils.data.DataLoader(flipped, batch_size=10, shuffle=True)
        """
        import torch

        images = torch.from_numpy(np.ascontiguousarray(self.images.transpose(0, 3, 1, 2))).float()
        if self.distilled.space == "rgb_uint8":
            images = images / 255
        tensors = torch.utils.data.TensorDataset(images, torch.tensor(self.labels))
        return tensors if transform is None else _Transformed(tensors, transform)

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._facts().items())
        return f"<LoadedSet of {escaping.one_line(facts)}>"

    def _repr_html_(self) -> str:
        table = escaping.html_table(self._facts(), [self._facts().values()])
        try:
            picture = read_bytes(self.path / PREVIEW, RecordError)
        except RecordError:  # the preview is no part of what is verified, and sets of kept sheets have none
            return table
        data = base64.b64encode(picture).decode("ascii")
        return f'{table}\n<img alt="contact sheet" src="data:image/png;base64,{data}">'

    def _facts(self) -> dict[str, object]:
        made = {"method": self.about["method"]["name"], "IPC": self.about["ipc"] or "full", "seed": self.about["seed"]}
        count, *shape = self.images.shape
        return {**made, "images": count, "shape": "×".join(map(str, shape)), "space": self.distilled.space}


@dataclass(frozen=True)
class _Transformed:
    """A map-style data set whose images are transformed as they are read; workers of a loader can be sent it."""

    pairs: Any
    transform: Callable[[Any], Any]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self.pairs[index]
        return self.transform(image), label


def content_digest(distilled: DistilledSet) -> str:
    """Return the digest of all that results depend on: images, labels, space, soft labels, learned rate, contents.

    Of images that are decoded from bases it is that of the bases.
    """
    soft = b"" if distilled.soft_labels is None else np.ascontiguousarray(distilled.soft_labels, np.float32).data
    about = canonical([distilled.space, list(distilled.images.shape), distilled.learning_rate, distilled.whole])
    about += "" if distilled.label_kind == "probabilities" else distilled.label_kind
    more: list[memoryview] = []
    for name, content in distilled.contents().items():
        about += canonical({name: plain(content)})
        more += [np.ascontiguousarray(array).data for _, array in sorted(arrays(content).items())]
    pixels = b"" if distilled.bases else np.ascontiguousarray(distilled.images).data
    return digest_bytes(about.encode(), pixels, np.ascontiguousarray(distilled.labels).data, soft, *more)


def format_of(distilled: DistilledSet) -> int:
    """Return the first format that can hold a set."""
    if distilled.contents() or distilled.label_kind == "free" or distilled.counted != "images":
        return 3
    return 2 if distilled.label_kind == "centred" else FORMAT


def save(
    folder: Path, distilled: DistilledSet, dataset: Dataset, about: Mapping[str, Any], preview: bytes = b""
) -> dict[str, Any]:
    """Write a distilled set into a folder and return the content of its ``distilled.json``.

    The images of a whole training set are not copied: only the reference to the data set is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[Any]] = {}
    files: list[str] = []
    if not distilled.whole and distilled.space == "rgb_uint8":
        files = _save_images(folder, distilled, dataset)
    elif not distilled.whole and not distilled.bases:
        tensors["images"] = np.ascontiguousarray(distilled.images)
    if distilled.soft_labels is not None:
        tensors["soft_labels"] = np.ascontiguousarray(distilled.soft_labels, np.float32)
    if distilled.shown is not None:
        tensors["shown"] = np.ascontiguousarray(distilled.shown)
    for name, kept in distilled.contents().items():
        tensors |= {f"{name}.{part}": np.ascontiguousarray(array) for part, array in arrays(kept).items()}
    if tensors:
        from safetensors.numpy import save as dump

        write_atomic(folder / "tensors.safetensors", dump(tensors))
    content = {
        "format": format_of(distilled),
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
        **({} if distilled.label_kind == "probabilities" else {"label_kind": distilled.label_kind}),
        **({} if distilled.counted == "images" else {"counted": distilled.counted}),
        **{name: plain(kept) for name, kept in distilled.contents().items()},
        **about,
    }
    if preview:
        write_atomic(folder / PREVIEW, preview)
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
    about = _description(folder)
    try:
        loaded = _load(folder, about, dataset)
        digest = content_digest(loaded.distilled)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{folder / FILE} is damaged: {type(error).__name__}: {error}") from error
    if digest != about["digest"]:
        raise RecordError(
            f"{folder}: the images or labels were changed after they were distilled (digest {digest[:8]}, not"
            f" {about['digest'][:8]}).",
            hint="Distil again, or evaluate the changed images as an ordinary class folder without distilled.json.",
        )
    return loaded


def _description(folder: Path) -> dict[str, Any]:
    """Return the content of a set's ``distilled.json``.

    Raises:
        RecordError: there is none, or it does not fit :class:`Description`.
    """
    path = folder / FILE
    if not folder.is_dir() or not path.exists():
        raise RecordError(f"{folder} is not a distilled set: it has no {FILE}.")
    check_file(path, RecordError)
    try:
        about = json.loads(path.read_bytes())
        if not isinstance(about, dict):
            raise ValueError(f"a {type(about).__name__} is no description of a distilled set")
        if about.get("format") in FORMATS:
            Description.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise RecordError(f"{path} is damaged: {first_flaw(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    if about.get("format") not in FORMATS:
        known = ", ".join(map(str, FORMATS))
        raise RecordError(f"{path} has format {about.get('format')!r}; this ddbench reads formats {known}.")
    return about


def _load(folder: Path, about: Mapping[str, Any], dataset: Dataset | None) -> LoadedSet:
    if about["whole"]:
        if dataset is None:
            raise RecordError(f"{folder} is a whole training set; it can only be read together with its data set.")
        images, labels = dataset.arrays("train")
        distilled = DistilledSet(images, labels, whole=True, source_ids=dataset.train.ids)
    else:
        distilled = _load_arrays(folder, about)
    described = about["dataset"]
    return LoadedSet(distilled, tuple(described["class_names"]), tuple(described["class_ids"]), about, folder)


def copy(source: Path, target: Path) -> None:
    """Copy a distilled set's own files to a new folder, which appears whole or not at all.

    One that is there already with the same content is left as it is.

    Raises:
        UsageError: something else is there.
    """
    names = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()]
    names = [name for name in names if name.name in OWN or "images" in name.parts]
    if os.path.lexists(target):
        clear(target)
        if not all(_equal(source / name, target / name) for name in names if name.name != metrics.FILE):
            raise taken(target)
        return
    with whole_folder(target) as partial:
        for name in names:
            with explained(target.parent):
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, partial / name)


def _equal(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def dataset_name(folder: Path) -> str:
    """Return the data set a distilled set says it was made from, or an empty string."""
    try:
        name: str = _description(folder)["dataset"]["name"]
    except RecordError:
        return ""
    return name


def summary(folder: Path) -> dict[str, Any]:
    """Return which run a distilled set says it is of: method, ipc and seed; nothing of a folder that is none."""
    try:
        about = _description(folder)
    except RecordError:
        return {}
    return {"method": about["method"]["name"], "ipc": about["ipc"], "seed": about["seed"]}


def image_files(folder: Path) -> list[str]:
    """Return the picture files that a set lists, in the order of its labels.

    Raises:
        RecordError: the folder is none.
    """
    return list(_description(folder)["files"])


def sizes(folder: Path, distilled: DistilledSet) -> dict[str, int]:
    """Return what the set costs to store, in bytes: images (files as written, or bases) and labels (8 per hard label).

    A schedule, texts and their similarity count with the labels.
    """
    images = sum(path.stat().st_size for path in folder.glob("images/*/*.png"))
    kept = {name: sum(array.nbytes for array in arrays(part).values()) for name, part in distilled.contents().items()}
    if not images:
        images = kept.pop("bases", distilled.images.nbytes)
    soft = 0 if distilled.soft_labels is None else distilled.soft_labels.nbytes
    rates = 8 * len(distilled.schedule.steps) if distilled.schedule else 0
    return {"images": int(images), "labels": int(distilled.labels.nbytes + soft + rates + sum(kept.values()))}


def besides(distilled: DistilledSet) -> list[str]:
    """Return in words what a set holds besides images and hard labels, a line for each."""
    soft = distilled.soft_labels
    lines = [] if soft is None else [f"soft labels: {distilled.label_kind}, {soft.shape[1]} per image"]
    for name, about in distilled.besides().items():
        facts = about.items() if isinstance(about, dict) else [("stored, which the IPC counts", f"{about:,}")]
        lines.append(f"{name}: {', '.join(f'{key} {value}' for key, value in facts)}")
    return lines


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


def _contents(about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return by name what a set holds besides images and labels.

    Raises:
        ValueError: it does not fit together.
    """
    kept: dict[str, Any] = {}
    for name, kind in CONTENTS.items():
        if about.get(name) is None:
            continue
        own = {key.removeprefix(f"{name}."): array for key, array in tensors.items() if key.startswith(f"{name}.")}
        kept[name] = rebuilt(kind, {**about[name], **own})
        if mistake := getattr(kept[name], "check", lambda images: "")(about["shape"][0]):
            raise ValueError(f"a {name} with {mistake}")
    return kept


def _load_arrays(folder: Path, about: Mapping[str, Any]) -> DistilledSet:
    from PIL import Image

    tensors: dict[str, NDArray[Any]] = {}
    if (folder / "tensors.safetensors").exists():
        check_file(folder / "tensors.safetensors", RecordError)
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(folder / "tensors.safetensors")
        except (OSError, SafetensorError) as error:
            raise RecordError(f"{folder / 'tensors.safetensors'} cannot be read: {error}") from error
    count, height, width, channels = about["shape"]
    kept = _contents(about, tensors)
    if about["files"]:
        pixels = []
        for name in about["files"]:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise RecordError(f"{folder / FILE} names a file outside its folder: {name}.")
            check_file(folder / name, RecordError)
            try:
                with Image.open(folder / name) as image:
                    if image.size != (width, height):
                        raise OSError(f"it has {image.width}×{image.height} pixels instead of {width}×{height}")
                    pixels.append(np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8))
            except (OSError, SyntaxError, Image.DecompressionBombError) as error:
                raise RecordError(f"{folder / name} cannot be read: {error}") from error
        images = np.stack(pixels).reshape(about["shape"])
    elif bases := kept.get("bases"):
        if list(bases.shape) != about["shape"]:
            raise ValueError(f"bases of images {list(bases.shape)} instead of {about['shape']}")
        images = bases.decode()
    else:
        images = tensors["images"]
        if images.dtype != np.float32 or list(images.shape) != about["shape"]:
            raise ValueError(f"images {images.dtype} {list(images.shape)} instead of float32 {about['shape']}")
    soft = tensors.get("soft_labels")
    if soft is not None and (soft.dtype != np.float32 or soft.shape != (count, len(about["dataset"]["class_ids"]))):
        raise ValueError(f"soft labels {soft.dtype} {list(soft.shape)} for {count} images")
    shown = tensors.get("shown")
    if shown is not None and (shown.dtype != np.uint8 or list(shown.shape) != about["shape"]):
        raise ValueError(f"pictures {shown.dtype} {list(shown.shape)} of images {about['shape']}")
    kind = about.get("label_kind", "probabilities")
    if soft is None and kind != "probabilities":
        raise ValueError(f"{kind} labels, but no soft labels")
    distilled = DistilledSet(
        images=images,
        labels=np.asarray(about["labels"], np.int64),
        space=about["space"],
        source_ids=None if about["source_ids"] is None else tuple(about["source_ids"]),
        prompts=None if about["prompts"] is None else tuple(about["prompts"]),
        soft_labels=soft,
        learning_rate=about["learning_rate"],
        extra=about["extra"],
        label_kind=kind,
        shown=shown,
        counted=about.get("counted", "images"),
        **kept,
    )
    if format_of(distilled) != about["format"]:
        raise ValueError(f"format {about['format']} with what format {format_of(distilled)} holds")
    return distilled
