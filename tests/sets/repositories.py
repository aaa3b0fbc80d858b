"""Repositories as their authors lay them out, written by the tests: parquet, archives, class folders, tensors."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
from PIL import Image

#: What stands for ten published classes: numbers as names, which sort otherwise ('1', '10', '2', …).
NUMBERS = tuple(str(number) for number in range(1, 11))
SIDE = 8


def images(count=20, side=SIDE, channels=1):
    """Images that tell their number: uint8 [N, S, S, C]."""
    made = np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)
    made[:, 0, 0] = np.arange(count)[:, None]
    return made


def encoded(image, kind="PNG"):
    data = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(data, kind)
    return data.getvalue()


def table(pictures, labels, *, names=None, label="label", image="image", raw=False, **more):
    """Return rows as the hub's libraries write them: encoded pictures, labels, class names in the metadata."""
    import pyarrow as pa

    values = [encoded(one) if isinstance(one, np.ndarray) else one for one in pictures]
    if raw:
        pictures = pa.array(values, pa.binary())
    else:
        values = [one if isinstance(one, dict) else {"bytes": one, "path": f"{n}.png"} for n, one in enumerate(values)]
        pictures = pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    rows = pa.table(
        {image: pictures, label: pa.array(labels), **{name: pa.array(value) for name, value in more.items()}}
    )
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        rows = rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return rows


def parquet(path, *rows, **how):
    """Write rows, or a table, to a file."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(*rows, **how) if len(rows) > 1 else rows[0], path)
    return path


def archive(path, entries, compression=zipfile.ZIP_STORED):
    """Write a zip archive of (name or ZipInfo, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, data in entries:
            packed.writestr(name, data)
    return path


def tree(folder, pictures, places):
    """Write pictures at places below a folder."""
    for image, place in zip(pictures, places, strict=True):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(encoded(image))
    return folder
