"""CaO2: which samples are chosen, and how their latents are refined."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.dit import pipeline
from ddbench_plugins.methods.cao2.refine import Refinement, chosen, refine
from ddbench_plugins.training.seeding import make_generator

from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.runtime.store import Store
from ddbench.testing.diffusion import tiny_dit

if TYPE_CHECKING:
    from pathlib import Path

    from ddbench import Context, Dataset

SETTINGS: dict[str, Any] = {"steps": 20, "rate": 0.01, "sampling_steps": 50, "times": 0.22, "largest": 10.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_dit(tmp_path_factory.mktemp("dit"), classes=10)
    (made / pipeline.CLASSES).write_text(json.dumps([str(place) for place in range(10)]))
    return made


def test_recognised_samples_come_first_the_surest_of_them_before_others() -> None:
    sure = np.array([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7], [0.55, 0.45], [0.95, 0.05]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert chosen(sure, labels, 2).tolist() == [2, 0, 3, 5]  # of class 1, only sample 3 is recognised
    assert chosen(sure, labels, 2, least=True).tolist() == [0, 2, 3, 4]
    assert sorted(chosen(sure, labels, 3).tolist()) == list(range(6))  # one candidate each: all are kept


class Straight(torch.nn.Module):
    """A transformer that takes what it is given for the noise."""

    config, device, dtype = SimpleNamespace(), torch.device("cpu"), torch.float32

    def forward(self, noisy: torch.Tensor, timestep: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        self.times = timestep
        return (torch.cat([noisy, noisy], 1),)


def refined(latents: np.ndarray, streams: list[Any], **changes: Any) -> np.ndarray:
    from ddbench_plugins.diffusion.dit.small import build_scheduler

    found = SimpleNamespace(transformer=Straight(), scheduler=build_scheduler())
    parting = {name: changes.pop(name) for name in ("batch_size", "progress") if name in changes}
    return refine(found, latents, [0] * len(latents), streams, Refinement(**{**SETTINGS, **changes}), **parting)


def test_a_latent_goes_where_its_noise_is_told_better() -> None:
    latents = np.ones((2, 4, 2, 2), np.float32)
    assert np.array_equal(refined(latents, [make_generator(0), make_generator(1)], steps=0), latents)
    moved = refined(latents, [make_generator(0), make_generator(1)], largest=0.0)
    # √ᾱ·z + (√(1−ᾱ) − 1)·ε is the error: at little noise the best latent is near ε, which is drawn first.
    noise = np.stack([torch.randn(4, 2, 2, generator=make_generator(place)).numpy() for place in (0, 1)])
    assert np.abs(moved - noise).mean() < np.abs(latents - noise).mean() - 0.05


def test_an_image_depends_on_its_own_stream_only() -> None:
    latents = np.random.default_rng(0).normal(size=(3, 4, 2, 2)).astype(np.float32)
    together = refined(latents, [make_generator(place) for place in range(3)])
    alone = refined(latents[2:], [make_generator(2)])
    np.testing.assert_allclose(together[2], alone[0], rtol=1e-5)
    heard: list[int] = []
    streams = [make_generator(place) for place in range(3)]
    parted = refined(latents, streams, batch_size=2, progress=heard.append)
    np.testing.assert_allclose(parted, together, rtol=1e-5)
    assert len(heard) == 2 * SETTINGS["steps"] and heard[-1] == 3


@pytest.mark.parametrize(("raw", "expected"), [(False, {20, 41, 61}), (True, {1, 2, 3})])
def test_times_are_those_of_the_last_sampling_steps(raw: bool, expected: set[int]) -> None:
    from ddbench_plugins.diffusion.dit.small import build_scheduler

    heard: set[int] = set()

    class Hearing(Straight):
        def forward(self, noisy: torch.Tensor, timestep: torch.Tensor, **more: Any) -> tuple[torch.Tensor]:
            heard.update(timestep.tolist())
            return super().forward(noisy, timestep, **more)

    found = SimpleNamespace(transformer=Hearing(), scheduler=build_scheduler())
    settings = {**SETTINGS, "times": 0.06, "raw_times": raw}
    streams = [make_generator(place) for place in range(4)]
    refine(found, np.zeros((4, 4, 2, 2), np.float32), [0] * 4, streams, Refinement(**settings))
    assert heard == expected


def test_all_sampling_steps_may_be_chosen_from() -> None:
    latents = np.zeros((30, 4, 2, 2), np.float32)
    streams = [make_generator(place) for place in range(30)]
    assert np.isfinite(refined(latents, streams, times=1.0, sampling_steps=3)).all()


def made(ctx: Context, data: Dataset, folder: Path, method: str = "cao2", **options: Any) -> Any:
    explicit = {"backbone": str(folder), "steps": "3", "guidance_scale": "2.7", "acceptance": "never", **options}
    return distil(prepare_method(replace(ctx, _dataset=data, explicit={"method": explicit}), method, 2, 0)).content


def test_one_candidate_and_no_refinement_leave_the_samples_of_dit(ctx: Context, digits: Dataset, folder: Path) -> None:
    plain = made(ctx, digits, folder, "dit").images
    same = made(ctx, digits, folder, candidates="1", refine_steps="0", selector="mlp").images
    rows = plain.reshape(10, 2, -1), same.reshape(10, 2, -1)
    assert all(sorted(map(bytes, a)) == sorted(map(bytes, b)) for a, b in zip(*rows, strict=True))


def test_what_is_resumed_ends_alike(
    ctx: Context, digits: Dataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddbench_plugins.diffusion.dit import images
    from ddbench_plugins.methods.cao2 import refine as refining

    options = {"candidates": "2", "refine_steps": "2", "selector": "mlp"}
    wanted = made(ctx, digits, folder, **options)
    monkeypatch.setattr(images, "CHUNK", 8)
    begun: list[int] = []

    def killed(pipeline: Any, latents: np.ndarray, *parts: Any, **more: Any) -> np.ndarray:
        begun.append(len(latents))
        if len(begun) == 2:
            raise KeyboardInterrupt
        return refine(pipeline, latents, *parts, **more)

    monkeypatch.setattr(refining, "refine", killed)
    ctx = replace(ctx, store=Store(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        made(ctx, digits, folder, **options)
    found = made(ctx, digits, folder, **options)
    assert begun == [8, 8, 8, 4]  # of 20 images the first 8 were there
    assert np.abs(found.images.astype(int) - wanted.images.astype(int)).max() <= 1
    assert found.extra["selection"] == wanted.extra["selection"]


def test_more_candidates_are_recognised_more_often(ctx: Context, digits: Dataset, folder: Path) -> None:
    found = made(ctx, digits, folder, candidates="3", refine_steps="2", selector="mlp").extra["selection"]
    assert 0 <= found["candidates_recognised"] <= found["chosen_recognised"] <= 1


def test_settings_by_situation(ctx: Context, digits: Dataset) -> None:
    def options(preset: str, name: str = "digits", ipc: int = 1) -> Any:
        data = replace(digits, name=name)
        return prepare_method(replace(ctx, _dataset=data, preset=Preset.parse(preset)), "cao2", ipc, 0)[1].options

    paper = options("paper")
    assert (paper.candidates, paper.guidance_scale, paper.selector) == (4, 2.7, "timm:resnet18.tv_in1k")
    assert (paper.decoder, options("paper+official").decoder) == ("", "stabilityai/sd-vae-ft-mse")
    assert [options("paper", "imagewoof", ipc).order for ipc in (10, 50)] == ["surest", "least sure"]
    assert options("paper+official", "imagenette").refine_steps == 0
    hundred = options("paper", "imagenet-100")
    assert (hundred.candidates, hundred.order, hundred.refine_times) == (2, "least sure", 0.1)
