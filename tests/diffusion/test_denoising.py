"""What a network is trained to predict: noise or velocity, with equal weights of the clean latents' error."""

from __future__ import annotations

import pytest
import torch
from ddbench_plugins.diffusion.denoising import Denoising
from ddbench_plugins.diffusion.small.model import build_scheduler

from ddbench import ModelError


@pytest.fixture
def latents() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 5, 4, 2, 2, generator=stream)
    return clean, noise, torch.tensor([0, 1, 250, 600, 999])


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_the_target_gives_the_noise_back(predicts: str, latents: tuple[torch.Tensor, ...]) -> None:
    clean, noise, times = latents
    denoising = Denoising(build_scheduler(predicts))
    noisy, target = denoising.task(clean, noise, times)
    assert denoising.times == 1000 and torch.equal(target, noise) == (predicts == "epsilon")
    for row, time in enumerate(times):
        found = denoising.noise(target[row, None], noisy[row, None], time)
        torch.testing.assert_close(found, noise[row, None], rtol=1e-4, atol=1e-4)


def test_min_snr_weighs_noise_and_velocity_alike(latents: tuple[torch.Tensor, ...]) -> None:
    """The same error of the noise costs the same, whatever is predicted; γ = 5 bounds the weight of clean times."""
    clean, noise, times = latents
    ways = [Denoising(build_scheduler(predicts)) for predicts in (None, "v_prediction")]
    error = torch.linspace(0.1, 0.5, 5)[:, None, None, None]
    losses = []
    for way in ways:
        noisy, target = way.task(clean, noise, times)
        kept = build_scheduler().alphas_cumprod[times][:, None, None, None]
        wrong = (
            noise + error if way.predicts == "epsilon" else (noise + error - (1 - kept).sqrt() * noisy) / kept.sqrt()
        )
        losses.append(way.min_snr_weights(times, 5.0) * (wrong - target).square().flatten(1).mean(1))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-6)
    ratios = build_scheduler().alphas_cumprod[times] / (1 - build_scheduler().alphas_cumprod[times])
    torch.testing.assert_close(ways[0].min_snr_weights(times, 5.0), ratios.clamp(max=5) / ratios)
    torch.testing.assert_close(ways[1].min_snr_weights(times, 5.0), ratios.clamp(max=5) / (ratios + 1))


def test_others_are_refused() -> None:
    with pytest.raises(ModelError, match="'sample'"):
        Denoising(build_scheduler("sample"))
