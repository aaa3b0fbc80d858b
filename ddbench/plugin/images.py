"""Where a split's images come from: arrays in memory or files on disk, always handed out as uint8 [N, S, S, C]."""

from __future__ import annotations

import mmap
import os
import stat
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from ddbench.errors import DataError
from ddbench.files.reading import why

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

Progress = Callable[[int, int], None]
Kind = TypeVar("Kind", bound=np.generic)

#: Bytes of arrays that are copied into memory which cannot be written to.
COPIED = 2**30


class ImageSource(ABC):
    """Images of one split, in a fixed order.

    Attributes:
        LARGEST_SIDE: pixels that a side can be asked to have; networks see far fewer, and a slip of the keyboard would
            run for hours.
        channels: 1 (grey) or 3 (RGB).
    """

    LARGEST_SIDE: ClassVar[int] = 2048
    channels: int

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def load(self, index: int, size: int) -> NDArray[np.uint8]:
        """Return image ``index`` as uint8 [size, size, C].

        Shorter side resized to ``size`` (bilinear, antialiased), then centre-cropped, as every ImageNet protocol does.
        """

    def batch(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """Return the images at ``indices`` as uint8 [n, size, size, C]."""
        if not len(indices):
            return np.empty((0, size, size, self.channels), np.uint8)
        with ThreadPoolExecutor(4) as pool:
            return np.stack(list(pool.map(lambda i: self.load(int(i), size), indices)))

    def checksum(self) -> int:
        """Return a checksum of what is held in memory; 0 where nothing is."""
        return 0

    def prepare(self, size: int) -> int:
        """Do once what makes later reading at ``size`` fast, and return the bytes that it takes on disk (0: nothing).

        Sources of many files decode them all and keep the result.
        """
        return 0

    def batches(self, size: int, count: int = 256, progress: Progress | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield all images in order, ``count`` at a time, so that memory does not grow with the split."""
        for start in range(0, len(self), count):
            chunk = self.batch(range(start, min(start + count, len(self))), size)
            yield chunk
            if progress:
                progress(start + len(chunk), len(self))


class ArrayImages(ImageSource):
    """Images held in memory as one uint8 array [N, H, W, C]."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3):
            raise DataError(f"Images must be uint8 [N, H, W, 1 or 3], not {array.dtype} {list(array.shape)}.")
        self.array = unchangeable(array)
        self.channels = int(array.shape[-1])

    def __len__(self) -> int:
        return len(self.array)

    def __getstate__(self) -> dict[str, Any]:
        """Let another process map the file again, where the array is a whole one that is mapped."""
        array = self.array
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.flags.c_contiguous:
            return {**self.__dict__, "array": (str(array.filename), np.uint8, "r", array.offset, array.shape)}
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        array = state["array"]
        mine = np.memmap(*array) if isinstance(array, tuple) else unchangeable(array)
        self.__dict__.update(state, array=mine)

    def checksum(self) -> int:
        """Return a checksum of the array; of one that is mapped from a file, which cannot be written to, none."""
        return 0 if isinstance(self.array, np.memmap) else zlib.crc32(np.ascontiguousarray(self.array).data)

    def load(self, index: int, size: int) -> NDArray[np.uint8]:
        """Return image ``index`` at ``size``; no copy is made when it has that size already."""
        image: NDArray[np.uint8] = self.array[index]
        if image.shape[:2] == (size, size):
            return image
        return fit(to_pil(image), size, self.channels)

    def batch(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """Return the images at ``indices``; a plain slice when they have the size already."""
        if self.array.shape[1:3] == (size, size):
            chosen: NDArray[np.uint8] = self.array[np.asarray(indices, int)]
            return chosen
        return super().batch(indices, size)


class PartOfImages(ImageSource):
    """Consecutive images of another source."""

    def __init__(self, whole: ImageSource, rows: range) -> None:
        self.whole, self.rows, self.channels = whole, rows, whole.channels

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, index: int, size: int) -> NDArray[np.uint8]:
        """Return image ``index`` of the part."""
        return self.whole.load(self.rows[index], size)

    def batch(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """Return images of the part."""
        return self.whole.batch([self.rows[index] for index in indices], size)


class FileImages(ImageSource):
    """Images decoded from files on demand (JPEG, PNG, …); paths may be any sequence, as a million take much memory."""

    def __init__(self, paths: Sequence[Path | str], channels: int = 3) -> None:
        self.paths = paths
        self.channels = channels

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int, size: int) -> NDArray[np.uint8]:
        """Decode, resize and crop one file.

        Raises:
            DataError: the file is empty or corrupt; it is named.
        """
        from PIL import Image

        path = Path(self.paths[index])
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (a million of them); a pipe would wait for ever
                raise OSError("it is no ordinary file")
            with Image.open(path) as image:
                # JPEG can decode at a fraction of its size, which is most of the work for small targets.
                image.draft("RGB" if self.channels == 3 else "L", (2 * size, 2 * size))
                return fit(image, size, self.channels)
        except Exception as error:  # decoders raise whatever damaged bytes lead them into
            raise DataError(
                f"Image {path.parent.name}/{path.name} cannot be read: {why(path, error)}",
                hint="Replace or remove this file, then run the command again.",
            ) from error


def unchangeable(array: NDArray[Kind]) -> NDArray[Kind]:
    """Return an array that nothing in NumPy can write to; the array itself where it already is of that kind."""
    if not array.flags.writeable:
        return array
    if array.size and array.nbytes <= COPIED:
        return np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
    view = array.view()
    view.flags.writeable = False
    return view


def fit(image: Image, size: int, channels: int) -> NDArray[np.uint8]:
    """Resize the shorter side to ``size`` (bilinear, antialiased) and centre-crop: uint8 [size, size, channels].

    Raises:
        ValueError: values of more than 8 bits, which PIL would clip to 0 or 255.
    """
    from PIL import Image as pil

    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its values have more than 8 bits (mode {image.mode}); save it with 8 bits per channel")
    image = image.convert("RGB" if channels == 3 else "L")
    width, height = image.size
    if min(width, height) != size:
        scale = size / min(width, height)
        image = image.resize(
            (max(size, round(width * scale)), max(size, round(height * scale))), pil.Resampling.BILINEAR
        )
        width, height = image.size
    left, top = (width - size) // 2, (height - size) // 2
    array = np.asarray(image.crop((left, top, left + size, top + size)), np.uint8)
    return array.reshape(size, size, channels)


def to_pil(image: NDArray[np.uint8]) -> Image:
    """Turn uint8 [H, W, 1 or 3] into a PIL image."""
    from PIL import Image as pil

    return pil.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
