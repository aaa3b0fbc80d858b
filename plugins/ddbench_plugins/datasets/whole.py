"""A quick look at the ends of image files, which finds those that were cut off while they were copied."""

from __future__ import annotations

PNG = b"\x89PNG\r\n\x1a\n"
#: Only files that claim one of these formats are judged; the others are left to the decoder.
JUDGED = (".jpeg", ".jpg", ".png")


def looks_whole(place: str, size: int) -> bool:
    """Whether a file begins and ends as a JPEG or PNG does, whatever its name says.

    Some whole files do not (bytes behind the end), so a False only asks for decoding it.
    """
    if not place.lower().endswith(JUDGED):
        return True
    with open(place, "rb") as file:  # noqa: PTH123 (a million of them)
        start = file.read(8)
        file.seek(max(0, size - 64))
        end = file.read()
    if start == PNG:
        return b"IEND" in end
    return start.startswith(b"\xff\xd8") and b"\xff\xd9" in end
