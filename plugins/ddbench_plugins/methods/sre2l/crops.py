"""How small a crop may be as the recovery proceeds: SRe2L's constant, or CDA's curriculum (Yin & Shen 2024)."""

from __future__ import annotations

import math
from typing import Literal

SMALLEST = 0.08  # of the image's area, torchvision's default
Curriculum = Literal["cosine", "linear", "step"]


def smallest_area(curriculum: Curriculum, done: float, milestone: float, smallest: float = SMALLEST) -> float:
    """Return the smallest area of a crop, as a fraction of the image.

    Args:
        curriculum: how it falls from the whole image to 8 %; ``step`` stays at the whole image until the milestone.
        done: fraction of the iterations.
        milestone: fraction of the iterations from which on it is the smallest; 0: always, as SRe2L.
        smallest: fraction of the image to which it falls.
    """
    if done >= milestone:
        return smallest
    match curriculum:
        case "cosine":
            left = (1 + math.cos(math.pi * done / milestone)) / 2
        case "linear":
            left = 1 - done / milestone
        case "step":
            left = 1.0
    return smallest + (1 - smallest) * left
