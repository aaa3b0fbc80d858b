from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.latents import decode_latents, encoded_batches
from ddbench_plugins.diffusion.posteriors import Encoder
from ddbench_plugins.diffusion.synthesis import image_to_image
from ddbench_plugins.training.seeding import make_generator

from ddbench.errors import DivergedError

if TYPE_CHECKING:
    pass

PROTOTYPES = np.random.default_rng(1).standard_normal((3, 4, 8, 8)).astype(np.float32)
PROMPTS = ["a zero", "a one", "a much longer prompt about the shape, the posture and the colour of it " * 2]


def timesteps_run(pipeline: Any, **options: Any) -> list[int]:
    seen: list[int] = []
    handle = pipeline.unet.register_forward_pre_hook(lambda module, inputs: seen.append(int(inputs[1])))
    image_to_image(pipeline, PROTOTYPES[:1], PROMPTS[:1], seed=0, **options)
    handle.remove()
    return seen


@pytest.mark.parametrize(("strength", "calls", "first"), [(0.7, 36, 701), (0.75, 38, 741), (0.5, 26, 501)])
def test_strength_sets_the_steps_run(pipeline: Any, strength: float, calls: int, first: int) -> None:
    seen = timesteps_run(pipeline, strength=strength)
    assert len(seen) == calls
    assert seen[0] == first


def test_no_strength_returns_the_decoded_prototype(pipeline: Any) -> None:
    images = image_to_image(pipeline, PROTOTYPES, PROMPTS, strength=0.0, guidance=1.0, seed=0)
    decoded = decode_latents(pipeline, PROTOTYPES)
    # the last scheduled step adds noise of standard deviation 0.03 to the latent and removes the predicted part
    assert np.abs(images.astype(int) - decoded.astype(int)).mean() < 2


def test_result_does_not_depend_on_the_batch_size(pipeline: Any) -> None:
    options: dict[str, Any] = {"steps": 6, "seed": 5, "guidance": 3.0}
    together = image_to_image(pipeline, PROTOTYPES, PROMPTS, batch_size=3, **options)
    apart = image_to_image(pipeline, PROTOTYPES, PROMPTS, batch_size=1, **options)
    assert together.shape == (3, 16, 16, 3)
    assert np.abs(together.astype(int) - apart.astype(int)).max() <= 1
    other = image_to_image(pipeline, PROTOTYPES, PROMPTS, **{**options, "seed": 6})
    assert np.abs(together.astype(int) - other.astype(int)).max() > 1


def test_each_image_is_of_its_own_prototype_prompt_and_noise(pipeline: Any) -> None:
    """The stock pipeline, asked for one image at a time in its own words."""
    options: dict[str, Any] = {"strength": 0.6, "negative_prompt": "a drawing"}
    prompts = ["a zero", "three tall trees", "one"]
    images = image_to_image(pipeline, PROTOTYPES, prompts, steps=8, guidance=4.0, seed=9, batch_size=2, **options)
    for row, (prototype, prompt, image) in enumerate(zip(PROTOTYPES, prompts, images, strict=True)):
        stock = pipeline(
            prompt=prompt,
            image=torch.from_numpy(prototype[None]),
            generator=make_generator(9, "synthesis", row),
            num_inference_steps=8,
            guidance_scale=4.0,
            output_type="np",
            **options,
        ).images[0]
        assert np.abs(stock * 255 - image).max() <= 1


def test_guidance_and_prompt_matter(pipeline: Any) -> None:
    one = image_to_image(pipeline, PROTOTYPES[:1], ["a zero"], steps=6, guidance=5.0, seed=0)
    assert (one != image_to_image(pipeline, PROTOTYPES[:1], ["three trees"], steps=6, guidance=5.0, seed=0)).any()


def test_mismatched_inputs_are_refused(pipeline: Any) -> None:
    with pytest.raises(ValueError, match="2 prompts"):
        image_to_image(pipeline, PROTOTYPES, PROMPTS[:2], seed=0)
    with pytest.raises(ValueError, match="latents"):
        image_to_image(pipeline, PROTOTYPES[:, :3], PROMPTS, seed=0)
    with pytest.raises(ValueError, match="latents"):
        image_to_image(pipeline, PROTOTYPES.reshape(3, 4, 64), PROMPTS, seed=0)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_model_that_gives_nan_ends_with_its_own_error(pipeline: Any, part: str) -> None:
    with torch.no_grad():
        weight = next(getattr(pipeline, part).decoder.parameters() if part == "vae" else pipeline.unet.parameters())
        weight.fill_(torch.nan)
    with pytest.raises(DivergedError, match="synthesised images"):
        image_to_image(pipeline, PROTOTYPES, PROMPTS, steps=2, seed=0)


def test_decoding_and_encoding_give_finite_numbers_or_an_error(pipeline: Any, images: np.ndarray) -> None:
    with torch.no_grad():
        for half in (pipeline.vae.decoder, pipeline.vae.encoder):
            next(half.parameters()).fill_(torch.inf)
    with pytest.raises(DivergedError, match="decoded images"):
        decode_latents(pipeline, PROTOTYPES)
    with pytest.raises(DivergedError, match="latents of the autoencoder"):
        list(encoded_batches(pipeline, images, resolution=16, seed=0))
    with pytest.raises(DivergedError, match="posteriors of the autoencoder"):
        Encoder(pipeline.vae, images, 16).of([0, 1], torch.tensor([False, True]))
