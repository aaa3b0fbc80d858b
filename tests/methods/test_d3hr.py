"""D3HR: DDIM inversion and back, and groups that are like their class."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.dit import pipeline
from ddbench_plugins.methods.d3hr import domain
from ddbench_plugins.methods.d3hr.domain import Path as Way
from ddbench_plugins.methods.d3hr.domain import best_group, score, times
from ddbench_plugins.training.seeding import make_generator

import ddbench
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.runtime.store import Store
from ddbench.testing.diffusion import tiny_dit

if TYPE_CHECKING:
    from pathlib import Path

    from ddbench import Context, Dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_dit(tmp_path_factory.mktemp("dit"), classes=10)
    (made / pipeline.CLASSES).write_text(json.dumps([str(place) for place in range(10)]))
    return made


def test_times_are_those_of_the_released_code() -> None:
    assert times(1000, 50)[:3] == [0, 20, 40] and times(1000, 50)[-1] == 980


def test_denoising_undoes_the_inversion(folder: Path) -> None:
    found = pipeline.load_dit(folder)
    latents = torch.randn(2, 4, 8, 8, generator=make_generator(0))
    errors = []
    for steps in (50, 500):
        way = Way(found, steps, 1.0, 4)
        there = way.invert(latents, [1, 2], steps // 10)
        assert float((there - latents).abs().max()) > 0.05
        errors.append(float((way.denoise(there, [1, 2], steps // 10) - latents).abs().max()))
    assert errors[1] < 1e-2 and errors[1] < errors[0]


def test_the_released_denoising_begins_one_step_further(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = pipeline.load_dit(folder)
    heard: list[int] = []
    found.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: heard.append(int(kwargs["timestep"][0])), with_kwargs=True
    )
    way, latents = Way(found, 50, 1.0, 4), torch.zeros(1, 4, 8, 8)
    there: list[int] = []
    monkeypatch.setattr(
        way,
        "_moved",
        lambda x, labels, asked, now, then: (there.append(then), Way._moved(way, x, labels, asked, now, then))[1],
    )
    for wrong, expected, ends in ((False, [60, 40, 20], [40, 20, 0]), (True, [80, 60, 40, 20, 0], [60, 40, 20, 1, 1])):
        heard.clear()
        there.clear()
        way.denoise(latents, [0], 3, misaligned=wrong)
        assert heard == expected and there == ends  # the released code takes max(1, time) for where a step leads


def test_a_score_is_of_mean_deviation_and_skewness() -> None:
    group = torch.tensor([[[0.0, 1.0, 5.0], [2.0, 3.0, 1.0]]])
    mean, std = torch.tensor([1.0, 1.0, 3.0]), torch.tensor([2**0.5, 0.0, 8**0.5])
    # Means 1, 2, 3; deviations √2, √2, √8. Standardised, both latents have cubes ±2^-1.5, summed: ∓, times 3 / 2.
    skewed = 1.5 * 2**-1.5 * (2**0.5)
    assert float(score(group, mean, std, 0)) == pytest.approx(1 + 2**0.5)
    assert float(score(group, mean, std, 0.1)) == pytest.approx(1 + 2**0.5 + 0.1 * skewed, rel=1e-5)
    assert float(score(group[:, :1], mean, std, 0.1)) == pytest.approx((1 + 0 + 4) ** 0.5)


def test_numbers_in_which_all_images_agree_have_no_skewness() -> None:
    mean, std = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 0.0, 1.0, 1.0])
    best, every = best_group(mean, std, 3, 10, 0.1, make_generator(0))
    assert torch.isfinite(every).all() and float(every.min()) < float(every.max())
    assert best[:, 1].tolist() == [2, 2, 2]


def test_the_best_of_more_groups_is_no_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, std = torch.zeros(6), torch.ones(6)
    least = []
    for groups in (1, 10, 100):
        best, every = best_group(mean, std, 4, groups, 0.1, make_generator(3))
        assert best.shape == (4, 6) and len(every) == groups
        assert float(score(best[None], mean, std, 0.1)) == pytest.approx(float(every.min()))
        least.append(float(every.min()))
    assert least[2] < least[1] < least[0]
    monkeypatch.setattr("ddbench_plugins.methods.d3hr.domain.MOST", 24 * 7)
    assert best_group(mean, std, 4, 100, 0.1, make_generator(3))[0].shape == (4, 6)


def made(ctx: Context, data: Dataset, folder: Path, **options: Any) -> Any:
    explicit = {"backbone": str(folder), "acceptance": "never", "inverted": "4", "groups": "20", **options}
    explicit |= {"steps": "6", "inversion": "3"}
    return distil(prepare_method(replace(ctx, _dataset=data, explicit={"method": explicit}), "d3hr", 2, 0)).content


def test_a_set_of_digits(ctx: Context, digits: Dataset, folder: Path) -> None:
    found = made(ctx, digits, folder)
    assert found.images.shape == (20, 16, 16, 1) and found.labels.tolist() == sorted([*range(10)] * 2)
    assert found.extra["groups"]["score"] < found.extra["groups"]["score_of_all"]
    assert not np.array_equal(found.images, made(ctx, digits, folder, shared_draws="yes").images)


def test_what_is_interrupted_resumes_class_by_class(
    ctx: Context, digits: Dataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, drawn = made(ctx, digits, folder), []

    def drawing(most: int) -> Any:
        def draw(*parts: Any) -> Any:
            drawn.append(0)
            if len(drawn) > most:
                raise KeyboardInterrupt
            return best_group(*parts)

        return draw

    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", "0")
    ctx = replace(ctx, store=Store(tmp_path / "other"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(domain, "best_group", drawing(3))
        made(ctx, digits, folder)
    drawn.clear()
    monkeypatch.setattr(domain, "best_group", drawing(10))
    found = made(ctx, digits, folder)
    assert len(drawn) == 7
    assert np.array_equal(found.images, wanted.images) and found.extra["groups"] == wanted.extra["groups"]


def test_images_are_resized_by_lanczos(ctx: Context, digits: Dataset, folder: Path) -> None:
    from PIL import Image

    # The tiny model's images have 16 pixels, as the digits.
    whole, small = (made(ctx, digits, folder, **size).images for size in ({}, {"size": "8"}))
    assert small.shape == (20, 8, 8, 1)
    wanted = [np.asarray(Image.fromarray(image[..., 0]).resize((8, 8), Image.Resampling.LANCZOS)) for image in whole]
    apart = np.abs(small[..., 0].astype(int) - np.stack(wanted).astype(int))
    assert apart.max() <= 2  # channels are averaged afterwards


def test_a_class_of_one_image_is_refused(ctx: Context) -> None:
    from ddbench.testing.toy import toy_dataset

    with pytest.raises(ddbench.UsageError, match="a single training image"):
        prepare_method(replace(ctx, _dataset=toy_dataset(per_class=1)), "d3hr", 1, 0)


def test_a_class_that_cannot_be_drawn_is_refused_before_images_are_encoded(
    ctx: Context, digits: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddbench_plugins.diffusion.dit import latents

    monkeypatch.delattr(latents, "_write")
    for method in ("d3hr", "mgd3"):
        explicit = {"method": {"backbone": str(folder), "acceptance": "never"}}
        data = replace(digits, class_ids=("x", *digits.class_ids[1:]))
        with pytest.raises(ddbench.UsageError, match="cannot draw 1 of the 10 classes"):
            distil(prepare_method(replace(ctx, _dataset=data, explicit=explicit), method, 1, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": "30"}, r"inversion must be below steps \(30\), not 30"),
        ({"steps": "31", "misaligned": "true"}, r"below steps \(31\) by more than 1 with misaligned, not 30"),
        ({"inverted": "1"}, "a single image has no deviation"),
    ],
)
def test_what_does_not_fit_is_refused(ctx: Context, digits: Dataset, options: dict[str, str], message: str) -> None:
    ctx = replace(ctx, _dataset=digits, explicit={"method": options})
    with pytest.raises(ddbench.UsageError, match=message):
        prepare_method(ctx, "d3hr", 1, 0)


def test_settings_by_situation(ctx: Context, digits: Dataset) -> None:
    paper = prepare_method(replace(ctx, _dataset=digits, preset=Preset.parse("paper+official")), "d3hr", 1, 0)[
        1
    ].options
    assert (paper.inverted, paper.groups, paper.inversion, paper.size) == (0, 100_000, 30, 224)
    assert paper.shared_draws and paper.misaligned
