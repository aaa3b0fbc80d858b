"""The attributes captioner: what it measures, that it always says the same, and that its words tell classes apart."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ddbench_plugins.captioners.attributes import Attributes, describe
from ddbench_plugins.captioners.colours import COLOURS, colour_index, measure_colours
from ddbench_plugins.captioners.phrases import enumerate_words, vocabulary
from ddbench_plugins.captioners.strokes import measure_strokes


def drawing(rows: str) -> np.ndarray:
    """A drawing from text, every character 2×2 pixels: uint8 [1, S, S]."""
    grid = np.array([[255 * (c == "#") for c in row] for row in rows.split()], np.uint8)
    return grid.repeat(2, 0).repeat(2, 1)[None]


RING = drawing("........ ..####.. .##..##. .#....#. .#....#. .##..##. ..####.. ........")
EIGHT = drawing(".#####.. .#...#.. .#...#.. .#####.. .#...#.. .#...#.. .#####.. ........")
BAR = drawing("........ ...##... ...##... ...##... ...##... ...##... ...##... ........")
LEANING = drawing("......## .....##. ....##.. ...##... ..##.... .##..... ##...... #.......")
CUP = drawing("........ .#....#. .#....#. .#....#. .#....#. .######. ........ ........")


def test_enclosed_areas_are_counted_and_placed():
    found = measure_strokes(np.concatenate([RING, EIGHT, BAR]))
    assert found.loops.tolist() == [1, 2, 0]
    assert found.loop_y[0] == pytest.approx(0.5, abs=0.05)
    assert np.isnan(found.loop_y[2])


def test_loops_of_neighbouring_images_are_kept_apart():
    alone = [measure_strokes(image[None]).loop_size[0] for image in np.concatenate([RING, EIGHT, RING])]
    together = measure_strokes(np.concatenate([RING, EIGHT, RING])).loop_size
    assert together.tolist() == alone


def test_direction_and_shape():
    found = measure_strokes(np.concatenate([BAR, LEANING, LEANING[:, :, ::-1]]))
    assert abs(found.slant[0]) < 1
    assert found.slant[1] > 20 and found.slant[2] < -20
    assert found.width[0] < found.height[0] / 2
    assert found.roundness[0] < 0.5


def test_a_bay_is_named_by_where_it_opens():
    openings = measure_strokes(np.concatenate([CUP, CUP[:, ::-1]])).openings
    assert openings[0].argmax() == 4 and openings[1].argmax() == 5


def test_dark_strokes_on_paper_measure_like_white_ones():
    white, black = measure_strokes(EIGHT), measure_strokes(255 - EIGHT)
    assert not white.dark[0] and black.dark[0]
    assert white.zones.tolist() == black.zones.tolist() and white.slant == black.slant


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((255, 255, 255), "white"),
        ((0, 0, 0), "black"),
        ((128, 128, 128), "grey"),
        ((220, 20, 20), "red"),
        ((250, 140, 20), "orange"),
        ((240, 230, 30), "yellow"),
        ((30, 160, 50), "green"),
        ((40, 90, 220), "blue"),
        ((140, 50, 200), "purple"),
        ((230, 80, 170), "pink"),
        ((120, 75, 35), "brown"),
        ((225, 205, 165), "beige"),
    ],
)
def test_colour_names(rgb, name):
    assert COLOURS[int(colour_index(np.array(rgb) / 255))] == name


def test_a_red_block_on_green():
    image = np.empty((1, 32, 32, 3), np.uint8)
    image[:] = (30, 160, 50)
    image[:, 8:20, 4:12] = (220, 20, 20)
    found = measure_colours(image)
    assert COLOURS[found.around[0]] == "green"
    assert found.extent[0] == pytest.approx(96 / 1024)
    assert found.x[0] == pytest.approx(0.25) and found.y[0] == pytest.approx(14 / 32)
    assert found.aspect[0] < 1
    text = describe(image, ["apple"])[0]
    assert text.startswith("The apple in the image is a tiny,") and "verdant" in text and "leftward" in text


@pytest.mark.parametrize("shape", [(16, 16, 1), (8, 8, 1), (32, 32, 3), (64, 64, 3), (9, 9, 3)])
def test_captions_are_deterministic_independent_of_the_batch_and_within_the_vocabulary(shape):
    images = np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8)
    images[0], images[1] = 0, 255
    texts = describe(images, ["thing"] * 6)
    assert texts == describe(images, ["thing"] * 6)
    assert texts[3:5] == describe(images[3:5], ["thing"] * 2)
    words = set(re.findall(r"[a-z]+", " ".join(texts).lower()))
    assert words <= {*vocabulary(), "thing"}
    assert max(len(re.findall(r"\w+|[^\w\s]", text)) for text in texts) <= 75


def test_the_vocabulary_is_small_and_free_of_stop_words_where_they_would_matter():
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    frames = {"the", "in", "is", "a", "and", "on", "it", "has", "near", "of", "with", "its", "from", "to"}
    assert len(vocabulary()) < 300
    assert set(vocabulary()) & ENGLISH_STOP_WORDS <= frames


def test_lists_of_words():
    assert [enumerate_words(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_captions_say_the_digit_without_naming_it(ctx, digits):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    names = ["digit"] * 10
    train, test = (list(Attributes().caption(ctx, part, names, 16)) for part in (digits.train, digits.test))
    assert len(set(train)) > 1000
    counter = CountVectorizer()
    model = LogisticRegression(max_iter=1000).fit(counter.fit_transform(train), digits.train.labels)
    assert model.score(counter.transform(test), digits.test.labels) > 0.6
