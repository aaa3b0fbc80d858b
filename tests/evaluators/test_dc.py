"""The protocol of DC, DSA, DM and MTT (Zhao et al. 2021, utils.py and main.py)."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.evaluators.dc import augment as dc_augment
from ddbench_plugins.evaluators.dc import evaluator as dc
from ddbench_plugins.training.recipe import learned_rate
from ddbench_plugins.training.schedules import dc_restart_epoch, dc_step

import ddbench
from ddbench.experiment import setup
from ddbench.experiment.pipeline import check_fit, held, prepare_evaluator, prepare_method
from ddbench.plugin.manager import load_plugins
from ddbench.plugin.options import Preset


def _data(name: str = "toy", size: int = 32, channels: int = 3, flip: bool = True) -> ddbench.Dataset:
    labels = np.arange(10)
    images = ddbench.ArrayImages(np.zeros((10, size, size, channels), np.uint8))
    split = ddbench.Split(images, labels, tuple(map(str, labels)))
    names = tuple(map(str, labels))
    constants = (0.5,) * channels, (0.2,) * channels
    return ddbench.Dataset(name, names, names, size, *constants, split, split, "f", "made for a test", flip)


def _protocol(ctx, data=None, preset="", network="convnet-3", learning_rate=None, **options):
    ctx = replace(ctx, plugins=load_plugins(), _dataset=data or _data(), explicit={"evaluator": options})
    ctx = replace(ctx, preset=Preset.parse(preset))
    evaluator, mine, _ = prepare_evaluator(ctx, "dc", network, 1)
    distilled = ddbench.DistilledSet(np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1, int), learning_rate=learning_rate)
    return evaluator.protocol(mine, distilled)


def test_learning_rate_of_300_epochs():
    rates = np.array([0.01 * dc_step(300)(e) for e in range(301)])
    assert rates[:152] == pytest.approx(0.01)
    assert rates[152:] == pytest.approx(0.001)
    assert dc_restart_epoch(300) == 152


def test_plain_training_as_for_dc(ctx):
    found = _protocol(ctx).settings
    assert (found["epochs"], found["lr"], found["batch_size"], found["weight_decay"]) == (300, 0.01, 256, 5e-4)
    assert found["augmentation"] == ["plain"]
    assert found["selection"] == "last"


def test_a_thousand_epochs_with_dsa_as_for_dsa_dm_and_mtt(ctx):
    found = _protocol(ctx, augment="dsa").settings
    assert found["epochs"] == 1000
    assert found["augmentation"] == ["dsa", "flip"]
    assert _protocol(ctx, _data(flip=False), augment="dsa").settings["augmentation"] == ["dsa"]


def _formed(learned=False, **options):
    labels = np.array([0, 0, 1])
    images = np.arange(3 * 32 * 32 * 3, dtype=np.float32).reshape(3, 32, 32, 3) / 9216
    soft = np.eye(10, dtype=np.float32)[labels] * np.array([[1], [2], [3]], np.float32) if learned else None
    return ddbench.DistilledSet(images, labels, "unit", soft_labels=soft, extra={"factor": 2}, **options)


@pytest.mark.parametrize("name", ["dc", "datm", "dc-robust"])
def test_how_images_that_hold_several_are_seen_is_asked_for(ctx, name):
    for decode in (None, True, False):
        mine = replace(ctx, plugins=load_plugins(), _dataset=_data(), explicit={"evaluator": {"decode": decode}})
        bound = prepare_evaluator(mine, name, "convnet-3", 1)
        check_fit(bound, "idm", frozenset())
        check_fit(bound, "not known", None)
        asked = pytest.raises(ddbench.UsageError, match="holds several") if decode is None else contextlib.nullcontext()
        with asked:
            check_fit(bound, "idm", _formed(learned=False).holds)


def test_methods_tell_that_their_images_hold_several():
    base, told = setup.with_dataset(setup.context(), "digits"), {}
    for name in ("idm", "ncfm", "idc", "dream", "idc-1", "dm"):
        told[name] = "tiles" in (held(prepare_method(base, name, 1, 0)) or ())
    assert told == {"idm": True, "ncfm": True, "idc": True, "dream": True, "idc-1": False, "dm": False}


@pytest.mark.parametrize("name", ["dc", "datm"])
def test_images_that_hold_several_are_decoded_where_that_is_asked_for(ctx, name):
    torch = pytest.importorskip("torch")
    made, protocols = _formed(learned=name == "datm"), {}
    for decode in (None, True):
        mine = replace(ctx, plugins=load_plugins(), _dataset=_data(), explicit={"evaluator": {"decode": decode}})
        evaluator, mine, _ = prepare_evaluator(mine, name, "convnet-3", 1)
        assert evaluator.decodes(mine) == bool(decode)
        protocols[decode] = evaluator.protocol(mine, made).settings
        images, labels = evaluator.recipe(mine, made).decoded(*evaluator._tensors(mine, made)[:2])
    assert protocols[None] == protocols[True] | {"formation": "as stored"}
    assert images.shape == (12, 3, 32, 32)
    first = torch.nn.functional.interpolate(
        torch.tensor(made.images).permute(0, 3, 1, 2)[:2, :, :16, :16], scale_factor=2, mode="bilinear"
    )
    torch.testing.assert_close(images[:2], first)
    if name == "dc":
        assert labels.tolist() == [0] * 8 + [1] * 4
    else:
        assert labels.sum(1).tolist() == [1, 2] * 4 + [3] * 4


def test_official_runs_one_epoch_more_and_forgets_the_momentum(ctx):
    sane, official = _protocol(ctx), _protocol(ctx, preset="official")
    assert official.settings["epochs"] == sane.settings["epochs"] + 1 == 301
    assert official.settings["schedule"] == sane.settings["schedule"] == "×0.1 after 152 epochs"
    assert "anew" in official.settings["optimiser"]
    assert official.digest != sane.digest


def test_what_the_released_code_augments_without_dsa(ctx):
    assert _protocol(ctx, _data("mnist", 28, 1, flip=False)).settings["augmentation"] == ["crop_scale_rotate"]
    batch_norm = _protocol(ctx, network="convnet-3-bn").settings
    assert (batch_norm["augmentation"], batch_norm["epochs"]) == (["crop_noise"], 1000)


def test_a_learned_rate_travels_with_the_set(ctx):
    one, other = (_protocol(ctx, learning_rate=rate) for rate in (0.03, 0.05))
    assert one.settings["lr"] == "learned with the set" and one.digest == other.digest
    assert _protocol(ctx, learning_rate=0.03, lr="0.02").settings["lr"] == 0.02


def test_the_rate_of_a_set_of_pairs_is_not_a_classifiers():
    texts = ddbench.Texts(np.zeros((1, 2), np.float32), "encoder", "digest", "cls", 0.2)
    plain = ddbench.DistilledSet(np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1, int), learning_rate=0.3)
    assert (learned_rate(plain), learned_rate(replace(plain, texts=texts))) == (0.3, None)


@pytest.mark.parametrize("names", [["crop"], ["scale"], ["rotate"], ["noise"], ["crop", "scale", "rotate"]])
def test_each_operation_keeps_shape_and_numbers(names):
    import torch

    x = torch.randn(64, 3, 28, 28)
    before = x.clone()
    out = dc_augment.one_of(names)(x, torch.Generator().manual_seed(0))
    assert out.shape == x.shape
    assert torch.isfinite(out).all()
    assert torch.equal(x, before)
    assert not torch.equal(out, x)


def test_crop_shifts_by_minus_four_to_three_and_fills_with_the_mean_colour():
    import torch

    x = torch.zeros(400, 1, 16, 16)
    x[:, :, 8, 8] = 100.0
    out = dc_augment.one_of(["crop"])(x, torch.Generator().manual_seed(0))
    places = (out == 100).nonzero()
    assert len(places) == 400
    for axis in (2, 3):
        assert set((8 - places[:, axis]).tolist()) == set(range(-4, 4))
    corner = out[out[:, 0, 15, 15] != 0, 0, 15, 15]
    assert len(corner) > 0
    assert torch.allclose(corner, x.mean())


def test_scale_moves_no_pixel_where_the_size_stays():
    import torch

    side = torch.tensor([28, 20, 33])
    rows = dc_augment._nearest(28, side, side.clamp(min=28))
    assert rows[0].tolist() == list(range(1, 29))
    assert (rows[1] == 0).sum() == 8  # 20 of 28 rows are covered, centred
    assert rows[1, :4].tolist() == [0] * 4
    assert rows[2].min() >= 1  # a larger image covers everything and loses its borders, two rows above and three below
    assert (rows[2].min(), rows[2].max()) == (2, 25)


@pytest.mark.parametrize(("height", "width"), [(22, 33), (33, 22), (33, 31), (23, 25), (30, 28), (27, 29)])
def test_scale_places_the_image_as_the_released_code(height, width):
    """Enlarged, into the middle of zeros, and the window out of the middle: every middle is rounded down."""
    import torch

    image = torch.rand(1, 1, 28, 28)
    large = max(height, width, 28)
    canvas = torch.zeros(large, large)
    top, left, edge = (large - height) // 2, (large - width) // 2, (large - 28) // 2
    resized = torch.nn.functional.interpolate(image, (height, width))[0, 0]
    canvas[top : top + height, left : left + width] = resized
    sides, largest = torch.tensor([[height], [width]]), torch.tensor([large])
    rows, columns = (dc_augment._nearest(28, side, largest)[0] for side in sides)
    found = torch.nn.functional.pad(image, (1, 1, 1, 1))[0, 0][rows][:, columns]
    assert torch.equal(found, canvas[edge : edge + 28, edge : edge + 28])


def test_rotation_is_about_the_centre_and_by_at_most_45_degrees():
    import torch

    x = torch.zeros(200, 1, 33, 33)
    x[:, :, 16, 16] = 1.0
    out = dc_augment.one_of(["rotate"])(x, torch.Generator().manual_seed(0))
    assert out[:, 0, 16, 16].min() > 0.9
    x = torch.zeros(200, 1, 33, 33)
    x[:, :, 16, 28] = 1.0
    out = dc_augment.one_of(["rotate"])(x, torch.Generator().manual_seed(0))
    assert out[:, :, :, :16].abs().max() < 0.5  # nothing turns to the other side


@pytest.mark.slow
def test_it_trains_on_real_digits(ctx, digits):
    ctx = replace(ctx, _dataset=digits, explicit={"evaluator": {"epochs": "20"}}, ipc=10)
    chosen = np.concatenate([digits.train.of_class(label)[:10] for label in range(10)])
    made = ddbench.DistilledSet(digits.train.images.batch(chosen.tolist(), 16), digits.train.labels[chosen])
    for preset in ("", "official"):
        evaluator, mine, _ = prepare_evaluator(replace(ctx, preset=Preset.parse(preset)), "dc", "", 10)
        score = evaluator.evaluate(mine, made, 0)
        assert score.last > 0.6
        assert score.curve[-1][0] == 20 + (preset == "official")
    assert dc.epochs(mine.options, "plain") == 20
