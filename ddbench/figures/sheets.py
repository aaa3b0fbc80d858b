"""Small contact sheets for publishing: one picture and its description per distilled set, kept beside the records.

``registry/images/<first 20 digits of the set's digest>.json`` says which classes and images are shown, with their
prompts, and names the picture (PNG, or WebP where PNG would be too large): tiles without gaps or text, one row per
class. The digest is that of the images, so a sheet serves every record of its set and cannot show another.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, ValidationError

from ddbench.errors import DDBenchError, RecordError
from ddbench.files.reading import read_bytes
from ddbench.files.schemas import Part, first_flaw
from ddbench.files.writing import home, write_atomic

if TYPE_CHECKING:
    from PIL import Image

    from ddbench.plugin.contracts import DistilledSet
    from ddbench.results.schema import Record
    from ddbench.sets.folder import LoadedSet

FOLDER = "images"
FORMAT = 1
#: Larger images are reduced to this side (pixels); classes and images per class at most; bytes aimed at and accepted.
SIDE, CLASSES, PER_CLASS = 96, 10, 10
TARGET_BYTES, MOST_BYTES = 96_000, 400_000
MOST_PROMPT = 600
SUFFIXES = {"PNG": ".png", "WEBP": ".webp"}


class ShownClass(Part):
    """A row of the picture: a class, how many of its images are shown, and their prompts where they have any."""

    label: int = Field(ge=0)
    name: str
    count: int = Field(ge=0)
    prompts: tuple[str, ...] = ()


class About(Part):
    """What a sheet shows.

    Attributes:
        digest: of the distilled set.
        image: the picture's file name.
        tile: width and height of a tile, in pixels.
        classes: the rows, from the top.
        num_classes: of the data set; not all of them need be shown.
    """

    format: int = FORMAT
    digest: str
    image: str
    tile: tuple[int, int]
    classes: tuple[ShownClass, ...]
    num_classes: int


@dataclass(frozen=True)
class Sheet:
    """A contact sheet: its description, and the picture as the bytes of a PNG or WebP file."""

    about: About
    image: bytes

    @property
    def mime(self) -> str:
        """``image/png`` or ``image/webp``."""
        return "image/webp" if self.about.image.endswith(".webp") else "image/png"


def make(loaded: LoadedSet) -> Sheet:
    """Draw the sheet of a distilled set."""
    from ddbench.figures.gallery import spread

    distilled = loaded.distilled
    shown = spread(len(loaded.class_names), CLASSES)
    for per_class in (PER_CLASS, PER_CLASS // 2, 2, 1):
        picture, tile, rows = _draw(distilled, shown, per_class)
        form, data = _encode(picture)
        if len(data) <= TARGET_BYTES or per_class == 1:
            break
    prompts = distilled.prompts
    classes = tuple(
        ShownClass(
            label=label,
            name=loaded.class_names[label],
            count=len(indices),
            prompts=() if prompts is None else tuple(_shorten(prompts[index]) for index in indices),
        )
        for label, indices in rows
    )
    digest = str(loaded.about["digest"])
    image = digest[:20] + SUFFIXES[form]
    return Sheet(
        About(digest=digest, image=image, tile=tile, classes=classes, num_classes=len(loaded.class_names)), data
    )


def keep(sheet: Sheet, registry: Path) -> Path:
    """Write a sheet below ``registry/images`` and return the path of its description."""
    folder = registry / FOLDER
    write_atomic(folder / sheet.about.image, sheet.image)
    path = folder / f"{sheet.about.digest[:20]}.json"
    write_atomic(path, sheet.about.model_dump_json(indent=1) + "\n")
    return path


def kept(registry: Path, digest: str) -> Sheet | None:
    """Read the sheet of a distilled set from a registry; None where there is none.

    Raises:
        RecordError: the files are not what :func:`keep` writes.
    """
    path = registry / FOLDER / f"{digest[:20]}.json"
    if not os.path.lexists(path):
        return None
    try:
        about = About.model_validate_json(read_bytes(path, RecordError), strict=True)
        data = read_bytes(path.parent / Path(about.image).name, RecordError)
    except ValidationError as error:
        raise RecordError(f"{FOLDER}/{path.name} is no contact sheet: {first_flaw(error)}") from error
    except RecordError as error:
        raise RecordError(f"{FOLDER}/{path.name} is no contact sheet: {error}") from error
    if about.digest != digest or about.format != FORMAT:
        raise RecordError(f"{FOLDER}/{path.name} is the sheet of another distilled set or format.")
    if wrong := _flaw(about, data):
        raise RecordError(f"{FOLDER}/{about.image} {wrong}.")
    return Sheet(about, data)


def find(record: Record, registry: Path) -> Sheet | None:
    """Return the sheet of a record's distilled set: the kept one, or one drawn from the images on this machine.

    Raises:
        RecordError: the kept files, or the images, are damaged.
    """
    if record.distilled.whole:
        return None
    if sheet := kept(registry, record.distilled.digest):
        return sheet
    loaded = stored(record)
    return None if loaded is None else make(loaded)


def stored(record: Record) -> LoadedSet | None:
    """Return the distilled set of a record from this machine's store, if it is there.

    It is the one with the record's images, whatever its key: keys change with what they are made of, images do not.

    Raises:
        RecordError: its files are damaged.
    """
    from ddbench.sets import folder as disk

    made = home() / "distilled"
    if record.distilled.whole or not made.is_dir():
        return None
    own = made / record.distilled.key
    if (own / disk.FILE).exists() and (loaded := disk.load(own)).about["digest"] == record.distilled.digest:
        return loaded
    folder = _by_digest(made, made.stat().st_mtime_ns).get(record.distilled.digest)
    return disk.load(folder) if folder else None


@functools.lru_cache(maxsize=1)
def _by_digest(made: Path, changed: int) -> dict[str, Path]:
    """Return the folders of distilled sets by the digest they state; ``changed`` tells when to look again."""
    from ddbench.sets.folder import FILE

    folders: dict[str, Path] = {}
    for path in sorted(made.glob(f"*/{FILE}")):
        # A damaged one is none.
        with contextlib.suppress(RecordError, ValueError, LookupError, TypeError, RecursionError):
            folders[json.loads(read_bytes(path, RecordError))["digest"]] = path.parent
    return folders


def collect(records: Iterable[Record], registry: Path) -> tuple[dict[str, Sheet], list[str]]:
    """Return the sheets of these records by digest, and what was wrong with the others."""
    sheets: dict[str, Sheet] = {}
    problems: list[str] = []
    first = {record.distilled.digest: record for record in reversed(list(records))}
    for digest, record in reversed(first.items()):
        try:
            if sheet := find(record, registry):
                sheets[digest] = sheet
        except DDBenchError as error:
            problems.append(str(error))
    return sheets, problems


def as_set(sheet: Sheet) -> tuple[DistilledSet, tuple[str, ...]]:
    """Return what a sheet shows as a small distilled set with its class names, to draw it beside others."""
    from PIL import Image

    from ddbench.plugin.contracts import DistilledSet

    width, height = sheet.about.tile
    with Image.open(io.BytesIO(sheet.image)) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.uint8)
    tiles, labels = [], []
    prompts: list[str] = []
    for row, shown in enumerate(sheet.about.classes):
        strip = pixels[row * height : (row + 1) * height]
        tiles += [strip[:, column * width : (column + 1) * width] for column in range(shown.count)]
        labels += [row] * shown.count
        prompts += shown.prompts
    texts = tuple(prompts) if prompts and len(prompts) == len(tiles) else None
    names = tuple(shown.name for shown in sheet.about.classes)
    return DistilledSet(np.stack(tiles), np.asarray(labels, np.int64), prompts=texts), names


def _draw(
    distilled: DistilledSet, shown: list[int], per_class: int
) -> tuple[Image.Image, tuple[int, int], list[tuple[int, list[int]]]]:
    from PIL import Image

    from ddbench.figures.gallery import displayable

    rows = [(label, np.flatnonzero(distilled.labels == label)[:per_class].tolist()) for label in shown]
    height, width = distilled.images.shape[1:3]
    scale = min(1, SIDE / max(height, width))
    tile = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = distilled.images.shape[-1] == 1
    columns = max(1, *(len(indices) for _, indices in rows), 1)
    picture = Image.new("L" if grey else "RGB", (columns * tile[0], len(rows) * tile[1]))
    for row, (_, indices) in enumerate(rows):
        for column, pixels in enumerate(displayable(distilled, indices, None)):
            image = Image.fromarray(pixels[..., 0] if grey else pixels)
            if image.size != tile:
                image = image.resize(tile, Image.Resampling.LANCZOS)
            picture.paste(image, (column * tile[0], row * tile[1]))
    return picture, tile, rows


def _encode(picture: Image.Image) -> tuple[str, bytes]:
    def encoded(form: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        return buffer.getvalue()

    data = encoded("PNG", optimize=True)
    if len(data) <= TARGET_BYTES:
        return "PNG", data
    for quality in (85, 70, 55):
        data = encoded("WEBP", quality=quality, method=4)
        if len(data) <= TARGET_BYTES:
            break
    return "WEBP", data


def _flaw(about: About, data: bytes) -> str:
    """Return what is wrong with a kept picture, or ""."""
    from PIL import Image

    if len(data) > MOST_BYTES:
        return f"has {len(data):,} bytes, more than {MOST_BYTES:,}"
    columns = max((shown.count for shown in about.classes), default=0)
    wanted = (max(1, columns) * about.tile[0], len(about.classes) * about.tile[1])
    try:
        with Image.open(io.BytesIO(data), formats=list(SUFFIXES)) as picture:
            form, size = str(picture.format), picture.size
            if not about.image.endswith(SUFFIXES[form]):
                return f"is {form}, which its name denies"
            if size != wanted:
                return f"is {size[0]}×{size[1]} pixels, not {wanted[0]}×{wanted[1]}"
            picture.load()
    except Exception:  # a damaged picture makes Pillow raise nearly anything
        return "is no PNG or WebP picture, or a damaged one"
    return ""


def _shorten(text: str) -> str:
    return text if len(text) <= MOST_PROMPT else text[: MOST_PROMPT - 1] + "…"
