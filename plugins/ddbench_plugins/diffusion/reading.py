"""A split's images, read when they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ddbench import ImageSource


class Reading:
    """Images of a split at one size, all or those at chosen positions, read by batches: they need not fit in memory.

    Attributes:
        rows: positions in the split.
        size: side in pixels.
    """

    def __init__(self, images: ImageSource, size: int, rows: Sequence[int] | NDArray[np.int64] | None = None) -> None:
        self.images, self.size = images, size
        self.rows = range(len(images)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, where: slice | Sequence[int]) -> NDArray[np.uint8]:
        """Return the images of a slice, or those whose numbers are given: uint8 [n, size, size, C]."""
        rows = self.rows[where] if isinstance(where, slice) else [self.rows[index] for index in where]
        return self.images.batch([int(row) for row in rows], self.size)
