"""Contact sheets: what distilled sets look like, class by class, methods side by side, images with their prompts."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageDraw

    from ddbench.plugin.contracts import DistilledSet
    from ddbench.plugin.datasets import Dataset

#: Tiny images are enlarged by a whole factor to at least this side, large ones reduced to at most the other (pixels).
SMALLEST, LARGEST = 48, 128
GAP, MARGIN = 2, 12
GROUP_GAP = 14
#: Titles wider than their images, and than this, go on in a further line.
TITLE = 150
FONT = 13
INK, SOFT_INK, PAPER = (20, 20, 20), (110, 110, 110), (255, 255, 255)

Statistics = tuple[Sequence[float], Sequence[float]]


def preview(distilled: DistilledSet, dataset: Dataset) -> bytes:
    """Return a contact sheet of a set as PNG; nothing for one that is the whole training set."""
    if distilled.whole:
        return b""
    written = io.BytesIO()
    contact_sheet([distilled], dataset.class_names).save(written, "PNG")
    return written.getvalue()


def contact_sheet(
    sets: Sequence[DistilledSet],
    class_names: Sequence[str],
    titles: Sequence[str] | None = None,
    *,
    per_class: int = 10,
    max_classes: int = 40,
    statistics: Statistics | None = None,
) -> Image.Image:
    """Draw one row per class with the images of every set, the sets side by side.

    Args:
        sets: distilled sets of the same classes.
        class_names: in label order.
        titles: one heading per set, e.g. its method.
        per_class: images of a class to show at most (the first ones).
        max_classes: rows at most, spread evenly over the classes; a line below states it.
        statistics: mean and std of the data set, to show space ``normalized`` in true colours.

    Raises:
        UsageError: no set, or not one title per set.
    """
    if not sets:
        raise UsageError("A contact sheet needs at least one distilled set.")
    if titles is not None and len(titles) != len(sets):
        raise UsageError(f"{len(titles)} titles were given for {len(sets)} sets.")
    shown = spread(len(class_names), max_classes)
    groups = [_Group.of(item, shown, per_class, statistics) for item in sets]
    canvas = _Canvas()
    label_width = max(canvas.width(_short(class_names[label])) for label in shown) + MARGIN
    row = max(group.side for group in groups) + GAP
    left = MARGIN + label_width
    note = f"{len(shown)} of {len(class_names)} classes" if len(shown) < len(class_names) else ""
    own = [group.columns * (group.side + GAP) - GAP for group in groups]
    headings = [
        canvas.wrap(title, max(TITLE, width)) for title, width in zip(titles or [""] * len(own), own, strict=True)
    ]
    widths = [max(width, *map(canvas.width, lines), 0) for width, lines in zip(own, headings, strict=True)]
    heading = canvas.line * max(map(len, headings)) + 6 if titles else 0
    right = sum(widths) + GROUP_GAP * (len(widths) - 1)
    height = 2 * MARGIN + heading + len(shown) * row - GAP + (canvas.line if note else 0)
    image, draw = canvas.new(left + right + MARGIN, height)
    top = MARGIN + heading
    for number, label in enumerate(shown):
        middle = top + number * row + (row - GAP - canvas.line) // 2
        draw.text((MARGIN, middle), _short(class_names[label]), fill=INK, font=canvas.font)
    for index, group in enumerate(groups):
        for number, line in enumerate(headings[index]):
            draw.text((left, MARGIN + number * canvas.line), line, fill=INK, font=canvas.font)
        for number, label in enumerate(shown):
            for column, tile in enumerate(group.tiles[label]):
                image.paste(tile, (left + column * (group.side + GAP), top + number * row))
        left += widths[index] + GROUP_GAP
    if note:
        draw.text((MARGIN, height - MARGIN - canvas.line + 4), note, fill=SOFT_INK, font=canvas.font)
    return image


def prompt_sheet(
    distilled: DistilledSet,
    class_names: Sequence[str],
    *,
    per_class: int = 1,
    max_classes: int = 10,
    text_width: int = 560,
    statistics: Statistics | None = None,
    members: Mapping[int, Sequence[NDArray[np.uint8]]] | None = None,
) -> Image.Image:
    """Draw the images of a text-guided set, each with its class name and the text prototype it was made from.

    Args:
        distilled: a set with ``prompts``.
        class_names: in label order.
        per_class: images of a class to show at most.
        max_classes: classes to show at most, spread evenly.
        text_width: width of the text column in pixels; longer prompts wrap.
        statistics: mean and std of the data set, to show space ``normalized`` in true colours.
        members: by label, uint8 [n, H, W, C] for each of its images in order: what the prototype stands for, drawn
            between the image and its text.

    Raises:
        UsageError: the set has no prompts.
    """
    if distilled.prompts is None:
        raise UsageError(
            "This distilled set has no prompts to show.",
            hint="Only text-guided methods (such as vlcp) keep one text per image; use the ordinary gallery.",
        )
    texts = distilled.prompts
    shown = spread(len(class_names), max_classes)
    group = _Group.of(distilled, shown, per_class, statistics)
    canvas = _Canvas()
    beside = {} if members is None else {label: _strips(members[label], group) for label in shown}
    rows = [
        (tile, beside[label][place] if beside else [], class_names[label], canvas.wrap(texts[index], text_width))
        for label in shown
        for place, (tile, index) in enumerate(zip(group.tiles[label], group.indices[label], strict=True))
    ]
    if not rows:
        raise UsageError("This distilled set holds no images.")
    heights = [max(group.side, (len(lines) + 1) * canvas.line) + 2 * GAP for *_, lines in rows]
    strip_left = MARGIN + group.side + MARGIN
    most = max(len(strip) for _, strip, *_ in rows)
    text_left = strip_left + (most * (group.side + GAP) + MARGIN if most else 0)
    image, draw = canvas.new(text_left + text_width + MARGIN, sum(heights) + 2 * MARGIN)
    top = MARGIN
    for (tile, strip, name, lines), height in zip(rows, heights, strict=True):
        image.paste(tile, (MARGIN, top))
        for column, member in enumerate(strip):
            image.paste(member, (strip_left + column * (group.side + GAP), top))
        draw.text((text_left, top), name, fill=INK, font=canvas.font)
        for number, text in enumerate(lines, 1):
            draw.text((text_left, top + number * canvas.line), text, fill=SOFT_INK, font=canvas.font)
        top += height
    return image


def displayable(distilled: DistilledSet, indices: Sequence[int], statistics: Statistics | None) -> NDArray[np.uint8]:
    """Return the images at ``indices`` as uint8 [n, H, W, C] for looking at; the set itself is not changed.

    What the set has to show is shown. Else ``unit`` is clamped to [0, 1]; ``normalized`` is mapped back with the data
    set's mean and std where they are given; otherwise (and for ``zca``, whose colours mean nothing) the set's 1st to
    99th percentile is stretched to the range.
    """
    images = np.asarray(distilled.images if distilled.shown is None else distilled.shown)[np.asarray(indices, int)]
    if distilled.space == "rgb_uint8" or distilled.shown is not None:
        return np.asarray(images, np.uint8)
    values = images.astype(np.float32)
    if distilled.space == "normalized" and statistics is not None:
        values = values * np.asarray(statistics[1], np.float32) + np.asarray(statistics[0], np.float32)
    elif distilled.space != "unit" and values.size:
        low, high = np.percentile(np.asarray(distilled.images), (1, 99))
        values = (values - low) / max(float(high - low), 1e-8)
    return np.asarray(np.rint(np.clip(values, 0, 1) * 255), np.uint8)


@dataclass(frozen=True)
class _Group:
    """One set's tiles by class, all of one side."""

    side: int
    columns: int
    indices: dict[int, list[int]]
    tiles: dict[int, list[Image.Image]]

    @classmethod
    def of(cls, distilled: DistilledSet, shown: Sequence[int], per_class: int, statistics: Statistics | None) -> _Group:
        indices = {label: np.flatnonzero(distilled.labels == label)[:per_class].tolist() for label in shown}
        height, width = distilled.images.shape[1:3]
        scale = _scale(max(height, width, 1))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        tiles = {
            label: [_tile(pixels, size) for pixels in displayable(distilled, chosen, statistics)]
            for label, chosen in indices.items()
        }
        return cls(max(size), max(1, *(len(chosen) for chosen in indices.values()), 1), indices, tiles)


def _strips(members: Sequence[NDArray[np.uint8]], group: _Group) -> list[list[Image.Image]]:
    return [[_tile(pixels, (group.side, group.side)) for pixels in several] for several in members]


class _Canvas:
    """A white picture and its font."""

    def __init__(self) -> None:
        from PIL import ImageFont

        self.font: Any = ImageFont.load_default(size=FONT)
        self.line = FONT + 5

    def new(self, width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (int(width), int(height)), PAPER)
        return image, ImageDraw.Draw(image)

    def width(self, text: str) -> int:
        return int(self.font.getlength(text)) + 1

    def wrap(self, text: str, width: int) -> list[str]:
        lines: list[str] = []
        for word in text.split():
            if lines and self.width(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return lines


def _tile(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    enlarging = size[0] >= picture.width
    return picture.resize(size, Image.Resampling.NEAREST if enlarging else Image.Resampling.LANCZOS)


def _scale(side: int) -> float:
    if side > LARGEST:
        return LARGEST / side
    return max(1, -(-SMALLEST // side))


def spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` of ``range(count)``, evenly spread."""
    return list(range(count)) if count <= most else [number * count // most for number in range(most)]


def _short(name: str, length: int = 22) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
