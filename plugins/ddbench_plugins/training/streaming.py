"""A test split that does not fit in memory: decoded batch by batch, the next one while the network works."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ddbench import ImageSource


class StreamedImages:
    """Images of a source as uint8 ``[N, C, size, size]``: resized to ``resize``, then centre-cropped to ``size``.

    Has of a tensor what :func:`ddbench_plugins.training.predict.predict` asks for: a length, and ``split``. Each pass
    decodes every image once and holds two batches at a time.
    """

    def __init__(self, source: ImageSource, size: int, resize: int) -> None:
        self.source = source
        self.size = size
        self.resize = resize

    def __len__(self) -> int:
        return len(self.source)

    @property
    def nbytes(self) -> int:
        """What all images would take in memory."""
        return len(self) * self.size**2 * self.source.channels

    def split(self, count: int) -> Iterator[Tensor]:
        """Yield the images in order, ``count`` at a time."""
        starts = range(0, len(self), count)
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._read, 0, count)
            for start in starts:
                batch = coming.result()
                if start + count < len(self):
                    coming = ahead.submit(self._read, start + count, count)
                yield batch

    def tensor(self, count: int = 256) -> Tensor:
        """Return all images in memory."""
        whole = torch.empty((len(self), self.source.channels, self.size, self.size), dtype=torch.uint8)
        for start, batch in zip(range(0, len(self), count), self.split(count), strict=True):
            whole[start : start + len(batch)] = batch
        return whole

    def _read(self, start: int, count: int) -> Tensor:
        images = self.source.batch(range(start, min(start + count, len(self))), self.resize)
        edge = (self.resize - self.size) // 2
        images = images[:, edge : edge + self.size, edge : edge + self.size]
        return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
