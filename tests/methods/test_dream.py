"""DREAM: IDC on the images nearest to the centres of their class (Liu et al. 2023)."""

from __future__ import annotations

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
from ddbench_plugins.methods.idc.representatives import RepresentativeMatching, Representatives  # noqa: E402
from ddbench_plugins.networks import convnet  # noqa: E402

QUICK = {"network": "convnet-1", "iterations": 2, "inner": 2, "train_images": 4, "lr_img": 0.1}


def _network():
    torch.manual_seed(0)
    return convnet.build(in_channels=3, image_size=8, num_classes=3, depth=2, width=4).eval()


@pytest.fixture
def real():
    return RealImages(toy_dataset(per_class=8, channels=3))


def test_as_many_representatives_as_images_are_all_of_them(real):
    find = Representatives(real, None, "fp32", seed=1)
    for count in (8, 20):
        assert sorted(find(_network(), 1, count, 0).tolist()) == real.members(1).tolist()


def test_representatives_are_the_images_nearest_to_the_centres(real):
    find = Representatives(real, None, "fp32", seed=1)
    chosen = find(_network(), 2, 1, 0)
    features = _network().embed(real.at(real.members(2))).detach()
    nearest = (features - features.mean(0)).square().sum(1).argmin()
    assert chosen.tolist() == [int(real.members(2)[nearest])]
    several = find(_network(), 2, 5, 0)
    assert len(set(several.tolist())) == 5
    assert set(several.tolist()) <= set(real.members(2).tolist())
    assert torch.equal(several, find(_network(), 2, 5, 0))


def test_of_candidates_alone(real):
    find = Representatives(real, 3, "fp32", seed=1)
    drawn = [tuple(sorted(find(_network(), 0, 8, number).tolist())) for number in range(6)]
    assert {len(some) for some in drawn} == {3}
    assert len(set(drawn)) > 1


def test_of_pixels_that_are_not_normalised(real):
    heard = []

    class Hearing(torch.nn.Module):
        def embed(self, x):
            heard.append(x)
            return x.flatten(1)

    for raw in (False, True):
        Representatives(real, None, "fp32", seed=1, raw_pixels=raw)(Hearing(), 1, 2, 0)
    normalised, plain = heard
    torch.testing.assert_close(plain, real.plain(normalised))
    assert plain.min() >= 0 and plain.max() <= 1 and normalised.min() < 0


def test_fewer_candidates_than_representatives_are_refused(ctx):
    for options, needed in (({"candidates": 7}, 8), ({"candidates": 3, "batch_real": 2}, 4)):
        with pytest.raises(ddbench.UsageError, match=f"no {needed} representatives"):
            _prepared(ctx, **QUICK | {"batch_real": 8} | options)
    _prepared(ctx, **QUICK, candidates=8)  # a class has no more


def test_options_that_change_nothing_are_refused(ctx):
    off = {"batches": "random", "init": "mix"}
    for unused, options in (
        ("cluster_every", {"batches": "random", "cluster_every": 5}),
        ("candidates", off | {"candidates": 8}),
        ("raw_pixels", off | {"raw_pixels": True}),
        ("init_first", {"init_first": True}),
        ("init_first", {"init": "noise", "init_first": True}),
        ("formation", {"factor": 1, "formation": "multi"}),
        ("biases", {"match": "features", "biases": True}),
        ("cutmix", {"train_images": 0, "cutmix": 0.5}),
    ):
        with pytest.raises(ddbench.UsageError, match=f"{unused} changes nothing"):
            _prepared(ctx, **QUICK | {"batch_real": 4} | options)
    _prepared(ctx, **QUICK, batches="random", candidates=8)  # images begin as representatives


def test_they_are_found_anew_every_so_many_steps_and_for_each_network(real):
    found = []
    work = RepresentativeMatching.__new__(RepresentativeMatching)
    work.real, work.every, work.chosen, work.network = real, 2, {}, None
    work.settings = type("Settings", (), {"inner": 5, "batch_real": 3})
    work.find = lambda network, label, count, number: found.append(number) or real.members(label)[:count]
    for number in range(11):
        assert len(work.real_batch(0, number)) == 3
    assert found == [0, 2, 4, 5, 7, 9, 10]  # five steps per network


def _prepared(ctx, method="dream", preset="", ipc=1, data=None, **options):
    data = data or toy_dataset(per_class=8, channels=3)
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, method, ipc, 0)


def test_with_its_differences_off_it_is_idc_bit_for_bit(ctx):
    plain = distil(_prepared(ctx, "idc", **QUICK, batch_real=4)).content.images
    off = {"batches": "random", "init": "mix"}
    assert np.array_equal(distil(_prepared(ctx, **QUICK, batch_real=4, **off)).content.images, plain)
    for name in off:
        other = {key: value for key, value in off.items() if key != name}
        assert not np.array_equal(distil(_prepared(ctx, **QUICK, batch_real=4, **other)).content.images, plain)


def test_settings_of_the_paper_and_what_the_cpu_scale_shrinks(ctx, digits):
    cifar = replace(digits, name="cifar10", image_size=32)
    paper = _prepared(ctx, preset="paper", data=cifar)[1].options
    assert (paper.batch_real, paper.cluster_every, paper.candidates) == (128, 10, None)
    assert (paper.init, paper.batches, paper.iterations, paper.inner) == ("representative", "representative", 2000, 100)
    tiny = replace(digits, name="tiny-imagenet", image_size=64)
    fifty = _prepared(ctx, preset="paper", data=tiny, ipc=50)[1].options
    assert (fifty.network, fifty.batch_real, fifty.lr_img, fifty.train_images) == ("convnet-4", 64, 1e-6, 1000)
    small = _prepared(ctx, data=tiny, ipc=1)[1].options
    assert (small.network, small.lr_img, small.train_images, small.batch_real) == ("convnet-4", 5e-2, 500, 32)
    official = _prepared(ctx, preset="paper+official", data=cifar)[1]
    assert official.options.raw_pixels and "raw_pixels" not in _prepared(ctx, data=cifar)[1].resolved.counted()
    nette = replace(digits, name="imagenette", image_size=32)
    early = [_prepared(ctx, preset=name, data=nette)[1].options.early_epochs for name in ("paper", "paper+official")]
    assert early == [10, 0]  # set and never read by the released code
    assert _prepared(ctx, "idc", preset="paper+official", data=nette)[1].options.early_epochs == 10
    shrunk = {name for name, _, _ in _prepared(ctx, data=cifar)[1].resolved.shrunk}
    assert {"batch_real", "candidates", "iterations", "inner"} <= shrunk


def test_it_conforms(ctx):
    check_method(ctx.plugins.get("method", "dream").spec, options={**QUICK, "batch_real": 4, "factor": 1})
