"""MGD3: modes of latents, and samples led to them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.ancestral import Guide, Moment, sample_latents
from ddbench_plugins.diffusion.dit import pipeline
from ddbench_plugins.diffusion.dit.sample import LabelledDenoiser
from ddbench_plugins.diffusion.pipeline import load_pipeline
from ddbench_plugins.diffusion.text_to_image import PromptedDenoiser
from ddbench_plugins.methods.mgd3.guide import Towards
from ddbench_plugins.methods.mgd3.modes import modes, modes_of
from ddbench_plugins.training.seeding import make_generator

import ddbench
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.diffusion import tiny_dit, tiny_pipeline

if TYPE_CHECKING:
    from pathlib import Path

    from ddbench import Context, Dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_dit(tmp_path_factory.mktemp("dit"), classes=10)
    (made / pipeline.CLASSES).write_text(json.dumps([str(place) for place in range(10)]))
    return made


def latents(ctx: Context, data: Dataset, folder: Path, method: str, **options: Any) -> Any:
    explicit = {"backbone": str(folder), "steps": "6", "acceptance": "never", **options}
    bound = prepare_method(replace(ctx, _dataset=data, explicit={"method": explicit}), method, 2, 0)
    images = distil(bound).content.images
    done = bound.plugin.sampled(bound.ctx, 0, 10)
    return images, np.concatenate([np.load(path) for path in sorted((done.dir / "latents").glob("*.npy"))])


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("prompted"))


def _modes(ctx: Context, data: Dataset, folder: Path, **options: Any) -> np.ndarray:
    explicit = {"backbone": str(folder), "acceptance": "never", **options}
    bound = prepare_method(replace(ctx, _dataset=data, explicit={"method": explicit}), "mgd3", 2, 0)
    found: np.ndarray = np.load(modes(bound.ctx).dir / "modes.npy")
    return found


def test_the_modes_of_a_class_with_ipc_images_are_its_images() -> None:
    points = np.random.default_rng(0).normal(size=(3, 4, 2, 2)).astype(np.float32)
    for nearest in (False, True):
        found = modes_of(points, 3, nearest=nearest)
        np.testing.assert_allclose(np.sort(found, axis=0), np.sort(points, axis=0), rtol=1e-5)


def test_a_mode_is_a_centre_or_the_image_nearest_to_it() -> None:
    points = np.array([0, 1, 5, 100, 102, 110], np.float32).reshape(-1, 1, 1, 1)
    assert sorted(modes_of(points, 2).ravel().tolist()) == pytest.approx([2, 104])
    assert sorted(modes_of(points, 2, nearest=True).ravel().tolist()) == [1, 102]


def test_the_way_to_the_mode_ends_with_the_guidance() -> None:
    targets, clean = np.full((3, 1, 2, 2), 5, np.float32), torch.ones(2, 1, 2, 2)
    guide = Towards(targets, 0.1, 3)
    moment = Moment(4, clean, clean, clean, torch.full_like(clean, 0.5), torch.tensor(0.5))
    torch.testing.assert_close(guide.added(moment, slice(1, 3)), torch.full_like(clean, 0.1 * 0.5 * 4))
    assert guide.acts(4) and not guide.acts(3)


def test_what_is_added_is_added_to_the_mean_of_every_step(folder: Path) -> None:
    found, heard = pipeline.load_dit(folder), []

    def latents(guide: Guide | None) -> np.ndarray:
        streams = [make_generator(0, place) for place in range(3)]
        return sample_latents(LabelledDenoiser(found, [1, 2, 3], 3, 4.0), streams, batch_size=2, guide=guide)

    class Last(Guide):
        def added(self, moment: Moment, rows: slice) -> torch.Tensor:
            heard.append((moment.left, rows.start))
            assert moment.clean.shape == moment.deviation.shape and bool((moment.deviation > 0).all())
            return moment.clean * 0 + (100 if moment.left == 0 else 0)

    np.testing.assert_allclose(latents(Last()), latents(None) + 100, rtol=1e-5)
    assert heard == [(2, 0), (1, 0), (0, 0), (2, 2), (1, 2), (0, 2)]


def test_without_guidance_the_samples_are_dits(ctx: Context, digits: Dataset, folder: Path) -> None:
    plain, _ = latents(ctx, digits, folder, "dit")
    for options in ({"mode_guidance": "0"}, {"stop": "1"}):
        np.testing.assert_array_equal(latents(ctx, digits, folder, "mgd3", **options)[0], plain)


ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


@pytest.mark.parametrize(
    ("predicts", "schedule", "tolerance"),
    [("epsilon", {}, 1e-5), ("v_prediction", {}, 1e-5), ("v_prediction", ZERO_SNR, 1e-3)],
)
def test_under_prompts_it_samples_as_the_stock_pipeline(
    prompted: Path, predicts: str, schedule: dict[str, Any], tolerance: float
) -> None:
    from diffusers import DDPMScheduler, StableDiffusionPipeline

    found = load_pipeline(prompted)
    found.scheduler = DDPMScheduler.from_config(
        found.scheduler.config, clip_sample=False, prediction_type=predicts, **schedule
    )
    stock = StableDiffusionPipeline(**found.components, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler.init_noise_sigma = 1.0
    streams = lambda: [make_generator(0, place) for place in range(2)]  # noqa: E731
    expected = stock(
        ["a cat", "nothing"],
        num_inference_steps=5,
        guidance_scale=3.0,
        generator=streams(),
        height=16,
        width=16,
        output_type="latent",
    ).images
    made = sample_latents(PromptedDenoiser(found, ["a cat", "nothing"], 5, 3.0), streams())
    np.testing.assert_allclose(made, expected.numpy(), rtol=tolerance, atol=tolerance)


def test_under_prompts_without_guidance_the_samples_are_plain(ctx: Context, digits: Dataset, prompted: Path) -> None:
    text = {"conditioning": "text", "steps": "4"}
    without = {"mode_guidance": "0"}, {"stop": "1"}
    plain, off = (latents(ctx, digits, prompted, "mgd3", **text, **given)[1] for given in without)
    assert plain.shape == (20, 4, 8, 8)
    np.testing.assert_array_equal(off, plain)
    modes = _modes(ctx, digits, prompted, **text)
    led = latents(ctx, digits, prompted, "mgd3", **text, mode_guidance="1", stop="0")[1]
    assert np.square(led - modes).mean() < np.square(plain - modes).mean()


def test_the_files_of_the_model_go_by_what_it_is_conditioned_on(ctx: Context, digits: Dataset) -> None:
    for conditioning, network in (("class", "transformer"), ("text", "unet")):
        explicit = {"method": {"conditioning": conditioning, "backbone": "owner/name"}}
        bound = prepare_method(replace(ctx, _dataset=digits, explicit=explicit), "mgd3", 1, 0)
        assert any(name.startswith(network) for name in bound.plugin.files(bound.ctx))


def test_settings_by_situation(ctx: Context, digits: Dataset) -> None:
    paper = prepare_method(
        replace(ctx, _dataset=digits, preset=Preset.parse("paper+official")), "mgd3", 1, 0
    ).ctx.options
    assert (paper.backbone, paper.steps, paper.stop, paper.mode_guidance) == ("facebook/DiT-XL-2-256", 50, 0.5, 0.1)
    assert (paper.cfg_channels, paper.decoder) == (3, "stabilityai/sd-vae-ft-mse")
    sane = prepare_method(replace(ctx, _dataset=digits, preset=Preset.parse("paper")), "mgd3", 1, 0).ctx.options
    assert sane.decoder == ""


def test_a_presets_transformer_is_not_taken_for_stable_diffusion(ctx: Context, digits: Dataset) -> None:
    def planned(preset: str, **options: str) -> Any:
        explicit = {"method": {"conditioning": "text", **options}}
        return prepare_method(
            replace(ctx, _dataset=digits, preset=Preset.parse(preset), explicit=explicit), "mgd3", 1, 0
        )

    with pytest.raises(ddbench.UsageError, match="the preset's backbone facebook/DiT-XL-2-256") as caught:
        planned("paper")
    assert "-o method.backbone=" in caught.value.hint
    own = {"backbone": "benjamin-paine/stable-diffusion-v1-5"}
    with pytest.raises(ddbench.UsageError, match="the preset's decoder stabilityai/sd-vae-ft-mse") as caught:
        planned("paper+official", **own)
    assert caught.value.hint == "Say -o method.decoder=''."
    for preset, options in (("", {}), ("paper", own), ("paper+official", {**own, "decoder": ""})):
        planned(preset, **options)
