from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.latents import decode_latents, encoded_batches
from ddbench_plugins.training.seeding import make_generator


def encode_images(pipeline: Any, images: Any, **options: Any) -> np.ndarray:
    return np.concatenate(list(encoded_batches(pipeline, images, **options)))


def test_shape_scale_and_independence_of_batch_size(pipeline: Any, images: np.ndarray) -> None:
    calls: list[tuple[int, int]] = []
    together = encode_images(
        pipeline, images, resolution=16, seed=3, progress=lambda done, total: calls.append((done, total))
    )
    assert together.shape == (6, 4, 8, 8)
    assert together.dtype == np.float32
    assert calls[-1] == (6, 6)
    apart = encode_images(pipeline, images, resolution=16, seed=3, batch_size=2)
    np.testing.assert_allclose(together, apart, atol=1e-5)


def test_each_latent_is_drawn_from_its_own_posterior(pipeline: Any, images: np.ndarray) -> None:
    found = encode_images(pipeline, images[:, :16, :16], resolution=16, seed=3, batch_size=4)
    pixels = torch.from_numpy(images[:, :16, :16].copy()).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        posterior = pipeline.vae.encode(pixels).latent_dist
    for row in range(6):
        noise = torch.randn(4, 8, 8, generator=make_generator(3, "latent", row))
        expected = 0.18215 * (posterior.mean[row] + posterior.std[row] * noise)
        np.testing.assert_allclose(found[row], expected.numpy(), rtol=0, atol=1e-5)


def test_mode_is_scaled_posterior_mean(pipeline: Any, images: np.ndarray) -> None:
    first = encode_images(pipeline, images, resolution=16, seed=0, sample=False)
    np.testing.assert_array_equal(first, encode_images(pipeline, images, resolution=16, seed=9, sample=False))
    pipeline.vae.register_to_config(scaling_factor=2 * pipeline.vae.config.scaling_factor)
    doubled = encode_images(pipeline, images, resolution=16, seed=0, sample=False)
    np.testing.assert_allclose(doubled, 2 * first, rtol=1e-6)


def test_samples_depend_on_the_seed(pipeline: Any, images: np.ndarray) -> None:
    first = encode_images(pipeline, images, resolution=16, seed=0)
    assert not np.allclose(first, encode_images(pipeline, images, resolution=16, seed=1))


def test_grey_images_and_lists_of_sizes(pipeline: Any) -> None:
    sizes = [np.zeros((9, 30, 1), np.uint8), np.zeros((40, 8, 3), np.uint8)]
    latents = encode_images(pipeline, sizes, resolution=16, seed=0, sample=False)
    np.testing.assert_allclose(latents[0], latents[1], atol=1e-5)


def test_decode_gives_uint8_images(pipeline: Any) -> None:
    decoded = decode_latents(pipeline, np.zeros((3, 4, 8, 8), np.float32), batch_size=2)
    assert decoded.shape == (3, 16, 16, 3)
    assert decoded.dtype == np.uint8


def test_wrong_images_are_refused(pipeline: Any) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_images(pipeline, np.zeros((1, 8, 8, 3), np.float32), resolution=16, seed=0)
