"""The Minimax protocol's numbers (Gu et al. 2024, argument.py and train.py; IDC for small images)."""

from __future__ import annotations

import numpy as np
import pytest
from ddbench_plugins.training import idc_recipe
from ddbench_plugins.training.schedules import idc_multi_step

import ddbench
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.plugin.manager import load_plugins

IPCS = (1, 10, 20, 50, 100, 200, 500, 1000)


def test_epoch_rule():
    assert [idc_recipe.epochs(ipc, 10) for ipc in IPCS] == [3000, 2000, 1500, 1500, 1000, 1000, 500, 300]
    assert [idc_recipe.epochs(ipc, 100) for ipc in IPCS] == [2000, 1300, 1000, 1000, 600, 600, 300, 200]
    assert idc_recipe.epochs(70, 10) == 1000


def test_learning_rate_of_2000_epochs():
    rates = np.array([0.01 * idc_multi_step(2000)(e) for e in range(2000)])
    assert rates[:1333] == pytest.approx(0.01)
    assert rates[1333:1666] == pytest.approx(0.002)
    assert rates[1666:] == pytest.approx(0.0004)


def test_a_hundred_tests_including_the_last_epoch_under_the_official_rule():
    for epochs in (3000, 2000, 1500, 1000, 500, 300):
        tests = idc_recipe.test_epochs(epochs, "best_test", 100)
        assert len(tests) == 100
        assert tests[-1] == epochs - 1
    assert list(idc_recipe.test_epochs(1000, "best_test", 4)) == [249, 499, 749, 999]
    assert idc_recipe.test_epochs(1000, "last", 4) == [999]


def test_the_last_epoch_is_tested_whatever_their_number():
    assert list(idc_recipe.test_epochs(9, "best_test", 4)) == [1, 3, 5, 7, 8]
    assert list(idc_recipe.test_epochs(3, "best_test", 4)) == [0, 1, 2]


def _data(size: int, classes: int, channels: int = 3, flip: bool = True) -> ddbench.Dataset:
    labels = np.arange(classes)
    images = ddbench.ArrayImages(np.zeros((classes, size, size, channels), np.uint8))
    split = ddbench.Split(images, labels, tuple(map(str, labels)))
    names = tuple(map(str, labels))
    return ddbench.Dataset(
        "toy", names, names, size, (0.5,) * channels, (0.2,) * channels, split, split, "f", "made for a test", flip
    )


def _protocol(ctx, data, ipc=1, **options):
    from dataclasses import replace

    ctx = replace(ctx, plugins=load_plugins(), _dataset=data, explicit={"evaluator": options})
    evaluator, mine, _ = prepare_evaluator(ctx, "minimax", "convnet-3", ipc)
    return evaluator.protocol(mine, ddbench.DistilledSet(np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1, int)))


def test_papers_setting_at_224(ctx):
    found = _protocol(ctx, _data(224, 10), ipc=10)
    assert found.extension == ""
    assert found.settings["epochs"] == 2000
    assert (found.settings["lr"], found.settings["weight_decay"], found.settings["batch_size"]) == (0.01, 5e-4, 64)
    assert found.settings["augmentation"][-1] == "cutmix 1.0"
    assert "pca lighting 0.1" in found.settings["augmentation"]


def test_more_than_a_hundred_classes_train_faster(ctx):
    found = _protocol(ctx, _data(224, 101)).settings
    assert (found["lr"], found["weight_decay"], found["batch_size"]) == (0.1, 1e-4, 128)
    found = _protocol(ctx, _data(224, 100)).settings
    assert (found["lr"], found["weight_decay"], found["batch_size"]) == (0.01, 5e-4, 64)


def test_small_images_follow_idc_and_say_so(ctx):
    found = _protocol(ctx, _data(64, 10))
    assert "IDC" in found.extension
    assert found.settings["epochs"] == 1000
    assert found.settings["augmentation"] == ["flip", "colour", "one of crop, scale, rotate", "cutmix 0.5"]
    assert found.digest != _protocol(ctx, _data(64, 10), epochs="300").digest


def test_images_that_must_not_be_mirrored_are_not(ctx):
    assert "flip" not in _protocol(ctx, _data(16, 10, 1, flip=False)).settings["augmentation"]


@pytest.mark.parametrize("augment", ["idc", "imagenet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_both_chains_keep_the_shape(ctx, augment, channels):
    from dataclasses import replace

    import torch

    data = _data(16, 4, channels)
    ctx = replace(ctx, _dataset=data, explicit={"evaluator": {"augment": augment}})
    evaluator, mine, _ = prepare_evaluator(ctx, "minimax", "convnet-3", 1)
    out = evaluator.recipe(mine, None).augmentation()(torch.rand(4, channels, 16, 16), torch.Generator().manual_seed(0))
    assert out.shape == (4, channels, 16, 16)
    assert torch.isfinite(out).all()
