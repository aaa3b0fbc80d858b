"""DCC and DSAC: DC and DSA on the gradient of all classes together (Lee et al. 2022)."""

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
from ddbench_plugins.matching.distances import distance  # noqa: E402
from ddbench_plugins.matching.images import RealImages, SyntheticImages, initial_images  # noqa: E402
from ddbench_plugins.methods.dc.contrast import ContrastiveMatching  # noqa: E402
from ddbench_plugins.methods.dc.matching import _MATCHING, GradientMatching, Matching  # noqa: E402
from ddbench_plugins.networks import convnet  # noqa: E402
from ddbench_plugins.training.seeding import make_generator  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

SETTINGS = Matching(
    **{"outer": 3, "inner": 1, "batch_real": 6, "batch_train": 8, "lr_net": 0.01, "metric": "rows"},
    **{"strategy": (), "joint_step": False, "precision": "fp32", "seed": 5},
)
QUICK = {"network": "convnet-1", "batch_real": 5, "iterations": 2, "outer": 2, "inner": 2}


def _network(number):
    torch.manual_seed(number)
    return convnet.build(in_channels=3, image_size=8, num_classes=3, depth=2, width=4, activation="swish")


def _work(kind, classes=3, ipc=2, **more):
    real = RealImages(toy_dataset(per_class=6, channels=3))
    real._members = real._members[:classes]
    images = SyntheticImages(initial_images(real, ipc, "noise", 3), ipc, 0.1)
    return kind(images, real, _network, SETTINGS, **more)


def _contrastive(classes=3, iterations=0, outer=0):
    return _work(ContrastiveMatching, classes, warmup_iterations=iterations, warmup_outer=outer)


def test_the_gradient_of_balanced_classes_together_is_matched():
    work, network = _contrastive(), _network(0)
    x = work.images.images.detach().clone().requires_grad_()
    parts = [work.real.draw(c, 6, make_generator(SETTINGS.seed, _MATCHING, 1, c + 1)) for c in range(3)]
    sides = [(torch.cat(parts), 6), (x, 2)]
    gradients = [
        torch.autograd.grad(
            cross_entropy(network(images), torch.arange(3).repeat_interleave(each)),
            list(network.parameters()),
            create_graph=True,
        )
        for images, each in sides
    ]
    loss = distance("rows", [g.detach() for g in gradients[0]], gradients[1])
    loss.backward()
    begun = x.detach().clone()
    assert work.step(0) == pytest.approx(float(loss.detach()), rel=1e-5)
    torch.testing.assert_close(work.images.images.detach(), begun - 0.1 * x.grad, rtol=1e-4, atol=1e-5)


def test_of_one_class_it_is_dcs_loss():
    with_one = _contrastive(classes=1), _work(GradientMatching, classes=1)
    losses = [float(work.step(0)) for work in with_one]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(*(work.images.images.detach() for work in with_one))


@pytest.mark.parametrize(
    ("number", "contrastive"),
    [(0, False), (1, False), (2, True), (3, False), (5, True), (6, True), (7, True)],  # three steps per network
)
def test_the_signal_by_network_and_step(number, contrastive):
    warm, plain = _contrastive(iterations=2, outer=2), _work(GradientMatching)
    for work in (warm, plain):
        work.use(_network(0))
    assert (warm.step(number) != plain.step(number)) == contrastive


def _prepared(ctx, method="dcc", ipc=2, preset="", data=None, **options):
    data = data or toy_dataset(per_class=6, channels=3)
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, method, ipc, 0)


@pytest.mark.parametrize(("method", "parent"), [("dcc", "dc"), ("dsac", "dsa")])
def test_with_the_signal_of_each_class_it_is_its_parent_bit_for_bit(ctx, method, parent):
    plain = distil(_prepared(ctx, parent, **QUICK, init="real")).content.images
    same = distil(_prepared(ctx, method, **QUICK, warmup_outer=0, signal="class")).content.images
    other = distil(_prepared(ctx, method, **QUICK, warmup_outer=0, warmup_iterations=0)).content.images
    never = distil(_prepared(ctx, method, **QUICK, warmup_outer=2)).content.images
    assert np.array_equal(same, plain)
    assert np.array_equal(never, plain)
    assert not np.array_equal(other, plain)


def test_without_augmentation_dsac_is_dcc(ctx):
    on = QUICK | {"warmup_outer": 0}
    made = [distil(_prepared(ctx, name, **on, augment="none")).content.images for name in ("dcc", "dsac")]
    assert np.array_equal(*made)


def test_settings_of_the_paper_and_what_the_cpu_scale_shrinks(ctx, digits):
    cifar = replace(digits, name="cifar10", image_size=32)
    paper = _prepared(ctx, ipc=10, preset="paper", data=cifar)[1].options
    assert (paper.iterations, paper.outer, paper.inner, paper.batch_real) == (1000, 10, 50, 256)
    assert (paper.signal, paper.warmup_iterations, paper.warmup_outer) == ("contrast", 250, 10)
    assert (paper.init, paper.augment) == ("real", "none")
    one = _prepared(ctx, "dsac", ipc=1, preset="paper", data=cifar)[1].options
    assert (one.outer, one.inner, one.init, one.augment) == (10, 5, "real", "dsa")
    shrunk = _prepared(ctx, ipc=10, data=cifar)[1].resolved.shrunk
    assert {name for name, _, _ in shrunk} == {"network", "iterations", "batch_real", "warmup_iterations"}


@pytest.mark.parametrize(("method", "extra"), [("dcc", False), ("dsac", False), ("dc", True), ("dsa", True)])
def test_the_released_loop_does_not_train_its_last_iteration(ctx, method, extra):
    official = _prepared(ctx, method, preset="official")[1].options
    assert (official.joint_step, official.extra_iteration) == (True, extra)


def test_a_budget_for_which_the_released_code_does_nothing_is_refused(ctx):
    with pytest.raises(ddbench.UsageError, match="IPC"):
        _prepared(ctx, ipc=7, preset="paper")


def test_a_warm_up_longer_than_the_loop_is_refused(ctx):
    with pytest.raises(ddbench.UsageError, match="warm-up of 3 steps per network, but outer is 2"):
        _prepared(ctx, **QUICK, warmup_outer=3)


@pytest.mark.parametrize("method", ["dcc", "dsac"])
def test_they_conform(ctx, method):
    check_method(ctx.plugins.get("method", method).spec, options=QUICK | {"batch_real": 4, "warmup_outer": 0})
