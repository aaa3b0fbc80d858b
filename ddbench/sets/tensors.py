"""Tensors in files: ``images_best.pt`` with ``labels_best.pt`` (MTT), ``res_*.pt`` (DC, DSA, DM), ``.npz``, ``.npy``.

Nothing is ever unpickled: torch files are read with ``weights_only``, NumPy ones without objects.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.errors import DataError, UsageError
from ddbench.files.reading import check_archive, check_file
from ddbench.plugin.datasets import Dataset
from ddbench.sets.declared import Declared, RawSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SUFFIXES = (".pt", ".pth", ".npz", ".npy")
FORMATS = "class folders, images_*.pt with labels_*.pt (MTT), res_*.pt (DC, DSA, DM) or .npz with images and labels"
REPACK = "If you trust the file, load it yourself and keep the tensors alone: "
KEEP = "torch.save({'images': …, 'labels': …}, 'set.pt')."
#: What the learned rate is called.
RATE_KEYS = ("learning_rate", "lr", "syn_lr")


def candidates(folder: Path) -> list[Path]:
    """Return the files in a folder that can hold images, without those that lie beside them."""
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))
    beside = {other for path in files for name in ("labels", "lr") if (other := sibling(path, name)) and other != path}
    return [path for path in files if path not in beside]


def sibling(path: Path, name: str) -> Path | None:
    """Return ``labels_best.pt`` for ``images_best.pt`` (and ``images_zca_best.pt``), or None for other names."""
    for word in ("images_zca", "images"):
        if word in path.name:
            return path.with_name(path.name.replace(word, name))
    return None


def read(path: Path, dataset: Dataset, declared: Declared) -> RawSet:
    """Read a file of tensors.

    Raises:
        DataError: unreadable, needing pickle, or without what a set needs.
        UsageError: several sets in the file and none chosen.
    """
    content = _load(path)
    runs = content.get("data") if isinstance(content, dict) else None
    if declared.run is not None and not isinstance(runs, list):
        raise UsageError(f"{path.name} holds one set.", hint="--run is for res_*.pt, which may hold several.")
    files, run, count = [path], 0, 1
    if isinstance(runs, list):
        kind, count = "res of DC, DSA, DM", len(runs)
        run = _choose(path, count, declared.run)
        if not isinstance(runs[run], list | tuple) or len(runs[run]) != 2:
            raise DataError(f"{path.name} has no pair of images and labels as run {run}.")
        parts = dict(zip(("images", "labels"), runs[run], strict=True))
    elif isinstance(content, dict):
        kind, parts = "npz" if path.suffix == ".npz" else "dict of tensors", content
    elif isinstance(content, list | tuple):
        if declared.factor is None or len(content) != 2 or not all(hasattr(part, "detach") for part in content):
            raise _list(path, content)
        kind, parts = "pair of images and labels", dict(zip(("images", "labels"), content, strict=True))
    else:
        kind, parts = "images and labels of MTT", {"images": content}
        for name, key in (("labels", "labels"), ("lr", "lr")):
            beside = sibling(path, name)
            if beside and beside != path and beside.exists():
                parts[key] = _load(beside)
                files.append(beside)
    for name in ("images", "labels"):
        if name not in parts:
            beside = sibling(path, "labels")
            where = f" {beside.name} is not beside it." if name == "labels" and beside else ""
            keys = [str(key) for key in content] if isinstance(content, dict) else []
            has = f" It has {_named(keys)}." if isinstance(content, dict) else ""
            raise DataError(
                f"{path.name} holds no {name}.{where}{has}",
                hint=f"Rename its keys to images and labels. A distilled set is {FORMATS}."
                if keys
                else f"A distilled set is {FORMATS}.",
            )
    labels, soft = read_labels(_array(parts["labels"], path, "labels"), path, declared.labels)
    rate = next((_number(parts[key], path) for key in RATE_KEYS if parts.get(key) is not None), None)
    images = channels_last(_array(parts["images"], path, "images"), dataset.channels, path)
    return RawSet(kind, images, labels, files, True, soft, rate, run, count)


def _named(keys: list[str]) -> str:
    shown = ", ".join(repr(key[:40]) for key in keys[:20])
    return f"the keys {shown}{' …' if len(keys) > 20 else ''}" if keys else "no keys at all"


def _list(path: Path, content: Sequence[Any]) -> DataError:
    """Return the error that says what an unnamed list of things holds, and how to name them."""
    shapes = [list(part.shape) if hasattr(part, "shape") else type(part).__name__ for part in content[:4]]
    listed = ", ".join(map(str, shapes)) + (", …" if len(content) > 4 else "")
    hint = "torch.save({'images': …, 'labels': …}, 'set.pt')."
    if len(content) == 2 and all(hasattr(part, "detach") for part in content):
        hint = (
            "If these are images and labels: --factor 2 where each image is not yet decoded into 2 × 2 (IDC, DREAM,"
            f" NCFM; --eval idc decodes them), --factor 1 where it is as networks see it. Or save them by name: {hint}"
        )
    return DataError(
        f"{path.name} holds a {type(content).__name__} of {len(content)} without names ({listed}).",
        hint=hint if hint.startswith("If") else f"If these are images and labels, save them by name: {hint}",
    )


def _load(path: Path) -> Any:
    """Read a file by its ending."""
    return _npz(path) if path.suffix == ".npz" else _npy(path) if path.suffix == ".npy" else load_torch(path)


def load_torch(path: Path) -> Any:
    """Read a torch file without unpickling anything but tensors, plain data and NumPy numbers.

    Raises:
        DataError: unreadable, or holding other objects.
    """
    import torch

    check_file(path)
    check_archive(path)
    try:
        # The accuracies that DC, DSA and DM keep beside the images are NumPy numbers, of NumPy 1 in the released files.
        scalar = np.float64(0).__reduce__()[0]
        kinds = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64)]
        known = [np.dtype, scalar, (scalar, "numpy.core.multiarray.scalar"), *kinds]
        with torch.serialization.safe_globals(known):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = [line for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line]
        raise DataError(
            f"{path.name} holds more than tensors, and reading that could run any code of whoever wrote it"
            f" ({(named or str(error).splitlines())[0].strip()[:160]}).",
            hint=REPACK + KEEP,
        ) from error
    except Exception as error:  # what a damaged or forged file makes of the reader is not to be foreseen
        raise _unreadable(path, error) from error


def read_labels(
    labels: NDArray[Any], path: Path, kind: str = ""
) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
    """Return label numbers int64 [N], and probabilities [N, K] where the labels are such, or of the declared kind.

    Raises:
        DataError: labels of another kind.
    """
    if not labels.size:
        raise DataError(f"{path.name} has no labels.")
    if labels.ndim == 2 and labels.dtype.kind == "f":
        if kind in ("centred", "free"):
            if not np.isfinite(labels).all():
                raise DataError(f"{path.name} has NaN or infinite labels.")
            return labels.argmax(1).astype(np.int64), labels.astype(np.float32)
        if not ((labels >= 0).all() and (abs(labels.sum(1) - 1) <= 0.01).all()):  # NaN is neither
            raise DataError(
                f"{path.name} has labels [N, K] that are no probabilities.",
                hint="Apply the softmax to logits first; of KIP, RFAD and FRePo, say --labels centred.",
            )
        return labels.argmax(1).astype(np.int64), labels.astype(np.float32)
    if kind:
        raise UsageError(f"{path.name} has one number per image, no {kind} labels.", hint="Leave --labels out.")
    if labels.ndim != 1 or labels.dtype.kind not in "iuf" or (labels != np.floor(labels)).any():
        raise DataError(f"{path.name} has labels {labels.dtype} {list(labels.shape)} instead of one number per image.")
    return labels.astype(np.int64), None


def channels_last(images: NDArray[Any], channels: int, path: Path) -> NDArray[Any]:
    """Return images [N, S, S, C], uint8 or float32, whichever way round they were stored.

    Raises:
        DataError: another shape or type, or NaN.
    """
    if images.ndim == 4 and images.shape[1] == channels and images.shape[2] == images.shape[3]:
        images = images.transpose(0, 2, 3, 1)
    elif images.ndim != 4 or images.shape[3] != channels or images.shape[1] != images.shape[2]:
        raise DataError(
            f"{path.name} has images {list(images.shape)} instead of square ones with {channels} channels.",
            hint="Name the data set they were distilled from with --dataset.",
        )
    if not images.size:
        raise DataError(f"{path.name} has no pixels: images {list(images.shape)}.")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind != "f":
        raise DataError(f"{path.name} has {images.dtype} images instead of uint8 or floats.")
    with np.errstate(over="ignore"):  # becomes infinite, which is reported below
        single = np.ascontiguousarray(images, np.float32)
    if not np.isfinite(single).all():
        raise DataError(f"{path.name} has NaN or infinite pixels.")
    return single


def _npz(path: Path) -> dict[str, Any]:
    check_file(path)
    check_archive(path)
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path.name} is no .npz file.", hint="Copy it again, or write it with np.savez.")
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = [name for name in ("images", "labels", *RATE_KEYS) if name in file.files]
            if not {"images", "labels"} <= set(wanted):
                return dict.fromkeys(file.files)  # enough to say what is there
            return {name: file[name] for name in wanted}
    except Exception as error:  # as above
        if "Object arrays cannot be loaded" in str(error):
            raise DataError(
                f"{path.name} holds objects, and reading those could run any code of whoever wrote it.",
                hint=REPACK + "np.savez('set.npz', images=…, labels=…).",
            ) from error
        raise _unreadable(path, error) from error


def _npy(path: Path) -> NDArray[Any]:
    check_file(path)
    try:
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))  # mapped: never more than the file holds
    except Exception as error:  # as above
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path.name} cannot be read: {reason[:160]}", hint="Copy it again; it may be cut short.")


def _choose(path: Path, count: int, run: int | None) -> int:
    if not count:
        raise DataError(f"{path.name} holds no set.")
    if run is None:
        if count > 1:
            raise UsageError(
                f"{path.name} holds {count} sets, one per experiment.",
                hint=f"Choose one with --run 0 … {count - 1}; DC-Bench takes the last, --run -1.",
            )
        return 0
    if not -count <= run < count:
        raise UsageError(f"{path.name} has no run {run}.", hint=f"It holds the runs 0 … {count - 1}.")
    return run % count


def _array(value: Any, path: Path, name: str) -> NDArray[Any]:
    array = _dense(value, path) if hasattr(value, "detach") else value
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path.name} has {name} of type {type(value).__name__} instead of a tensor.")
    return array


def _dense(tensor: Any, path: Path) -> NDArray[Any]:
    """Return a tensor's numbers.

    Raises:
        DataError: it holds them in another way (sparse, quantised, …), or claims more than its file holds.
    """
    try:
        tensor = tensor.detach()
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"a tensor {list(tensor.shape)} of repeated numbers")
        array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # no bfloat16 there
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(
            f"{path.name} holds no ordinary tensor: {(str(error).splitlines() or [type(error).__name__])[0][:160]}",
            hint=REPACK + "torch.save({'images': images.clone(), 'labels': labels}, 'set.pt').",
        ) from error
    return array


def _number(value: Any, path: Path) -> float:
    array = _dense(value, path) if hasattr(value, "detach") else np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu" or not 0 < float(array.reshape(-1)[0]) < float("inf"):
        raise DataError(f"{path.name}: the learned rate {value!r} is no number above zero.")
    return float(array.reshape(-1)[0])
