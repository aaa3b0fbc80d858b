"""What the heads of image files say: colour or grey, sides, and what decoding leaves out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ddbench
from ddbench_plugins.datasets.listing import Files
from ddbench_plugins.datasets.trees import digest_of_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Pillow's modes of pictures without colour.
GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
#: What a user should know of pictures whose content is more than what is read.
TOLD = {
    "alpha": "{count} image(s) have transparency, which is left out: the stored colours count; the first is {first}.",
    "turned": "{count} image(s) are marked as turned (EXIF), but are taken as they are stored, as torchvision and timm"
    " do; the first is {first}.",
    "frames": "of {count} image(s) of several frames the first frame is taken; the first is {first}.",
}
ORIENTATION = 0x0112


def look_at(ctx: ddbench.Context, files: Files, who: str) -> Mapping[str, Any]:
    """Return the modes and up to two different sides of images, and how many have what ``TOLD`` tells, with the first.

    Unreadable files are left to the decoder, which names them all.
    """
    listing = digest_of_list([file.id, file.size, file.changed] for file in files)
    return image_heads(ctx, Listed(listing, files, who)).info


@dataclass(frozen=True)
class Listed:
    """Files, as the digest of their names, sizes and times of change."""

    digest: str
    files: Files = field(compare=False)
    who: str = field(compare=False)


@ddbench.step(data=False)
def image_heads(ctx: ddbench.Context, out: ddbench.Step, listed: Listed) -> None:
    """Read the heads of all files."""
    modes: dict[str, None] = {}
    sides: dict[tuple[int, int], None] = {}
    told = dict.fromkeys(TOLD, (0, ""))
    for index, head in enumerate(_heads(ctx, listed.files, listed.who)):
        if head is None:
            continue
        mode, side, marks = head
        modes[mode] = None
        if len(sides) < 2:
            sides[side] = None
        for what in marks:
            count, first = told[what]
            told[what] = count + 1, first or listed.files.ids[index]
    out.info.update(modes=list(modes), sides=[list(side) for side in sides], **told)


def _heads(ctx: ddbench.Context, files: Files, who: str) -> Iterator[tuple[str, tuple[int, int], list[str]] | None]:
    with ThreadPoolExecutor(4) as pool, ctx.progress(f"looking at {who}", len(files)) as advance:
        for start in range(0, len(files), 1024):
            stop = min(start + 1024, len(files))
            yield from pool.map(_head, [files[index].place for index in range(start, stop)])
            advance(stop)


def _head(place: str) -> tuple[str, tuple[int, int], list[str]] | None:
    from PIL import Image

    try:
        with Image.open(place) as image:
            marks = {
                "alpha": image.has_transparency_data,
                "turned": "exif" in image.info and image.getexif().get(ORIENTATION, 1) not in (0, 1),
                "frames": getattr(image, "is_animated", False),
            }
            return image.mode, image.size, [what for what, there in marks.items() if there]
    except Exception:  # whatever a damaged head makes a decoder raise
        return None
