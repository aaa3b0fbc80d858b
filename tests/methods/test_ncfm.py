"""NCFM: DM with characteristic functions, networks between random and trained, calibration (Wang et al. 2025)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_method
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.images import RealImages  # noqa: E402
from ddbench_plugins.methods.dm.characteristic import (  # noqa: E402
    Characteristic,
    CharacteristicMatching,
    characteristic_distance,
)
from ddbench_plugins.methods.dm.matching import Matching  # noqa: E402
from ddbench_plugins.methods.dm.pairs import between  # noqa: E402
from ddbench_plugins.methods.dm.tiled import UnitTiles, initial_tiles  # noqa: E402
from ddbench_plugins.networks import convnet  # noqa: E402

SETTINGS = Matching(batch_real=5, strategy=(), bn_joint=True, precision="fp32", seed=5, step_per_class=True)
QUICK = {"network": "convnet-1", "batch_real": 5, "iterations": 3}
POOL = {"pool": 2, "pretrain_epochs": 1, "frequencies": 8}
OFF = {
    **{"distance": "means", "networks": "random", "calibration": 0, "optimiser": "sgd", "step_per_class": False},
    **{"unit": False, "factor": 1, "augment": "dsa", "lr_img": 1.0, "patience": 0},
}


def _sample(rows, width=3, seed=0):
    return torch.randn((rows, width), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_of_one_frequency_and_one_point_each():
    t, origin = torch.ones(1, 1), torch.zeros(1, 1)
    for x in (0.3, 2.0):  # φ = 1, ψ = exp(ix): ½ · 2 (1 − cos x)
        found = float(characteristic_distance(origin, torch.full((1, 1), x), t))
        assert found == pytest.approx(math.sqrt(1 - math.cos(x)), rel=1e-5)


def test_equal_samples_are_at_the_floor_in_any_order():
    f, t = _sample(6), _sample(5, seed=1)
    assert float(characteristic_distance(f, f, t)) == pytest.approx(math.sqrt(0.5e-12))
    other = _sample(4, seed=2)
    shuffled = characteristic_distance(f[torch.randperm(6)], other.flip(0), t)
    torch.testing.assert_close(shuffled, characteristic_distance(f, other, t))


def test_a_shift_changes_the_phase_alone():
    f, t, shift = _sample(6), _sample(1, seed=1), 0.2 * _sample(1, seed=2)
    size = torch.complex((f @ t.T).cos().mean(), (f @ t.T).sin().mean()).abs()
    # |φ| stays, so √(½ · 2|φ|² (1 − cos(t·shift)))
    wanted = (size.square() * (1 - (shift @ t.T).cos())).sqrt()
    torch.testing.assert_close(characteristic_distance(f, f + shift, t), wanted.squeeze())


def test_networks_between_trained_and_initial():
    pair = {"weight": torch.tensor([1.0, 3.0]), "count": torch.tensor(2)}, {"weight": torch.tensor([2.0, 5.0])}
    pair[1]["count"] = torch.tensor(7)
    assert between(pair, 1.0)["weight"].tolist() == [1, 3]
    assert between(pair, 0.0)["weight"].tolist() == [2, 5]
    assert between(pair, 0.25)["weight"].tolist() == [1.75, 4.5]
    assert int(between(pair, 0.5)["count"]) == 7


def _network(number):
    torch.manual_seed(number)
    network = convnet.build(in_channels=3, image_size=8, num_classes=3, depth=2, width=4)
    return network.to(memory_format=torch.channels_last).train()


def _work(calibration=1.0, pairs=2):
    real = RealImages(toy_dataset(per_class=8, channels=3))
    images = UnitTiles(initial_tiles(real, 1, 2, "real", 3), 1, 0.01, 2, real)
    images.optimiser = torch.optim.AdamW([images.images], 0.01)
    own = Characteristic("characteristic", 8, calibration, 1)
    states = [(_network(i).state_dict(), _network(10 + i).state_dict()) for i in range(pairs)]
    return CharacteristicMatching(images, real, _network, SETTINGS, own, states)


def test_pixels_are_held_between_0_and_1_and_shown_normalised():
    images = _work().images
    with torch.no_grad():
        images.images.add_(2)
    assert float(images.shown.max()) == 1
    images.clamp()
    assert float(images.images.detach().max()) == 1
    white = (1 - images.mean) / images.std
    torch.testing.assert_close(images.of_class(0).detach(), white.expand(4, 3, 8, 8))


@pytest.mark.parametrize(("calibration", "steps"), [(0.0, 3), (1.0, 6)])
def test_a_step_after_each_class_and_each_calibration(calibration, steps):
    work = _work(calibration)
    work.step(0)
    assert int(work.images.optimiser.state[work.images.images]["step"]) == steps


def test_calibration_is_by_the_trained_network():
    work = _work()
    work.step(0)
    trained = _network(0)
    trained.load_state_dict(work.pair[1])
    with torch.no_grad():
        named = [
            torch.nn.functional.cross_entropy(trained(work.images.of_class(c)), torch.full((4,), c)) for c in range(3)
        ]
    work._move = lambda: None  # the images stay
    assert float(work._calibrate(0)) == pytest.approx(float(sum(named)), rel=1e-4)


def test_the_rate_is_halved_where_the_loss_no_longer_falls(monkeypatch):
    from ddbench_plugins.methods.dm.matching import DistributionMatching

    work = _work(calibration=0.0)
    losses = iter([3.0, 2.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr(DistributionMatching, "step", lambda self, number: torch.tensor(next(losses)))
    rates = []
    for number in range(5):
        work.step(number)
        rates.append(work.images.optimiser.param_groups[0]["lr"])
    assert rates == [0.01, 0.01, 0.01, 0.005, 0.005]  # patience 1


def _prepared(ctx, method="ncfm", preset="", ipc=1, data=None, **options):
    data = data or toy_dataset(per_class=8, channels=3)
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, method, ipc, 0)


def test_with_its_differences_off_it_is_dm_bit_for_bit(ctx):
    plain = distil(_prepared(ctx, "dm", **QUICK)).content.images
    assert np.array_equal(distil(_prepared(ctx, **QUICK, **OFF)).content.images, plain)
    on = {"distance": "characteristic", "unit": True, "step_per_class": True, "augment": "idc"}
    for name, value in on.items():
        assert not np.array_equal(distil(_prepared(ctx, **QUICK, **OFF | {name: value})).content.images, plain), name


def test_a_run_with_its_pool(ctx):
    made = distil(_prepared(ctx, **QUICK, **POOL)).content
    assert made.space == "unit"
    assert made.extra["factor"] == 2
    assert made.images.min() >= 0 and made.images.max() <= 1
    assert len(list((ctx.store.root / "network-pair").iterdir())) == 2


def test_networks_are_trained_on_images_that_are_recoloured_and_shifted(ctx, monkeypatch):
    from ddbench_plugins.methods.dm import pairs

    heard, train = [], pairs.train
    monkeypatch.setattr(pairs, "train", lambda *args, **options: (heard.append(options), train(*args, **options))[1])
    distil(_prepared(ctx, **QUICK, **POOL | {"pool": 1}))
    (options,) = heard
    assert options["batch_size"] == 128
    draw = options["augment"].draw
    for seed in range(8):  # always both, an own draw for each image
        _, drawn = draw((5, 3, 8, 8), torch.Generator().manual_seed(seed))  # the first is the normalisation
        assert [(one.operator, len(one.values[0])) for one in drawn] == [("color", 5), ("crop", 5)]


def test_settings_of_the_paper_and_what_the_cpu_scale_shrinks(ctx, digits):
    cifar = replace(digits, name="cifar10", image_size=32)
    paper = _prepared(ctx, preset="paper", ipc=10, data=cifar)[1].options
    assert (paper.iterations, paper.batch_real, paper.lr_img, paper.optimiser) == (20000, 1024, 0.01, "adamw")
    assert (paper.pool, paper.pretrain_epochs, paper.frequencies, paper.calibration) == (20, 60, 4096, 1.0)
    assert paper.pretrain_batch == 128
    assert (paper.factor, paper.weight_decay, paper.patience) == (2, 5e-4, 500)
    hundred = _prepared(ctx, preset="paper", ipc=10, data=replace(cifar, name="cifar100"))[1].options
    assert hundred.optimiser == "sgd"
    shrunk = {name for name, _, _ in _prepared(ctx, ipc=10, data=cifar)[1].resolved.shrunk}
    assert {"iterations", "batch_real", "frequencies", "pool", "pretrain_epochs", "network"} <= shrunk


def test_whitened_images_are_refused(ctx):
    with pytest.raises(ddbench.UsageError):
        distil(_prepared(ctx, **QUICK, **POOL, data=replace(toy_dataset(channels=3), zca="mtt")))


def test_it_conforms(ctx):
    spec = ctx.plugins.get("method", "ncfm").spec
    check_method(spec, options={**QUICK, **POOL, "batch_real": 4, "factor": 1})
