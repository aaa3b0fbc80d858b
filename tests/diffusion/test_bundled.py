from __future__ import annotations

import json

import numpy as np
import pytest
from ddbench_plugins.captioners.attributes import describe
from ddbench_plugins.datasets.digits import NAMES, enlarge, read_digits
from ddbench_plugins.datasets.split import stratified
from ddbench_plugins.diffusion.acceptance import copy_check, prompt_swap, recognition
from ddbench_plugins.diffusion.latents import decode_latents, encoded_batches
from ddbench_plugins.diffusion.pipeline import load_pipeline
from ddbench_plugins.diffusion.small.bundled import bundled_model
from ddbench_plugins.diffusion.synthesis import image_to_image


def test_digits_model_is_small_and_recorded() -> None:
    folder = bundled_model("digits")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 5 * 2**20
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert record["measured"]["reconstruction_mse"] < 0.001
    with pytest.raises(ValueError, match="digits"):
        bundled_model("no-such-data")


def test_digits_model_draws_the_digit_it_is_asked_for() -> None:
    images, labels = read_digits()
    train, test = stratified(labels, tuple(f"{i:05d}" for i in range(len(labels))), fraction=0.2, seed=0)
    shown = enlarge(images)
    rgb = shown.repeat(3, axis=3)
    means = np.stack([shown[train][labels[train] == digit].mean(0) for digit in range(10)]).reshape(10, -1)

    def nearest_mean(samples: np.ndarray) -> np.ndarray:
        flat = samples.mean(axis=3).reshape(len(samples), 1, -1)
        return ((flat - means) ** 2).mean(axis=2).argmin(axis=1)

    pipeline = load_pipeline(bundled_model("digits"), offline=True)
    wanted, others = np.arange(10).repeat(3), (np.arange(10).repeat(3) + 3) % 10
    chosen = np.concatenate([train[labels[train] == digit][:3] for digit in range(10)])
    latents = np.concatenate(list(encoded_batches(pipeline, shown[chosen], resolution=16, seed=0)))
    error = (decode_latents(pipeline, latents).astype(float) - rgb[chosen]) / 255
    assert (error**2).mean() < 0.002
    captions = describe(shown[chosen], [NAMES[digit] for digit in wanted])
    swapped = [captions[list(wanted).index(digit)] for digit in others]
    plain, moved = (
        image_to_image(pipeline, latents, prompts, guidance=3.0, steps=20, seed=0, batch_size=30)
        for prompts in (captions, swapped)
    )
    assert recognition(plain, wanted, nearest_mean, 10)["rate"] >= 0.9
    text = prompt_swap(plain, moved, wanted, others, nearest_mean)
    assert text["moved"] > 0.8
    assert text["reverse"] < 0.1
    assert copy_check(plain, rgb[train], rgb[test])["ratio"] > 0.7
