"""The IDC protocol's numbers (Kim et al. 2022, argument.py, test.py, misc/augment.py) and multi-formation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.training.formation import decode

import ddbench
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.plugin.manager import load_plugins
from ddbench.plugin.options import Preset


def _data(name: str = "toy", size: int = 32, classes: int = 10, channels: int = 3, flip: bool = True):
    labels = np.arange(classes)
    images = ddbench.ArrayImages(np.zeros((classes, size, size, channels), np.uint8))
    split = ddbench.Split(images, labels, tuple(map(str, labels)))
    names = tuple(map(str, labels))
    constants = (0.5,) * channels, (0.2,) * channels
    return ddbench.Dataset(name, names, names, size, *constants, split, split, "f", "made for a test", flip)


def _protocol(ctx, data, ipc=10, preset="", network="", extra=None, **options):
    ctx = replace(ctx, plugins=load_plugins(), _dataset=data, explicit={"evaluator": options})
    evaluator, mine, _ = prepare_evaluator(replace(ctx, preset=Preset.parse(preset)), "idc", network, ipc)
    return evaluator.protocol(
        mine, ddbench.DistilledSet(np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1, int), extra=extra or {})
    )


def test_small_images(ctx):
    found = _protocol(ctx, _data("cifar10"))
    assert found.extension == ""
    assert "does not evaluate" in _protocol(ctx, _data()).extension
    assert _protocol(ctx, _data(size=224)).extension == ""
    assert {name: found.settings[name] for name in ("network", "epochs", "batch_size", "lr", "weight_decay")} == {
        "network": "convnet-3",
        "epochs": 1000,
        "batch_size": 64,
        "lr": 0.01,
        "weight_decay": 5e-4,
    }
    assert found.settings["augmentation"] == ["flip", "colour", "one of crop, scale, rotate", "cutmix 0.5"]


def test_exceptions_of_svhn_and_mnist(ctx):
    svhn = _data("svhn", flip=False)
    assert _protocol(ctx, svhn, ipc=1).settings["augmentation"] == [
        "colour",
        "one of crop, scale, rotate",
        "cutout",
        "cutmix 0.0",
    ]
    for other in (_protocol(ctx, svhn, ipc=10), _protocol(ctx, svhn, ipc=1, factor="2")):
        assert other.settings["augmentation"] == ["colour", "one of crop, scale, rotate", "cutmix 0.5"]
    mnist = _data("mnist", 28, channels=1, flip=False)
    assert _protocol(ctx, mnist).settings["augmentation"][-1] == "cutmix 0.5"
    assert _protocol(ctx, mnist, factor="2").settings["augmentation"][-1] == "cutmix 0.0"


@pytest.mark.parametrize(
    ("classes", "factor", "ipc", "epochs"),
    [
        *((10, 1, ipc, e) for ipc, e in ((1, 3000), (10, 2000), (20, 1500), (50, 1500))),
        *((10, 3, ipc, e) for ipc, e in ((10, 1000), (20, 1000), (50, 500))),
        *((100, 1, ipc, e) for ipc, e in ((10, 1300), (20, 1000), (50, 1000))),
        *((100, 3, ipc, e) for ipc, e in ((10, 600), (20, 600), (50, 300))),
    ],
)
def test_epochs_of_imagenet_subsets(ctx, classes, factor, ipc, epochs):
    found = _protocol(ctx, _data(size=224, classes=classes), ipc=ipc, factor=str(factor)).settings
    assert found["epochs"] == epochs
    assert (found["lr"], found["weight_decay"], found["batch_size"]) == (
        (0.1, 1e-4, 128) if classes == 100 else (0.01, 5e-4, 64)
    )
    assert found["augmentation"][0] == "random resized crop (0.5, 1)"
    assert found["augmentation"][-1] == "cutmix 1.0"


def test_bound_counts_at_most_128_images(ctx):
    data = _data(size=224)
    assert _protocol(ctx, data, ipc=50, factor="3", bound="true").settings["epochs"] == 1000


def test_densenet_trains_shorter_on_many_formed_images(ctx):
    assert _protocol(ctx, _data(), ipc=50, network="densenet-cifar", factor="2").settings["epochs"] == 400
    assert _protocol(ctx, _data(), ipc=50, network="densenet-cifar").settings["epochs"] == 1000
    assert _protocol(ctx, _data(), ipc=10, network="densenet-cifar", factor="2").settings["epochs"] == 1000


def test_official_selects_and_uses_cifar10s_constants_on_cifar100(ctx):
    data = _data("cifar100", classes=100)
    sane, official = _protocol(ctx, data), _protocol(ctx, data, preset="official")
    assert (sane.settings["selection"], official.settings["selection"]) == ("last", "best_test")
    assert sane.settings["normalisation"] == "dataset"
    assert official.settings["normalisation"] == [[0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.201]]


def test_the_factor_travels_with_the_set(ctx):
    assert "formation" not in _protocol(ctx, _data()).settings
    assert _protocol(ctx, _data(), extra={"factor": 2}).settings == _protocol(ctx, _data()).settings
    assert _protocol(ctx, _data(), extra={"factor": 2}, factor="1").settings["formation"] == "as stored"
    assert "3 × 3" in _protocol(ctx, _data(), extra={"factor": 2}, factor="3").settings["formation"]


def test_decoding():
    import torch

    images = torch.arange(2 * 1 * 4 * 4, dtype=torch.float32).view(2, 1, 4, 4)
    labels = torch.tensor([0, 1])
    assert decode(images, labels, 1)[0] is images
    found, names = decode(images, labels, 2)
    assert found.shape == (8, 1, 4, 4)
    assert names.tolist() == [0] * 4 + [1] * 4
    # Enlarging keeps the mean of a linear ramp; tiles come row by row.
    means = found.mean(dim=(1, 2, 3))
    assert means[:4].tolist() == pytest.approx([2.5, 4.5, 10.5, 12.5])


def test_decoding_goes_tile_by_tile_through_a_class_and_pads_with_grey():
    import torch

    images = torch.stack([torch.full((3, 5, 5), value) for value in (0.0, 1.0)])
    found, names = decode(images, torch.tensor([7, 7]), 2)
    assert names.tolist() == [7] * 8
    assert found[:2, 0, 0, 0].tolist() == [0.0, 1.0]  # both first tiles, then both second ones
    assert found[7, 0, 4, 4] == pytest.approx(0.5)  # 5 pixels become 2 × 3 with a border of 0.5
    as_bytes, _ = decode((images * 255).to(torch.uint8), torch.tensor([7, 7]), 2)
    assert torch.allclose(as_bytes, found)
