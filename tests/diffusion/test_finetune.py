from __future__ import annotations

import os
import signal
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion import finetune as finetuning
from ddbench_plugins.diffusion.finetune import FinetuneSettings, finetune
from ddbench_plugins.diffusion.loop import Optimisation
from ddbench_plugins.diffusion.pipeline import digest, load_pipeline
from ddbench_plugins.diffusion.posteriors import Encoder
from ddbench_plugins.diffusion.replicas import Team, divided, processes
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.seeding import batch_indices, make_generator, stream_seed
from hypothesis import given
from hypothesis import strategies as st

from ddbench import DDBenchError, ModelError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MemoryCheckpoint

CAPTIONS = [f"The thing in the image is number {number}." for number in range(6)]
SETTINGS = FinetuneSettings(resolution=16, epochs=2, batch_size=2, learning_rate=1e-3)


def test_steps_are_counted_as_diffusers_does() -> None:
    assert FinetuneSettings(epochs=8, batch_size=8).steps(100) == 8 * 13
    assert FinetuneSettings(epochs=8, batch_size=32, accumulate=4).steps(1000) == 8 * 8


def test_only_the_unet_changes(tiny_folder: Path, images: np.ndarray, tmp_path: Path) -> None:
    before = load_pipeline(tiny_folder)
    report = finetune(load_pipeline(tiny_folder), images, CAPTIONS, tmp_path / "tuned", SETTINGS, seed=0)
    after = load_pipeline(tmp_path / "tuned")
    assert report["steps"] == 6
    assert np.isfinite(report["loss"])
    for part in ("vae", "text_encoder"):
        old, new = getattr(before, part).state_dict(), getattr(after, part).state_dict()
        assert all(torch.equal(old[name], new[name]) for name in old)
    old, new = before.unet.state_dict(), after.unet.state_dict()
    assert any(not torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize(("cached", "predicts"), [(False, "epsilon"), (True, "epsilon"), (True, "v_prediction")])
def test_the_loss_is_that_of_the_images_with_their_own_captions(
    pipeline: Any, images: np.ndarray, tmp_path: Path, cached: bool, predicts: str
) -> None:
    """Denoising of one whole batch, written out: latents sampled from the posterior, noised, each with its caption."""
    pipeline.scheduler.register_to_config(prediction_type=predicts)
    small, seed = images[:, 2:18, 2:18], 5
    rows = batch_indices(6, 6, 0, stream_seed(seed, "finetune")).tolist()
    draws = make_generator(seed, "finetune noise", 0)
    mirrored = torch.rand(6, generator=draws) < 0.5
    sampled, noise = (torch.randn(6, 4, 8, 8, generator=draws) for _ in range(2))
    times = torch.randint(1000, (6,), generator=draws)
    assert rows != sorted(rows) and len(set(mirrored.tolist())) == 2

    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    losses = []
    with torch.no_grad():
        for place, row in enumerate(rows):
            pixels = torch.from_numpy(small[row].copy()).permute(2, 0, 1)[None] / 127.5 - 1
            posterior = pipeline.vae.encode(pixels.flip(3) if mirrored[place] else pixels).latent_dist
            latent = 0.18215 * (posterior.mean + posterior.std * sampled[place])
            kept = torch.prod(1 - betas[: times[place] + 1]).float()
            tokens = pipeline.tokenizer(CAPTIONS[row], padding="max_length", max_length=77, return_tensors="pt")
            states = pipeline.text_encoder(tokens.input_ids).last_hidden_state
            noisy = kept.sqrt() * latent + (1 - kept).sqrt() * noise[place]
            velocity = kept.sqrt() * noise[place] - (1 - kept).sqrt() * latent
            target = noise[place] if predicts == "epsilon" else velocity
            losses.append((pipeline.unet(noisy, times[place], states).sample - target).square().mean().item())

    settings = FinetuneSettings(resolution=16, epochs=1, batch_size=6, cache_latents=cached)
    told: list[tuple[Any, ...]] = []
    report = finetune(
        pipeline, small, CAPTIONS, tmp_path, settings, seed=seed, loop=Loop(progress=lambda *news: told.append(news))
    )
    assert report["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert told[-1] == (1, 1, {"fine-tuning loss": report["loss"]})
    assert not (tmp_path / "posteriors").exists()
    assert load_pipeline(tmp_path).scheduler.config.prediction_type == predicts


def test_the_defaults_are_the_papers_table() -> None:
    """Zou et al. 2025, supplementary Table 1, and what diffusers' script adds to it."""
    assert asdict(FinetuneSettings()) == {
        **{"resolution": 512, "epochs": 8, "batch_size": 8, "accumulate": 1, "learning_rate": 1e-5, "flip": True},
        **{"weight_decay": 0.01, "clip_norm": 1.0, "ema_decay": 0.9999},
        **{"gradient_checkpointing": False, "cache_latents": False},
    }


def test_gradient_checkpointing_is_on_during_the_training_only(
    pipeline: Any, images: np.ndarray, tmp_path: Path
) -> None:
    seen: list[bool] = []
    pipeline.unet.register_forward_pre_hook(lambda module, inputs: seen.append(module.is_gradient_checkpointing))
    settings = FinetuneSettings(resolution=16, epochs=1, batch_size=6, gradient_checkpointing=True)
    finetune(pipeline, images, CAPTIONS, tmp_path, settings, seed=0)
    assert seen == [True] and not pipeline.unet.is_gradient_checkpointing and not pipeline.unet.training


@pytest.mark.parametrize(("side", "written_out"), [(32, True), (34, False)])
def test_attention_is_written_out_by_the_side_of_the_latents(
    pipeline: Any, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, written_out: bool
) -> None:
    """Not of the images: how much smaller latents are depends on the model, here by two."""
    told: list[bool] = []

    def optimise(parameters: Any, loss_at: Any, settings: Optimisation, *_: Any, **__: Any) -> float:
        told.append(settings.plain_attention)
        return 0.0

    monkeypatch.setattr(finetuning, "optimise", optimise)
    finetune(pipeline, images, CAPTIONS, tmp_path, replace(SETTINGS, resolution=side), seed=0)
    assert told == [written_out]


def test_the_model_must_predict_noise_or_velocity(pipeline: Any, images: np.ndarray, tmp_path: Path) -> None:
    pipeline.scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(ModelError, match="'sample'"):
        finetune(pipeline, images, CAPTIONS, tmp_path, SETTINGS, seed=0)


@pytest.mark.parametrize("cached", [False, True])
def test_resume_is_bit_identical(
    tiny_folder: Path, images: np.ndarray, tmp_path: Path, checkpoint_type: type[MemoryCheckpoint], cached: bool
) -> None:
    settings = FinetuneSettings(
        resolution=16, epochs=2, batch_size=2, accumulate=2, learning_rate=1e-3, cache_latents=cached
    )
    finetune(load_pipeline(tiny_folder), images, CAPTIONS, tmp_path / "whole", settings, seed=0)
    stopped = checkpoint_type(stop_after=2)
    options: dict[str, Any] = {"seed": 0, "loop": Loop(checkpoint=stopped, checkpoint_seconds=0)}
    with pytest.raises(KeyboardInterrupt):
        finetune(load_pipeline(tiny_folder), images, CAPTIONS, tmp_path / "resumed", settings, **options)
    finetune(load_pipeline(tiny_folder), images, CAPTIONS, tmp_path / "resumed", settings, **options)
    assert digest(load_pipeline(tmp_path / "whole")) == digest(load_pipeline(tmp_path / "resumed"))


def test_caching_latents_changes_nothing_but_speed(tiny_folder: Path, images: np.ndarray, tmp_path: Path) -> None:
    reports = [
        finetune(
            load_pipeline(tiny_folder),
            images,
            CAPTIONS,
            tmp_path / str(cached),
            FinetuneSettings(resolution=16, epochs=1, batch_size=2, cache_latents=cached),
            seed=0,
        )
        for cached in (False, True)
    ]
    assert reports[0]["loss"] == pytest.approx(reports[1]["loss"], rel=1e-4)


def test_kept_posteriors_are_those_computed_anew_in_the_same_layout(
    pipeline: Any, images: np.ndarray, tmp_path: Path
) -> None:
    fresh = Encoder(pipeline.vae, images, 16)
    kept = fresh.keep(tmp_path, True, Team(), lambda *told: None)
    for rows, mirrored in (([4, 0, 5], [True, False, True]), ([2], [False])):
        for mine, theirs in zip(*(each.of(rows, torch.tensor(mirrored)) for each in (fresh, kept)), strict=True):
            torch.testing.assert_close(mine, theirs)
            # What they are added to has their layout, on which the last digits of a training depend.
            assert (mine + mine).stride() == (theirs + theirs).stride()


@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_are_even_and_in_order(items: int, count: int) -> None:
    shares = Team(0, count).shares(range(items))
    assert [item for share in shares for item in share] == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [Team(rank, count).share(range(items)) for rank in range(count)] == shares


def test_the_number_of_processes_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes("cpu") == 1
    monkeypatch.setenv("DDBENCH_FINETUNE_PROCESSES", "4")
    assert processes("cpu") == 4
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="DDBENCH_FINETUNE_PROCESSES=4, but this process sees 2 GPUs"):
        processes("cuda")
    monkeypatch.setenv("DDBENCH_FINETUNE_PROCESSES", "all")
    with pytest.raises(UsageError, match="'all' is no number"):
        processes("cpu")


def failing(team: Team) -> None:
    raise ZeroDivisionError(f"in process {team.rank}")


def killed(team: Team) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_why_another_process_ended_is_told_rather_than_that_its_connection_is_closed() -> None:
    with pytest.raises(DDBenchError, match=r"Process 2 .* ended by SIGKILL"), divided(2, "cpu", killed) as team:
        team.wait()


def test_one_process_starts_no_other_and_the_end_of_another_is_told() -> None:
    with divided(1, "cpu", failing) as team:
        assert team == Team()
        team.wait()
    with (
        pytest.raises(DDBenchError, match=r"failed: ZeroDivisionError: in process 1$"),
        divided(2, "cpu", failing) as team,
    ):
        assert team.count == 2 and team.leads
    assert "RANK" not in os.environ


def test_checkpointing_and_mixed_precision_run(pipeline: Any, images: np.ndarray, tmp_path: Path) -> None:
    settings = FinetuneSettings(resolution=16, epochs=1, batch_size=3, gradient_checkpointing=True)
    report = finetune(pipeline, images, CAPTIONS, tmp_path, settings, seed=0, loop=Loop(precision="bf16"))
    assert np.isfinite(report["loss"])


def test_bad_inputs_are_refused(tiny_folder: Path, pipeline: Any, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="5 captions"):
        finetune(pipeline, images, CAPTIONS[:5], tmp_path, SETTINGS, seed=0)
    with pytest.raises(ValueError, match="fp32"):
        finetune(load_pipeline(tiny_folder, dtype="bf16"), images, CAPTIONS, tmp_path, SETTINGS, seed=0)
