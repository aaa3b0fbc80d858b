"""RDED: crops, their ranking and stitching (Sun et al. 2024, synthesize/)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset

torch = pytest.importorskip("torch")
from ddbench_plugins.methods.rded import patches  # noqa: E402
from ddbench_plugins.training.formation import stitch  # noqa: E402
from ddbench_plugins.training.pixels import through_jpeg, to_bytes  # noqa: E402


def _brightness(crops):
    return 1 - crops.mean(dim=(1, 2, 3))


def test_the_best_crop_of_each_image_is_kept_and_images_are_sorted_by_it():
    images = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    seen = []

    def losses(crops):
        seen.append((crops.clone(), _brightness(crops)))
        return seen[-1][1]

    found = patches.best_crops(
        images, losses, crops=4, side=16, fill=(0, 0, 0), size=16, generator=torch.Generator().manual_seed(0)
    )
    every = torch.stack([loss for _, loss in seen])
    assert torch.equal(found.losses, every.min(0).values.sort().values)
    assert torch.allclose(_brightness(found.crops), found.losses)
    for crop in found.crops:  # every kept crop is one of those that were drawn
        assert min(float((crop - drawn).abs().amax(dim=(1, 2, 3)).min()) for drawn, _ in seen) == 0


def test_small_crops_are_centred_on_the_mean_colour_for_the_teacher():
    out = patches.centred(torch.ones(2, 3, 5, 5), 8, (0.1, 0.2, 0.3))
    assert out.shape == (2, 3, 8, 8)
    assert (out[:, :, 1:6, 1:6] == 1).all()
    assert out[0, :, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert patches.centred(out, 8, (0, 0, 0)) is out


def test_cell_k_of_image_i_holds_crop_k_n_plus_i():
    crops = torch.arange(8.0)[:, None, None, None].expand(8, 1, 2, 2)
    images = stitch(crops, 2, 5)  # the first cells are one pixel larger
    assert images.shape == (2, 1, 5, 5)
    assert images[0, 0, [0, 0, 4, 4], [0, 4, 0, 4]].tolist() == [0, 2, 4, 6]
    assert images[1, 0, [0, 0, 4, 4], [0, 4, 0, 4]].tolist() == [1, 3, 5, 7]
    assert images[0, 0, 2, 2] == 0
    assert torch.equal(stitch(crops, 1, 2), crops)


def test_bytes_are_rounded_or_cut_down():
    x = torch.tensor([0.0, 0.5, 1.2]).view(1, 1, 1, 3).expand(1, 3, 3, 3)
    assert to_bytes(x, truncate=False)[0, 0, :, 0].tolist() == [0, 128, 255]
    assert to_bytes(x, truncate=True)[0, 0, :, 0].tolist() == [0, 127, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_changes_pixels_a_little(channels):
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 16, channels), np.uint8)
    found = through_jpeg(image)
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    assert 0 < np.abs(found.astype(int) - image).mean() < 60


def _prepared(ctx, data, ipc=2, preset="", **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, "rded", ipc, 0)


def test_official_settings(ctx, digits):
    assert _prepared(ctx, digits, preset="official")[1].options.jpeg
    assert _prepared(ctx, digits, preset="official")[1].options.normalisation == "imagenet"
    sane = _prepared(ctx, digits)[1].options
    assert (sane.pool, sane.crops, sane.factor, sane.jpeg) == (300, 5, 1, False)


def test_more_crops_than_images_are_refused_before_anything_runs(ctx, digits):
    with pytest.raises(ddbench.UsageError, match="90 images per class"):
        _prepared(ctx, digits, ipc=10, factor="3", pool="50")


@pytest.mark.slow
@pytest.mark.usefixtures("shared_teachers")
def test_on_digits(ctx, digits):
    first = distil(_prepared(ctx, digits, ipc=2, pool="40", factor="2"))
    again = distil(_prepared(ctx, digits, ipc=2, pool="40", factor="2"), force=True)
    assert first.digest == again.digest
    assert first.content.images.shape == (20, 16, 16, 1)
    losses = first.content.extra["cross_entropy"]
    assert losses["first"] <= losses["last"]
    plain = distil(_prepared(ctx, digits, ipc=2, pool="40")).content.extra["cross_entropy"]
    assert plain["last"] < 0.5  # a teacher of 99 % knows its best digits


@pytest.mark.slow
@pytest.mark.usefixtures("shared_teachers")
def test_an_interrupted_run_goes_on_with_the_next_class(ctx, digits, monkeypatch):
    whole = distil(_prepared(ctx, digits, ipc=2, pool="40"))
    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", "0")
    best_crops, calls = patches.best_crops, []

    def interrupted(*args, **options):
        calls.append(len(calls))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return best_crops(*args, **options)

    monkeypatch.setattr(patches, "best_crops", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distil(_prepared(ctx, digits, ipc=2, pool="40"), force=True)
    resumed = distil(_prepared(ctx, digits, ipc=2, pool="40"), force=True)
    assert len(calls) == 4 + 7  # of ten classes, three were finished
    assert resumed.digest == whole.digest
    assert resumed.content.extra == whole.content.extra
