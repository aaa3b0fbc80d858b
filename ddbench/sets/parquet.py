"""Sets in parquet files, as the hub's libraries keep data sets: a column of encoded pictures, one of labels.

``image``  struct<bytes, path> or binary (PNG, JPEG, WebP, BMP); or ``pixels``, arrays of numbers
``label``  numbers, with the names of classes in the metadata of the file or in the card; or the names themselves
``soft_label`` probabilities in the order of the label numbers, ``prompt`` text; both optional
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.errors import DataError
from ddbench.escaping import one_line
from ddbench.files.reading import EXPANDS, LARGE, check_file, first_line
from ddbench.plugin.datasets import Dataset
from ddbench.plugin.images import ImageSource, fit
from ddbench.sets import card, tensors, trees
from ddbench.sets.declared import RawSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Images of a set: more than ImageNet's. A few bytes of a file can claim a billion rows.
MOST_IMAGES = 2_000_000
#: Bytes of one encoded picture, and rows that are read at once.
MOST_BYTES, ROWS = 16 * 2**20, 64
#: What the columns are called, where the metadata of the file does not tell.
IMAGES, LABELS, SOFT, PROMPTS = ("image", "img", "pixels"), ("label", "class_id"), "soft_label", "prompt"
#: Formats of pictures; others have readers that nobody needs here.
PICTURES = ("PNG", "JPEG", "WEBP", "BMP")
METADATA = b"huggingface"


@dataclass(frozen=True)
class Tables:
    """Parquet files of one set, with the class names that the card states, in the order of the label numbers."""

    files: tuple[Path, ...]
    class_names: tuple[str, ...] = ()


def read(tables: Tables, dataset: Dataset, kind: str, warn: Callable[[str], None]) -> RawSet:
    """Read a set, whose soft labels are of a declared kind (probabilities when empty).

    Raises:
        DataError: no parquet, other columns than those of a set, more than pictures need, or pictures that would not be
            kept as they are.
    """
    first = tables.files[0]
    opened = [_open(path) for path in tables.files]
    schema = opened[0].schema_arrow
    features = _features(schema, first)
    for path, file in zip(tables.files[1:], opened[1:], strict=True):
        if not file.schema_arrow.equals(schema) or _features(file.schema_arrow, path) != features:
            raise DataError(f"{path.name} has other columns than {first.name}.", hint="Name the files of one set.")
    image, label = _columns(schema, features, first)
    extra = [name for name in (SOFT, PROMPTS) if name in schema.names]
    if not 0 < (count := sum(file.metadata.num_rows for file in opened)) <= MOST_IMAGES:
        raise DataError(f"{first.name} has {count:,} rows; a distilled set has 1 … {MOST_IMAGES:,} images.")
    collected = _Pictures(dataset.channels, first, count)
    labels: list[Any] = []
    more: dict[str, list[Any]] = {name: [] for name in extra}
    for path, file in zip(tables.files, opened, strict=True):
        collected.file = path
        for batch in _batches(file, path, [image, label, *extra]):
            collected.add(batch[image])
            labels += batch[label]
            for name in extra:
                more[name] += [_floats(batch[name], path)] if name == SOFT else batch[name]
    pixels = collected.array()
    names = _names(labels, features.get(label), tables.class_names, first)
    if isinstance(labels[0], str):
        number = {name: place for place, name in enumerate(names)}
        labels = [number[one] for one in labels]
    soft = tensors.read_labels(_joined(more[SOFT], first), first, kind)[1] if SOFT in more else None
    prompts = more.get(PROMPTS)
    if prompts and not all(isinstance(text, str) for text in prompts):
        raise DataError(f"{first.name} has a {PROMPTS} that is no text.")
    collected.tell(warn)
    return RawSet(
        "parquet",
        pixels,
        np.asarray(labels, np.int64),
        tables.files,
        soft_labels=soft,
        as_pictures=collected.encoded,
        class_names=names,
        prompts=None if prompts is None else tuple(prompts),
    )


def _open(path: Path) -> Any:
    """Open a file and look at its own account of itself."""
    import pyarrow.parquet as pq

    check_file(path)
    limits = {"thrift_string_size_limit": 2**26, "thrift_container_size_limit": 10**6}
    try:
        file = pq.ParquetFile(path, memory_map=False, **limits)
        # What a group says of its columns one by one ends the process where it is damaged.
        size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups))
    except Exception as error:  # what a damaged or forged file makes of the reader is not to be foreseen
        raise _unreadable(path, error) from error
    if size > LARGE and size > EXPANDS * path.stat().st_size:
        raise DataError(f"{path.name} would unpack to {size / 1e9:.1f} GB from {path.stat().st_size / 1e6:.1f} MB.")
    return file


def _batches(file: Any, path: Path, columns: list[str]) -> Any:
    """Yield some rows at a time: column → values."""
    try:
        for batch in file.iter_batches(batch_size=ROWS, columns=columns, use_threads=False):
            yield batch.to_pydict()
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = one_line(first_line(error))[:160]
    return DataError(f"{path.name} is no readable parquet file: {reason}", hint="Copy it again; it may be cut short.")


def _features(schema: Any, path: Path) -> dict[str, Any]:
    """Return what the hub's libraries wrote of the columns."""
    text = (schema.metadata or {}).get(METADATA)
    if text is None:
        return {}
    try:
        features = json.loads(text)["info"]["features"]
        return {name: about for name, about in features.items() if isinstance(about, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path.name} has metadata of the hub that is damaged: {first_line(error)}.") from error


def _columns(schema: Any, features: dict[str, Any], path: Path) -> tuple[str, str]:
    """Return the columns of images and labels; which they are is never guessed.

    Raises:
        DataError: there is none, or there are several.
    """
    twice = {name for name in schema.names if schema.names.count(name) > 1}
    if twice:
        raise DataError(f"{path.name} has two columns {min(twice)!r}.")
    chosen = []
    for what, kind, usual in (("images", "Image", IMAGES), ("labels", "ClassLabel", LABELS)):
        known = [name for name in schema.names if features.get(name, {}).get("_type") == kind]
        found = known or [name for name in usual if name in schema.names]
        if len(found) != 1:
            columns = ", ".join(map(repr, schema.names[:20]))
            raise DataError(
                f"{path.name} has {len(found) or 'no'} columns of {what}; its columns are {columns}.",
                hint=f"Call the column of {what} {usual[0]!r}.",
            )
        chosen += found
    return chosen[0], chosen[1]


def _names(labels: Sequence[Any], feature: Any, stated: tuple[str, ...], path: Path) -> tuple[str, ...]:
    """Return the class names in the order of the label numbers; none where nothing states them.

    Raises:
        DataError: labels that are neither numbers nor text, or names that contradict each other.
    """
    if all(isinstance(label, str) for label in labels):
        return tuple(sorted(set(labels)))
    if not all(isinstance(label, int) and not isinstance(label, bool) for label in labels):
        kinds = sorted({type(label).__name__ for label in labels})
        raise DataError(f"{path.name} has labels of type {', '.join(kinds)} instead of numbers or names.")
    if max(map(abs, labels)) > 2**31:
        raise DataError(f"{path.name} has a label number {max(labels, key=abs)}.")
    names = card.class_names({"names": feature["names"]}, path.name) if feature and feature.get("names") else ()
    if names and stated and names != stated:
        raise DataError(
            f"{path.name} and its card name the classes differently.", hint="Which is right only its author can tell."
        )
    names = names or stated
    if len(set(names)) != len(names):
        raise DataError(f"{path.name} names two classes alike.")
    return names


class _Pictures:
    """Images as they come, all of one size."""

    def __init__(self, channels: int, file: Path, count: int) -> None:
        self._channels, self.file, self._count = channels, file, count
        self._images: NDArray[Any] = np.empty(0)
        self._read = self._grey = 0
        self.encoded = False

    def add(self, values: Sequence[Any]) -> None:
        """Decode some.

        Raises:
            DataError: one is not there, is no picture, or has another size than those before.
        """
        for value in values:
            image = self._decode(value, f"Image {self._read} of {self.file.name}")
            if not self._read:
                if (need := self._count * image.nbytes) > (most := memory()):
                    raise DataError(
                        f"{self.file.name} needs {need / 1e9:.1f} GB of memory; this machine has {most / 1e9:.1f} GB."
                    )
                self._images = np.empty((self._count, *image.shape), image.dtype)
            if image.shape != self._images.shape[1:]:
                one, other = (f"{shape[1]}×{shape[0]}" for shape in (self._images.shape[1:], image.shape))
                raise DataError(
                    f"{self.file.name} has images of {one} and of {other} pixels (image {self._read}).",
                    hint="A distilled set has images of one size, which is kept: scale them yourself.",
                )
            self._images[self._read] = image  # never more than the files state: their reader stops there
            self._read += 1

    def _decode(self, value: Any, what: str) -> NDArray[Any]:
        from PIL import Image as pil

        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path"):
                raise DataError(f"{what} names a file in place of a picture.", hint="Embed the pictures.")
            value = value.get("bytes")
        if isinstance(value, list):
            return self._numbers(value, what)
        if not isinstance(value, bytes) or not value:
            raise DataError(f"{what} is missing.")
        self.encoded = True
        if len(value) > MOST_BYTES:
            raise DataError(f"{what} has {len(value) / 1e6:.0f} MB, which is no picture of a distilled set.")
        try:
            with pil.open(io.BytesIO(value), formats=PICTURES) as image:
                width, height = image.size
                if width != height or width > ImageSource.LARGEST_SIDE:
                    raise DataError(
                        f"{what} has {width}×{height} pixels instead of square ones up to {ImageSource.LARGEST_SIDE}.",
                        hint="Crop or scale them yourself.",
                    )
                if lost := trees.lost(image, self._channels):
                    raise DataError(f"{what} {lost}.")
                self._grey += image.mode in trees.GREY
                return fit(image, width, self._channels)
        except DataError:
            raise
        except Exception as error:  # decoders raise whatever damaged bytes lead them into
            raise DataError(f"{what} cannot be read: {one_line(first_line(error))}") from error

    def _numbers(self, value: list[Any], what: str) -> NDArray[Any]:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise DataError(f"{what} is no array of numbers: {first_line(error)}") from error
        if array.ndim != 3 or array.dtype.kind not in "iuf" or max(array.shape) > ImageSource.LARGEST_SIDE:
            raise DataError(f"{what} is {array.dtype} {list(array.shape)} instead of numbers of one picture.")
        whole = array.dtype.kind in "iu"
        if whole and (array.min() < 0 or array.max() > 255):
            raise DataError(f"{what} has whole numbers from {array.min()} to {array.max()}, not from 0 to 255.")
        return array.astype(np.uint8 if whole else np.float32)

    def tell(self, warn: Callable[[str], None]) -> None:
        """Tell of what may not be meant."""
        if self._channels == 3 and 0 < self._grey < self._read:
            warn(f"{self._grey} of {self._read} pictures are grey; their three channels will be equal.")

    def array(self) -> NDArray[Any]:
        """Return all images: uint8 or float32 [N, S, S, C]."""
        if self._read != self._count:
            raise DataError(f"{self.file.name} has {self._read:,} rows of the {self._count:,} that it states.")
        return self._images if self.encoded else tensors.channels_last(self._images, self._channels, self.file)


def memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _floats(rows: list[Any], path: Path) -> NDArray[np.float32]:
    try:
        return np.asarray(rows, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path.name} has a {SOFT} that is no row of numbers: {first_line(error)}") from error


def _joined(parts: list[NDArray[np.float32]], path: Path) -> NDArray[np.float32]:
    if len({part.shape[1:] for part in parts}) != 1:
        raise DataError(f"{path.name} has rows of {SOFT} of several lengths.")
    return np.concatenate(parts)


def pictures(files: Sequence[Path]) -> Iterator[bytes]:
    """Yield the encoded pictures of files that `ddbench push` wrote, in order.

    Raises:
        DataError: no such files.
    """
    for path in files:
        file = _open(path)
        if IMAGES[0] not in file.schema_arrow.names:
            raise DataError(f"{path.name} has no column {IMAGES[0]!r}.")
        for batch in _batches(file, path, [IMAGES[0]]):
            for value in batch[IMAGES[0]]:
                data = value.get("bytes") if isinstance(value, dict) else None
                if not data or len(data) > MOST_BYTES:
                    raise DataError(f"{path.name} has a row without a picture.")
                yield data
