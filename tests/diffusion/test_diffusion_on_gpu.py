"""Diffusion models on a pretended GPU: trained, fine-tuned and sampled on one device, with the numbers of the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.dit.noise import Noise
from ddbench_plugins.diffusion.dit.small import DiTPreset, build_scheduler, build_transformer
from ddbench_plugins.diffusion.dit.train import train_transformer
from ddbench_plugins.diffusion.finetune import FinetuneSettings, finetune
from ddbench_plugins.diffusion.latents import decode_latents, encoded_batches
from ddbench_plugins.diffusion.posteriors import Posteriors
from ddbench_plugins.diffusion.small.model import PRESETS
from ddbench_plugins.diffusion.small.tokenizer import write_tokenizer
from ddbench_plugins.diffusion.small.training import PromptSource, train_unet, train_vae
from ddbench_plugins.diffusion.synthesis import image_to_image
from ddbench_plugins.methods.minimax import finetune as minimax
from ddbench_plugins.training.engine import Loop
from pretended_gpu import pretended

if TYPE_CHECKING:
    from pathlib import Path

SMALL = replace(
    PRESETS["digits"],
    vae_channels=(8, 8, 8),
    unet_channels=(8, 16),
    head_width=8,
    text_width=16,
    vae_batch=4,
    unet_batch=4,
)
DIT = DiTPreset(patch=2, depth=1, width=16, heads=2, steps=6, batch=4)
CAPTIONS = ["a red square", "a green dog", "a round shape"]


def posteriors() -> Posteriors:
    mean = torch.randn(2, 9, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return Posteriors(mean, torch.full_like(mean, 0.1), 1.5)


def weights(*models: Any) -> torch.Tensor:
    return torch.cat([value.detach().cpu().flatten() for model in models for value in model.parameters()])


def vae(steps: int, device: str) -> torch.Tensor:
    pixels = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return weights(train_vae(pixels, replace(SMALL, vae_steps=steps, flip=True), Loop(device), seed=0)[0])


def unet(steps: int, device: str, folder: Path) -> torch.Tensor:
    source = PromptSource(["zero", "one"], CAPTIONS, write_tokenizer(CAPTIONS, folder))
    labels, preset = np.arange(9) % 2, replace(SMALL, unet_steps=steps)
    encoder, network, _ = train_unet(posteriors(), labels, source, preset, Loop(device), seed=0)
    return weights(encoder, network)


def transformer(steps: int, device: str) -> torch.Tensor:
    preset = replace(DIT, steps=steps)
    return weights(train_transformer(posteriors(), np.arange(9) % 3, 3, preset, seed=0, loop=Loop(device))[0])


def by_minimax(steps: int, device: str) -> torch.Tensor:
    network, classes = build_transformer(DIT, 8, 3, seed=0).to(device), torch.arange(9) % 3
    settings = minimax.FinetuneSettings(
        steps=steps, batch_size=4, learning_rate=1e-3, lambda_r=0.002, lambda_d=0.008, memory=3, ema_decay=0.9,
        trainable="difffit",
    )  # fmt: skip
    betas = build_scheduler().betas
    minimax.finetune(network, betas, posteriors(), classes, classes, settings, seed=0, loop=Loop(device))
    return weights(network)


@pytest.mark.parametrize("train", [vae, transformer, by_minimax])
def test_trainings_end_with_the_weights_of_the_cpu(train):
    wanted = train(3, "cpu")
    with pretended() as gpu:
        found = train(3, "cuda")
    assert gpu.launches > 100
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_the_small_u_net_is_trained_as_on_the_cpu(tmp_path):
    wanted = unet(3, "cpu", tmp_path / "cpu")
    with pretended():
        found = unet(3, "cuda", tmp_path / "gpu")
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("train", [vae, transformer])
def test_no_step_of_a_training_makes_the_host_wait(train):
    """Losses are read every tenth step."""
    with pretended() as gpu:
        assert gpu.cost_of_a_step(lambda steps: train(steps, "cuda")).waits == {}


def test_a_pipeline_encodes_is_fine_tuned_and_draws_on_one_device(pipeline: Any, images: np.ndarray, tmp_path: Path):
    def through(device: str, steps: int = 1) -> tuple[np.ndarray, ...]:
        model = pipeline.to(device)
        latents = np.concatenate(list(encoded_batches(model, images, resolution=16, seed=0)))
        settings = FinetuneSettings(resolution=16, epochs=steps, batch_size=3, learning_rate=1e-3)
        finetune(model, images, CAPTIONS * 2, tmp_path / device, settings, seed=0, loop=Loop(device))
        drawn = image_to_image(model, latents[:2], CAPTIONS[:2], steps=4, seed=0)
        return (
            latents,
            weights(model.unet).numpy(),
            drawn.astype(float),
            decode_latents(model, latents[:2]).astype(float),
        )

    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    wanted = through("cpu")
    pipeline.unet.load_state_dict(before)
    with pretended():
        found = through("cuda")
    for mine, theirs, apart in zip(found, wanted, (1e-4, 1e-4, 2, 2), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=apart)


def test_the_noise_of_dit_is_on_the_device_of_its_times():
    with pretended() as gpu:
        noise, times = Noise(build_scheduler().betas.to("cuda")), torch.tensor([0, 5]).to("cuda")
        clean = torch.ones(2, 4, 8, 8).to("cuda")
        gpu.waits.clear()
        noisy = noise.noisy(clean, clean, times)
        assert noise.loss(torch.cat([clean, clean], 1), clean, noisy, clean, times).is_cuda
        assert not gpu.waits
