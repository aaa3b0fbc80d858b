"""A publication written as a repository: parquet files for ``load_dataset``, and the sets themselves beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddbench.files.writing import explained, write_atomic
from ddbench.sets import card
from ddbench.sets import folder as disk
from ddbench.sets.folder import LoadedSet
from ddbench.sets.pushing import croissant, dataset_card
from ddbench.sets.pushing.publication import RECORDS, Publication, features

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

#: Bytes of pictures in one parquet file; the hub shows files below 500 MB.
SHARD = 400 * 2**20


def write(publication: Publication, folder: Path) -> None:
    """Write the repository into an empty folder."""
    with explained(folder):
        for config, one in publication.sets.items():
            target = folder / config
            target.mkdir(parents=True)
            for name in disk.OWN:
                if (one.path / name).is_file():
                    shutil.copyfile(one.path / name, target / name)
            _write_parquet(publication, one, target)
            for record in publication.records:
                if record.distilled.digest == one.about["digest"]:
                    write_atomic(target / RECORDS / record.relative_path().name, record.dump())
    write_atomic(
        folder / croissant.FILE, json.dumps(croissant.metadata(publication), indent=1, ensure_ascii=False) + "\n"
    )
    write_atomic(folder / card.CARD, dataset_card.text(publication))


def _write_parquet(publication: Publication, one: LoadedSet, folder: Path) -> None:
    import pyarrow.parquet as pq

    parts = _parts(one)
    for number, rows in enumerate(parts):
        name = f"{card.TRAIN}-{number:05d}-of-{len(parts):05d}.parquet"
        table = _table(publication, one, rows)
        pq.write_table(table, folder / name, compression="none" if "image" in table.column_names else "zstd")


def _parts(one: LoadedSet) -> list[range]:
    """Return the rows of each file, so that none is too large."""
    parts, start, size = [], 0, 0
    files = disk.image_files(one.path)
    for row in range(len(one.labels)):
        more = (one.path / files[row]).stat().st_size if files else one.images[row].nbytes
        if size and size + more > SHARD:
            parts.append(range(start, row))
            start, size = row, 0
        size += more
    return [*parts, range(start, len(one.labels))]


def _table(publication: Publication, one: LoadedSet, rows: range) -> pyarrow.Table:
    """Return some rows with the metadata by which the library ``datasets`` knows what they are."""
    import pyarrow as pa

    part = slice(rows.start, rows.stop)
    columns: dict[str, pa.Array] = {"label": pa.array(one.labels[part], pa.int64())}
    if files := disk.image_files(one.path)[part]:
        encoded = [{"bytes": (one.path / file).read_bytes(), "path": Path(file).name} for file in files]
        columns["image"] = pa.array(encoded, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    else:
        columns["pixels"] = _lists(one.images[part])
    if one.prompts is not None:
        columns["prompt"] = pa.array(one.prompts[part], pa.string())
    if one.distilled.soft_labels is not None:
        columns["soft_label"] = _lists(one.distilled.soft_labels[part])
    described = features(publication, one)
    table = pa.table({name: columns[name] for name in described})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": described}})})


def _lists(array: NDArray[np.float32]) -> pyarrow.Array:
    """Return an array as lists in lists, one per row."""
    import pyarrow as pa

    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    for axis in range(array.ndim - 1, 0, -1):
        count = int(np.prod(array.shape[:axis]))
        values = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * array.shape[axis], values)
    return values
