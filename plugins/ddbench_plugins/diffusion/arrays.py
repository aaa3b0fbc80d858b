"""Arrays in the files of a step."""

from __future__ import annotations

import io
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import DataError, write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file so that it is there whole or not at all."""
    if array.dtype.hasobject:
        raise DataError(f"{path.name} would hold Python objects.")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def write_rows(path: Path, count: int, batches: Iterable[NDArray[Any]]) -> None:
    """Write a .npy file of ``count`` rows, of which only one batch is in memory; whole or not at all."""

    def parts() -> Iterator[bytes]:
        written = 0
        for batch in batches:
            if not written:
                header = io.BytesIO()
                about = {"descr": np.lib.format.dtype_to_descr(batch.dtype), "fortran_order": False}
                np.lib.format.write_array_header_1_0(header, {**about, "shape": (count, *batch.shape[1:])})
                yield header.getvalue()
            written += len(batch)
            yield batch.tobytes()
        if written != count:
            raise DataError(f"{path.name} would have {written} rows instead of {count}.")

    write_atomic(path, parts())


def link(path: Path, other: Path) -> None:
    """Let a file of a finished step be one of another step too, without a copy where the file system can do that."""
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)
