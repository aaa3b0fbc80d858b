"""Measure drawings in grey images (digits, letters, signs): what ink there is, where, and what it encloses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Ink of a pixel, relative to the darkest and lightest of its image, from which it belongs to a stroke.
INK = 0.45


@dataclass(frozen=True)
class Strokes:
    """Measurements of n drawings; lengths are fractions of the image's side, areas of the drawing's bounding box.

    Attributes:
        dark: [n] whether the strokes are darker than their background.
        strength: [n] difference of stroke and background brightness, 0 to 1.
        height, width, centre_x, centre_y: [n] of the bounding box.
        weight: [n] mean stroke width.
        zones: [n, 3, 3] ink density in a square around the drawing, relative to its densest ninth.
        openings: [n, 6] area of the bays that open to the upper left, lower left, upper right, lower right, up, down.
        loops: [n] number of enclosed areas.
        loop_size: [n] their total area.
        loop_y: [n] mean height of them within the drawing (0 upper edge, 1 lower edge; NaN without any).
        slant: [n] lean of the principal axis in degrees, positive to the right; 0 is upright.
        roundness: [n] ratio of the smaller to the larger principal extent.
        mirror: [n] correlation of the drawing with its left-right mirror image.
        turn: [n] correlation with itself turned by 180 degrees.
        crossings: [n, 3] number of strokes met in the upper, middle and lower part, row-wise.
    """

    dark: NDArray[np.bool_]
    strength: NDArray[np.float64]
    height: NDArray[np.float64]
    width: NDArray[np.float64]
    centre_x: NDArray[np.float64]
    centre_y: NDArray[np.float64]
    weight: NDArray[np.float64]
    zones: NDArray[np.float64]
    openings: NDArray[np.float64]
    loops: NDArray[np.int64]
    loop_size: NDArray[np.float64]
    loop_y: NDArray[np.float64]
    slant: NDArray[np.float64]
    roundness: NDArray[np.float64]
    mirror: NDArray[np.float64]
    turn: NDArray[np.float64]
    crossings: NDArray[np.int64]


def measure_strokes(images: NDArray[np.uint8]) -> Strokes:
    """Measure grey images, uint8 [n, S, S]."""
    grey = images.astype(np.float64) / 255
    side = grey.shape[1]
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
    dark = np.median(border, axis=1) > 0.5
    grey = np.where(dark[:, None, None], 1 - grey, grey)
    low, high = grey.min((1, 2)), grey.max((1, 2))
    strength = high - low
    ink = (grey - low[:, None, None]) / np.maximum(strength, 1e-6)[:, None, None]
    mask = ink > INK
    top, bottom = _extent(mask.any(2))
    left, right = _extent(mask.any(1))
    height, width = bottom - top, right - left
    box = np.maximum(height * width, 1)
    loops, loop_area, loop_row = _loops(mask)
    slant, roundness = _axes(ink * mask)
    return Strokes(
        dark=dark,
        strength=strength,
        height=height / side,
        width=width / side,
        centre_x=(left + right) / (2 * side),
        centre_y=(top + bottom) / (2 * side),
        weight=_weight(mask) / side,
        zones=_zones(ink, top, bottom, left, right),
        openings=_openings(mask, top, bottom, left, right) / box[:, None],
        loops=loops,
        loop_size=loop_area / box,
        loop_y=(loop_row - top) / np.maximum(height, 1),
        slant=slant,
        roundness=roundness,
        mirror=_correlation(_aligned(ink, left + right, axis=2), axis=(2,)),
        turn=_correlation(_aligned(_aligned(ink, left + right, axis=2), top + bottom, axis=1), axis=(1, 2)),
        crossings=_crossings(mask, top, bottom),
    )


def _extent(present: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one past the last True of each row [n, S]; (0, S) where there is none."""
    length = present.shape[1]
    inked = present.any(1)
    first = np.where(inked, present.argmax(1), 0)
    last = np.where(inked, length - present[:, ::-1].argmax(1), length)
    return first, last


def _weight(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean stroke width in pixels: a stroke of width w has w times as many pixels as half its outline."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    outline = (padded[:, 1:] != padded[:, :-1]).sum((1, 2)) + (padded[:, :, 1:] != padded[:, :, :-1]).sum((1, 2))
    width: NDArray[np.float64] = 2 * mask.sum((1, 2)) / np.maximum(outline, 1)
    return width


def _zones(
    ink: NDArray[np.float64],
    top: NDArray[np.int64],
    bottom: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Ink density [n, 3, 3] in the square around the bounding box, divided by that of the densest ninth."""
    count, side = ink.shape[:2]
    total = np.zeros((count, side + 1, side + 1))
    total[:, 1:, 1:] = ink.cumsum(1).cumsum(2)
    reach = np.maximum(bottom - top, right - left) / 2
    steps = np.array([-1, -1 / 3, 1 / 3, 1])
    rows = _edges((top + bottom) / 2, reach, steps, side)
    columns = _edges((left + right) / 2, reach, steps, side)
    corner = total[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    mass = np.diff(np.diff(corner, axis=1), axis=2)
    area = np.diff(rows, axis=1)[:, :, None] * np.diff(columns, axis=1)[:, None, :]
    density: NDArray[np.float64] = mass / np.maximum(area, 1)
    density /= np.maximum(density.max((1, 2)), 1e-6)[:, None, None]
    return density


def _edges(
    centre: NDArray[np.float64], reach: NDArray[np.float64], steps: NDArray[np.float64], side: int
) -> NDArray[np.int64]:
    return np.clip(np.round(centre[:, None] + reach[:, None] * steps), 0, side).astype(np.int64)


def _openings(
    mask: NDArray[np.bool_],
    top: NDArray[np.int64],
    bottom: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Pixels [n, 6] of background that has ink on three sides, by the side it is open to."""

    def beyond(axis: int, backwards: bool) -> NDArray[np.bool_]:
        view = np.flip(mask, axis) if backwards else mask
        seen = np.logical_or.accumulate(view, axis)
        return np.flip(seen, axis) if backwards else seen

    above, under = beyond(1, False), beyond(1, True)
    west, east = beyond(2, False), beyond(2, True)
    free = ~mask
    rows = np.arange(mask.shape[1])[None, :, None]
    upper = rows < ((top + bottom) / 2)[:, None, None]
    to_left = free & above & under & east & ~west
    to_right = free & above & under & west & ~east
    to_up = free & west & east & under & ~above
    to_down = free & west & east & above & ~under
    bays = (to_left & upper, to_left & ~upper, to_right & upper, to_right & ~upper, to_up, to_down)
    return np.stack([bay.sum((1, 2)) for bay in bays], axis=1).astype(np.float64)


def _loops(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Number, total area and mean row of the background areas that strokes enclose."""
    from scipy import ndimage

    count = len(mask)
    # One labelling for the whole batch: neighbours are joined within an image only, never across images.
    within = np.zeros((3, 3, 3), bool)
    within[1] = ndimage.generate_binary_structure(2, 1)
    free = np.pad(~mask, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    names, regions = ndimage.label(free, within)
    outside = names[:, 0, 0]
    area = np.bincount(names.ravel(), minlength=regions + 1).astype(np.float64)
    rows = np.broadcast_to(np.arange(-1, mask.shape[1] + 1)[None, :, None], names.shape)
    row_sum = np.bincount(names.ravel(), rows.ravel(), minlength=regions + 1)
    owner = np.zeros(regions + 1, np.int64)
    owner[names.ravel()] = np.broadcast_to(np.arange(count)[:, None, None], names.shape).ravel()
    inner = np.ones(regions + 1, bool)
    inner[0] = False
    inner[outside] = False
    inner &= area >= max(1, mask.shape[1] ** 2 // 256)
    loops = np.bincount(owner[inner], minlength=count)
    total = np.bincount(owner[inner], area[inner], minlength=count).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        row = np.bincount(owner[inner], row_sum[inner], minlength=count) / total
    return loops, total, row


def _axes(ink: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lean of the principal axis (degrees from upright) and ratio of the principal extents."""
    side = ink.shape[1]
    mass = np.maximum(ink.sum((1, 2)), 1e-6)
    at = np.arange(side)
    x = (ink.sum(1) * at).sum(1) / mass
    y = (ink.sum(2) * at).sum(1) / mass
    dx, dy = at - x[:, None], at - y[:, None]
    xx = (ink.sum(1) * dx**2).sum(1) / mass
    yy = (ink.sum(2) * dy**2).sum(1) / mass
    xy = np.einsum("nij,ni,nj->n", ink, dy, dx) / mass
    # Rows count downwards, so a drawing that leans to the right has a negative covariance.
    slant = 0.5 * np.degrees(np.arctan2(-2 * xy, yy - xx))
    spread = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
    roundness = np.sqrt(np.maximum(xx + yy - spread, 0) / np.maximum(xx + yy + spread, 1e-6))
    return slant, roundness


def _aligned(ink: NDArray[np.float64], doubled_centre: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
    """Each image shifted along ``axis`` (by whole pixels, cyclically) so that its drawing is in the middle."""
    side = ink.shape[axis]
    shift = (side - doubled_centre) // 2
    at = (np.arange(side)[None, :] - shift[:, None]) % side
    index = at[:, :, None] if axis == 1 else at[:, None, :]
    return np.take_along_axis(ink, np.broadcast_to(index, ink.shape), axis)


def _correlation(ink: NDArray[np.float64], axis: tuple[int, ...]) -> NDArray[np.float64]:
    other = np.flip(ink, axis)
    likeness: NDArray[np.float64] = (ink * other).sum((1, 2)) / np.maximum((ink**2).sum((1, 2)), 1e-6)
    return likeness


def _crossings(mask: NDArray[np.bool_], top: NDArray[np.int64], bottom: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of strokes [n, 3] that a row meets a quarter, half and three quarters down the drawing."""
    height = bottom - top
    runs = []
    for part in (0.25, 0.5, 0.75):
        row = np.minimum(top + (part * height).astype(np.int64), mask.shape[1] - 1)
        line = np.pad(mask[np.arange(len(mask)), row], ((0, 0), (1, 0)))
        runs.append((line[:, 1:] & ~line[:, :-1]).sum(1))
    return np.stack(runs, axis=1)
