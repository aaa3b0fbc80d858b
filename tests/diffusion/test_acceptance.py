from __future__ import annotations

import numpy as np
import pytest
from ddbench_plugins.diffusion.acceptance import copy_check, nearest_distances, prompt_swap, recognition


def brightness_class(images: np.ndarray) -> np.ndarray:
    return (images.reshape(len(images), -1).mean(1) > 127).astype(int)


DARK, BRIGHT = np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 255, np.uint8)


def test_recognition_rate_per_class() -> None:
    found = recognition(np.concatenate([DARK, BRIGHT]), np.array([0, 0, 0, 1]), brightness_class, 3)
    assert found["rate"] == 0.75
    assert found["per_class"][:2] == [pytest.approx(2 / 3), 1.0]
    assert np.isnan(found["per_class"][2])


def test_distances_are_root_mean_squares() -> None:
    half = np.full((1, 4, 4, 3), 51, np.uint8)
    np.testing.assert_allclose(nearest_distances(half, np.concatenate([DARK, BRIGHT])), [0.2], rtol=1e-4)


def test_copies_are_noticed() -> None:
    random = np.random.default_rng(0)
    train, held_out = (random.integers(0, 256, (50, 4, 4, 3), dtype=np.uint8) for _ in range(2))
    copies = copy_check(train[:10], train, held_out)
    assert copies["ratio"] < 0.01
    assert copies["suspect_share"] == 1.0
    assert copy_check(held_out, train, held_out)["ratio"] == pytest.approx(1.0)


def test_prompt_swap_counts_both_directions() -> None:
    zeros, ones = np.zeros(2, int), np.ones(2, int)
    assert prompt_swap(DARK, BRIGHT, zeros, ones, brightness_class) == {"moved": 1.0, "stayed": 0.0, "reverse": 0.0}
    with pytest.raises(ValueError, match="another class"):
        prompt_swap(DARK, BRIGHT, zeros, zeros, brightness_class)
