"""Measure colour pictures: colour names by region, light, texture, and what stands out from its surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Colour names, in the order of :func:`colour_index`.
COLOURS = (
    "black",
    "white",
    "grey",
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "beige",
)
#: Hue (degrees) up to which a saturated colour is red, orange, yellow, green, blue, purple, pink, red.
_HUES = ((18, 3), (45, 4), (70, 5), (165, 6), (255, 7), (295, 8), (340, 9), (361, 3))
_BITS = 4  # of each channel that decide the name: 4096 colours are looked up instead of named one by one


@dataclass(frozen=True)
class Colours:
    """Measurements of n pictures; brightness, saturation and areas are in [0, 1].

    Attributes:
        subject, second: [n] most and second most frequent colour of the middle (indices into :data:`COLOURS`).
        second_share: [n] the share of ``second``.
        around, upper, lower: [n] most frequent colour of the border, the upper and the lower edge.
        brightness, contrast, saturation, warmth: [n] mean and standard deviation of the luminance, mean saturation, and
            mean difference of red and blue.
        middle_light: [n] luminance of the middle minus that of the border.
        texture, around_texture: [n] mean luminance gradient in the middle and on the border.
        fineness: [n] share of the gradient that disappears at half the resolution.
        horizontal: [n] share of edges that run from left to right.
        diagonal: [n] balance of rising (+) and falling (-) edges.
        extent: [n] area that differs from the border's colours.
        x, y: [n] its centre.
        aspect: [n] its width over its height (of the second moments).
        slant: [n] lean of its principal axis in degrees.
        mirror: [n] correlation of the luminance with its left-right mirror image.
        variety: [n] number of colour names that cover 5 % of the picture each.
    """

    subject: NDArray[np.int64]
    second: NDArray[np.int64]
    second_share: NDArray[np.float64]
    around: NDArray[np.int64]
    upper: NDArray[np.int64]
    lower: NDArray[np.int64]
    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    saturation: NDArray[np.float64]
    warmth: NDArray[np.float64]
    middle_light: NDArray[np.float64]
    texture: NDArray[np.float64]
    around_texture: NDArray[np.float64]
    fineness: NDArray[np.float64]
    horizontal: NDArray[np.float64]
    diagonal: NDArray[np.float64]
    extent: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    aspect: NDArray[np.float64]
    slant: NDArray[np.float64]
    mirror: NDArray[np.float64]
    variety: NDArray[np.int64]


def colour_index(rgb: NDArray[np.float64]) -> NDArray[np.int64]:
    """Name colours in [0, 1], shape [..., 3], by hue, saturation and value; indices into :data:`COLOURS`."""
    value, low = rgb.max(-1), rgb.min(-1)
    chroma = value - low
    saturation = chroma / np.maximum(value, 1e-6)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(
        value == red,
        (green - blue) / safe % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue * 60
    named = np.full(value.shape, 3, np.int64)
    for limit, name in reversed(_HUES):
        named = np.where(hue < limit, name, named)
    warm = (hue >= 10) & (hue < 70)
    named = np.where(warm & (value < 0.68) & (saturation > 0.2), 10, named)
    named = np.where(warm & (value >= 0.6) & (saturation < 0.4), 11, named)
    plain = (saturation < 0.14) | ((chroma < 0.1) & (value < 0.5))
    named = np.where(plain, 2, named)
    named = np.where(plain & (value > 0.82), 1, named)
    return np.where((value < 0.18) | (plain & (value < 0.25)), 0, named)


@cache
def _table() -> NDArray[np.uint8]:
    steps = (np.arange(1 << _BITS) + 0.5) / (1 << _BITS)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    return colour_index(grid).astype(np.uint8).ravel()


def measure_colours(images: NDArray[np.uint8]) -> Colours:
    """Measure RGB pictures, uint8 [n, S, S, 3]."""
    side = images.shape[1]
    codes = images >> (8 - _BITS)
    names = _table()[
        (codes[..., 0].astype(np.intp) << (2 * _BITS)) | (codes[..., 1].astype(np.intp) << _BITS) | codes[..., 2]
    ]
    rgb = images.astype(np.float32) / 255
    light = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    band, quarter = max(1, side // 8), side // 4
    border = np.ones((side, side), bool)
    border[band:-band, band:-band] = False
    inside = slice(quarter, side - quarter)

    middle = _histogram(names[:, inside, inside])
    ranked = np.argsort(-middle, axis=1, kind="stable")
    whole = _histogram(names)
    high, low = rgb.max(-1), rgb.min(-1)
    across, downwards = _gradients(light)
    steep = np.hypot(across, downwards)
    coarse = np.hypot(*_gradients(_halved(light))).mean((1, 2))
    energy = (across**2 + downwards**2).mean((1, 2)) + 1e-8
    extent, x, y, aspect, slant = _figure(rgb, border)
    centred = light - light.mean((1, 2), keepdims=True)
    return Colours(
        subject=ranked[:, 0],
        second=ranked[:, 1],
        second_share=np.take_along_axis(middle, ranked[:, 1:2], 1)[:, 0],
        around=_histogram(names[:, border]).argmax(1),
        upper=_histogram(names[:, : side // 5]).argmax(1),
        lower=_histogram(names[:, -(side // 5) :]).argmax(1),
        brightness=light.mean((1, 2)),
        contrast=light.std((1, 2)),
        saturation=((high - low) / np.maximum(high, 1e-6)).mean((1, 2)),
        warmth=(rgb[..., 0] - rgb[..., 2]).mean((1, 2)),
        middle_light=light[:, inside, inside].mean((1, 2)) - light[:, border].mean(1),
        texture=steep[:, inside, inside].mean((1, 2)),
        around_texture=steep[:, border].mean(1),
        fineness=1 - coarse / np.maximum(2 * steep.mean((1, 2)), 1e-6),
        horizontal=(downwards**2).mean((1, 2)) / energy,
        # An edge that rises to the right has gradients of equal sign across and down (rows count downwards).
        diagonal=2 * (across * downwards).mean((1, 2)) / energy,
        extent=extent,
        x=x,
        y=y,
        aspect=aspect,
        slant=slant,
        mirror=(centred * centred[:, :, ::-1]).mean((1, 2)) / (centred**2).mean((1, 2)).clip(1e-8),
        variety=(whole > 0.05).sum(1),
    )


def _histogram(names: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Shares [n, 12] of the colour names in regions [n, ...]."""
    count = len(names)
    flat = names.reshape(count, -1)
    at = np.arange(count)[:, None] * len(COLOURS) + flat
    return np.bincount(at.ravel(), minlength=count * len(COLOURS)).reshape(count, -1) / flat.shape[1]


def _gradients(light: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Central differences across and down [n, S, S], zero on the outermost pixels."""
    across, downwards = np.zeros_like(light), np.zeros_like(light)
    across[:, :, 1:-1] = (light[:, :, 2:] - light[:, :, :-2]) / 2
    downwards[:, 1:-1] = (light[:, 2:] - light[:, :-2]) / 2
    return across, downwards


def _halved(light: NDArray[np.floating]) -> NDArray[np.floating]:
    even = light.shape[1] // 2 * 2
    cut = light[:, :even, :even]
    means: NDArray[np.floating] = cut.reshape(len(cut), even // 2, 2, even // 2, 2).mean((2, 4))
    return means


def _figure(rgb: NDArray[np.floating], border: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    """Area, centre, aspect and lean of what differs from the border's mean colour."""
    side = rgb.shape[1]
    rim = rgb[:, border]
    mean, spread = rim.mean(1), rim.std(1).mean(1)
    distance = np.sqrt(((rgb - mean[:, None, None]) ** 2).mean(-1))
    out = (distance > np.maximum(0.12, 1.2 * spread)[:, None, None]).astype(np.float64)
    mass = out.sum((1, 2))
    at = (np.arange(side) + 0.5) / side
    columns, rows = out.sum(1), out.sum(2)
    safe = np.maximum(mass, 1)
    seen = mass > 0
    x, y = np.where(seen, (columns @ at) / safe, 0.5), np.where(seen, (rows @ at) / safe, 0.5)
    dx, dy = at - x[:, None], at - y[:, None]
    xx, yy = (columns * dx**2).sum(1) / safe, (rows * dy**2).sum(1) / safe
    xy = np.einsum("nij,ni,nj->n", out, dy, dx) / safe
    aspect = np.sqrt((xx + 1e-4) / (yy + 1e-4))
    return mass / side**2, x, y, aspect, 0.5 * np.degrees(np.arctan2(-2 * xy, yy - xx))
