"""Put measurements into words: tables of words by threshold, and the sentences they go into.

Words are chosen for captions that are compared word by word (VLCP's text prototypes, bag-of-words classifiers): within
one kind of caption a word means one thing wherever it stands ("azure" is only ever a background), and none is an
English stop word, which rules out "top", "bottom", "side", "thick", "thin", "full" and number words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddbench_plugins.captioners.colours import COLOURS, Colours, measure_colours
from ddbench_plugins.captioners.strokes import Strokes, measure_strokes

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scale = tuple[tuple[float, ...], tuple[str, ...]]

# Colour names by region, in the order of COLOURS.
AROUND = (
    "inky",
    "snowy",
    "ashen",
    "crimson",
    "amber",
    "golden",
    "verdant",
    "azure",
    "violet",
    "rosy",
    "tawny",
    "sandy",
)
UPPER = ("night", "cloud", "steel", "wine", "rust", "honey", "leaves", "sky", "plum", "salmon", "wood", "cream")
LOWER = ("shadow", "snow", "pavement", "brick", "clay", "straw", "grass", "water", "lavender", "coral", "soil", "sand")

# Scales of a colour picture: thresholds, and one word more than thresholds.
EXTENT: Scale = ((0.2, 0.27, 0.34), ("tiny", "small", "sizeable", "large"))
ASPECT: Scale = ((0.72, 0.92, 1.12, 1.4), ("upright", "tall", "compact", "wide", "elongated"))
TEXTURE: Scale = ((0.065, 0.082, 0.098, 0.118), ("sleek", "smooth", "plain", "coarse", "bristly"))
FINENESS: Scale = ((0.34, 0.4, 0.46), ("blurred", "soft", "crisp", "grainy"))
AROUND_TEXTURE: Scale = ((0.03, 0.043, 0.055, 0.07), ("clear", "calm", "faded", "busy", "cluttered"))
BRIGHTNESS: Scale = ((0.33, 0.43, 0.53, 0.65), ("dark", "dim", "balanced", "bright", "brilliant"))
CONTRAST: Scale = ((0.13, 0.18, 0.24), ("flat", "mild", "strong", "harsh"))
SATURATION: Scale = ((0.13, 0.22, 0.34, 0.48), ("colourless", "muted", "natural", "rich", "vivid"))
WARMTH: Scale = ((-0.08, 0.0, 0.08, 0.17), ("icy", "cool", "neutral", "warm", "glowing"))
MIDDLE: Scale = ((-0.18, -0.06, 0.06, 0.18), ("silhouetted", "shaded", "level", "lit", "radiant"))
HORIZONTAL: Scale = ((0.44, 0.52, 0.6, 0.7), ("vertical", "standing", "mixed", "lying", "horizontal"))
DIAGONAL: Scale = ((-0.15, 0.15), ("falling", "steady", "rising"))
ACROSS: Scale = ((0.43, 0.57), ("leftward", "centred", "rightward"))
DOWN: Scale = ((0.42, 0.58), ("raised", "midway", "lowered"))
MIRROR: Scale = ((0.1, 0.4, 0.65), ("lopsided", "irregular", "regular", "symmetric"))
VARIETY: Scale = ((2.5, 4.5), ("uniform", "varied", "colourful"))

# Scales and lists of a drawing.
STROKE_WIDTH: Scale = ((0.4, 0.56, 0.66, 0.8), ("narrow", "slender", "regular", "broad", "squat"))
STROKE_SLANT: Scale = ((-14, -5, 4, 10), ("toppling", "backward", "upright", "slanted", "leaning"))
STROKE_WEIGHT: Scale = ((0.14, 0.165, 0.19), ("delicate", "fine", "bold", "heavy"))
STROKE_LIGHT: Scale = ((0.6, 0.9), ("faint", "clear", "strong"))
STROKE_ROUND: Scale = ((0.39, 0.47, 0.55), ("straight", "oval", "rounded", "circular"))
STROKE_MIRROR: Scale = ((0.7, 0.84), ("lopsided", "irregular", "symmetric"))
STROKE_TURN: Scale = ((0.68, 0.85), ("unequal", "similar", "reversible"))
LOOP_SIZE: Scale = ((0.03, 0.09), ("pinched eyelet", "small ring", "wide hollow"))
LOOP_PLACE: Scale = ((0.4, 0.58), ("head", "waist", "foot"))
BAYS = ("notch", "pocket", "mouth", "bay", "cup", "arch")
BAY_AREA = 0.035
COMPASS = ("northwest", "north", "northeast", "west", "middle", "east", "southwest", "south", "southeast")
ZONE_DENSITY = 0.4
CROSSED = ("forked", "parted", "straddling")


def choose(values: NDArray[np.float64 | np.int64], scale: Scale) -> list[str]:
    """Return one word of a scale per value [n]."""
    thresholds, words = scale
    return [words[i] for i in np.digitize(values, thresholds)]


def enumerate_words(words: Sequence[str]) -> str:
    """Join words as prose: "a", "a and b", "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def layout(images: NDArray[np.uint8]) -> list[str]:
    """Return in words how each image, uint8 [n, S, S, 1 or 3], is laid out: form, place and colours, or strokes."""
    if images.shape[-1] == 1:
        strokes = measure_strokes(images[..., 0])
        width = choose(strokes.width / np.maximum(strokes.height, 1e-6), STROKE_WIDTH)
        slant, shape = choose(strokes.slant, STROKE_SLANT), choose(strokes.roundness, STROKE_ROUND)
        weight, light = choose(strokes.weight, STROKE_WEIGHT), choose(strokes.strength, STROKE_LIGHT)
        rows = zip(width, slant, shape, weight, light, strict=True)
        return [f"a {w}, {s} and {r} figure in {heavy} {bright} strokes" for w, s, r, heavy, bright in rows]
    colours = measure_colours(images)
    extent, aspect = choose(colours.extent, EXTENT), choose(np.log2(colours.aspect), _log2(ASPECT))
    across, down = choose(colours.x, ACROSS), choose(colours.y, DOWN)
    rim, light = choose(colours.around_texture, AROUND_TEXTURE), choose(colours.brightness, BRIGHTNESS)
    return [
        f"a {extent[i]}, {aspect[i]}, {_subject(colours, i)} shape, {across[i]} and {down[i]}, on a {rim[i]},"
        f" {AROUND[colours.around[i]]} background in {light[i]} light"
        for i in range(len(images))
    ]


def _subject(colours: Colours, i: int) -> str:
    """Return the colour of the middle of picture ``i``, or its two colours."""
    colour = COLOURS[colours.subject[i]]
    return f"{colour} and {COLOURS[colours.second[i]]}" if colours.second_share[i] > 0.15 else colour


def describe_strokes(strokes: Strokes, names: Sequence[str]) -> list[str]:
    """Return one caption per drawing; ``names`` are the class names [n]."""
    width = choose(strokes.width / np.maximum(strokes.height, 1e-6), STROKE_WIDTH)
    slant, weight = choose(strokes.slant, STROKE_SLANT), choose(strokes.weight, STROKE_WEIGHT)
    light, shape = choose(strokes.strength, STROKE_LIGHT), choose(strokes.roundness, STROKE_ROUND)
    mirror, turn = choose(strokes.mirror, STROKE_MIRROR), choose(strokes.turn, STROKE_TURN)
    loop, place = choose(strokes.loop_size, LOOP_SIZE), choose(np.nan_to_num(strokes.loop_y), LOOP_PLACE)
    bays, dense = strokes.openings > BAY_AREA, strokes.zones.reshape(-1, 9) > ZONE_DENSITY
    captions = []
    for i, name in enumerate(names):
        inks = ("black", "white") if strokes.dark[i] else ("white", "black")
        inside = "unbroken paper"
        if strokes.loops[i]:
            inside = f"a {loop[i]} near the {place[i]}" if strokes.loops[i] == 1 else "a pair of loops"
        shapes = [f"a {word}" for word, there in zip(BAYS, bays[i], strict=True) if there] or ["closed flanks"]
        zones = [word for word, there in zip(COMPASS, dense[i], strict=True) if there]
        looks = [word for word, runs in zip(CROSSED, strokes.crossings[i], strict=True) if runs > 1] or ["single"]
        captions.append(
            f"The {name} in the image is a {width[i]}, {slant[i]} and {shape[i]} figure in {weight[i]} {light[i]}"
            f" {inks[0]} strokes on {inks[1]}. It has {inside}, with {enumerate_words(shapes)}."
            f" Its ink gathers {enumerate_words(zones)}. It looks {enumerate_words([*looks, mirror[i], turn[i]])}."
        )
    return captions


def describe_colours(colours: Colours, names: Sequence[str]) -> list[str]:
    """Return one caption per picture; ``names`` are the class names [n]."""
    extent, aspect = choose(colours.extent, EXTENT), choose(np.log2(colours.aspect), _log2(ASPECT))
    texture, fineness = choose(colours.texture, TEXTURE), choose(colours.fineness, FINENESS)
    rim, light = choose(colours.around_texture, AROUND_TEXTURE), choose(colours.brightness, BRIGHTNESS)
    contrast, saturation = choose(colours.contrast, CONTRAST), choose(colours.saturation, SATURATION)
    warmth, middle = choose(colours.warmth, WARMTH), choose(colours.middle_light, MIDDLE)
    lines, diagonal = choose(colours.horizontal, HORIZONTAL), choose(colours.diagonal, DIAGONAL)
    across, down = choose(colours.x, ACROSS), choose(colours.y, DOWN)
    mirror, variety = choose(colours.mirror, MIRROR), choose(colours.variety, VARIETY)
    captions = []
    for i, name in enumerate(names):
        captions.append(
            f"The {name} in the image is a {extent[i]}, {aspect[i]}, {_subject(colours, i)} shape, {middle[i]},"
            f" {across[i]} and {down[i]}. It has a {texture[i]}, {fineness[i]} surface of {mirror[i]} form with"
            f" {lines[i]} and {diagonal[i]} lines. Its background is {rim[i]} and {AROUND[colours.around[i]]}, from"
            f" {UPPER[colours.upper[i]]} to {LOWER[colours.lower[i]]}. The light is {light[i]} and {warmth[i]}, the"
            f" contrast {contrast[i]}, the colours {saturation[i]} and {variety[i]}."
        )
    return captions


def _log2(scale: Scale) -> Scale:
    return tuple(float(np.log2(limit)) for limit in scale[0]), scale[1]


_FRAMES = (
    "the in image is a and figure strokes on black white it has unbroken paper near pair of loops with closed flanks",
    "its ink gathers looks single shape surface of form lines background from to light contrast colours",
)


def vocabulary() -> tuple[str, ...]:
    """Return every word a caption can contain besides class names, sorted."""
    scales = [value[1] for name, value in globals().items() if name.isupper() and _is_scale(value)]
    lists = (COLOURS, AROUND, UPPER, LOWER, BAYS, COMPASS, CROSSED, _FRAMES, *scales)
    return tuple(sorted(set(_words(text for words in lists for text in words))))


def _is_scale(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], tuple) and isinstance(value[1], tuple)


def _words(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in re.findall(r"[a-z]+", text.lower())]
