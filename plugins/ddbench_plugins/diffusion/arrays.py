"""Arrays in the files of a step."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import DataError, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file so that it is there whole or not at all."""
    if array.dtype.hasobject:
        raise DataError(f"{path.name} would hold Python objects.")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getvalue())
