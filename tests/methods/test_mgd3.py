"""MGD3: modes of latents, and samples led to them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.dit import pipeline, sample
from ddbench_plugins.methods.mgd3.distiller import towards
from ddbench_plugins.methods.mgd3.modes import modes_of
from ddbench_plugins.training.seeding import make_generator

from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.diffusion import tiny_dit

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
    adjust = towards(targets, 0.1, 3)
    deviation = torch.full_like(clean, 0.5)
    torch.testing.assert_close(adjust(4, clean, deviation, slice(1, 3)), torch.full_like(clean, 0.1 * 0.5 * 4))
    assert not adjust(3, clean, deviation, slice(1, 3)).any()


def test_what_is_added_is_added_to_the_mean_of_every_step(folder: Path) -> None:
    found, heard = pipeline.load_dit(folder), []

    def latents(adjust: Any) -> np.ndarray:
        streams = [make_generator(0, place) for place in range(3)]
        return sample.sample_latents(found, [1, 2, 3], streams, steps=3, batch_size=2, adjust=adjust)

    def adjust(index: int, clean: torch.Tensor, deviation: torch.Tensor, rows: slice) -> torch.Tensor:
        heard.append((index, rows.start))
        assert clean.shape == deviation.shape and bool((deviation > 0).all())
        return clean * 0 + (100 if index == 0 else 0)

    np.testing.assert_allclose(latents(adjust), latents(None) + 100, rtol=1e-5)
    assert heard == [(2, 0), (1, 0), (0, 0), (2, 2), (1, 2), (0, 2)]


def test_without_guidance_the_samples_are_dits(ctx: Context, digits: Dataset, folder: Path) -> None:
    plain, _ = latents(ctx, digits, folder, "dit")
    for options in ({"mode_guidance": "0"}, {"stop": "1"}):
        np.testing.assert_array_equal(latents(ctx, digits, folder, "mgd3", **options)[0], plain)


def test_settings_by_situation(ctx: Context, digits: Dataset) -> None:
    paper = prepare_method(
        replace(ctx, _dataset=digits, preset=Preset.parse("paper+official")), "mgd3", 1, 0
    ).ctx.options
    assert (paper.backbone, paper.steps, paper.stop, paper.mode_guidance) == ("facebook/DiT-XL-2-256", 50, 0.5, 0.1)
    assert paper.cfg_channels == 3
