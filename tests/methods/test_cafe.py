"""CAFE: class means at all levels, and the loops that watch an accuracy (Wang et al. 2022)."""

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
from ddbench_plugins.matching.draws import draw_view  # noqa: E402
from ddbench_plugins.matching.images import RealImages, SyntheticImages, initial_images  # noqa: E402
from ddbench_plugins.methods.cafe.levels import levels  # noqa: E402
from ddbench_plugins.methods.cafe.matching import _MATCHING, FeatureAlignment, Matching, Watcher  # noqa: E402
from ddbench_plugins.networks import convnet  # noqa: E402
from ddbench_plugins.training.dsa import STRATEGY  # noqa: E402
from ddbench_plugins.training.seeding import make_generator  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

SETTINGS = Matching(
    **{"batch_real": 6, "batch_train": 8, "lr_img": 0.1, "lr_milestones": (), "lr_net": 0.01},
    **{"weights": (0.1, 0.5, 1.0), "center": 1.0, "discrimination": 0.01, "query": 4, "window": 3},
    **{"outer_span": 0.04, "inner_span": 0.03, "max_outer": 3, "max_inner": 3, "carry_accuracy": True},
    **{"strategy": (), "precision": "fp32", "seed": 5},
)
QUICK = {
    **{"network": "convnet-1", "weights": [0.1, 1], "iterations": 2, "batch_real": 5, "query": 4},
    **{"window": 2, "max_outer": 2, "max_inner": 2},
}


def _network(number=0):
    torch.manual_seed(number)
    network = convnet.build(in_channels=3, image_size=8, num_classes=3, depth=2, width=4)
    return network.to(memory_format=torch.channels_last).train()


def _work(ipc=2, **settings):
    real = RealImages(toy_dataset(per_class=6, channels=3))
    images = SyntheticImages(initial_images(real, ipc, "noise", 3), ipc, 0.1)
    return FeatureAlignment(images, real, _network, replace(SETTINGS, **settings))


def _in_own_words(work, real):
    """The released loss, of undetached real features and classes one by one."""
    network, settings = _network(), work.settings
    x = work.images.images.detach().clone().requires_grad_()
    total, centres = 0.0, []
    for label, batch in enumerate(real):
        sides = [levels(network, each) for each in (batch, x[label * work.images.ipc : (label + 1) * work.images.ipc])]
        means = [[level.mean(0) for level in side] for side in sides]
        for weight, a, b in zip(settings.weights, *means, strict=True):
            total = total + weight * ((a - b) ** 2).sum()
        total = total + settings.center * ((means[0][-1] - means[1][-1]) ** 2).sum()
        centres.append(means[1][-1])
    for label, batch in enumerate(real):
        for feature in levels(network, batch)[-1]:
            logits = torch.stack([feature @ centre for centre in centres])
            total = total + settings.discrimination * cross_entropy(logits[None], torch.tensor([label]))
    total.backward()
    return float(total.detach()), x.grad


def test_the_loss_and_its_gradient_are_those_of_classes_one_by_one():
    work = _work()
    real = [work.real.draw(label, 6, make_generator(label)) for label in range(3)]
    wanted, gradient = _in_own_words(work, real)
    loss = work._loss(_network(), real, work.images.images)
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
    torch.testing.assert_close(torch.autograd.grad(loss, work.images.images)[0], gradient, rtol=1e-4, atol=1e-6)


def test_real_images_are_at_no_distance_of_themselves():
    work = _work(discrimination=0.0)
    real = [work.real.draw(label, 6, make_generator(label)) for label in range(3)]
    work.images = SyntheticImages(torch.cat(real), 6, 0.1)
    assert float(work._loss(_network(), real, work.images.images).detach()) < 1e-9


def test_the_features_count_twice():
    gradients = []
    for weights, center in (((0.0, 0.0, 1.0), 1.0), ((0.0, 0.0, 0.0), 1.0)):
        work = _work(weights=weights, center=center, discrimination=0.0)
        real = [work.real.draw(label, 6, make_generator(label)) for label in range(3)]
        loss = work._loss(_network(), real, work.images.images)
        gradients.append(torch.autograd.grad(loss, work.images.images)[0])
    torch.testing.assert_close(gradients[0], 2 * gradients[1])


def test_levels_are_what_pooling_gets_and_the_features():
    network, x = _network(), torch.randn(2, 3, 8, 8)
    found = levels(network, x)
    assert [tuple(level.shape) for level in found] == [(2, 4, 8, 8), (2, 4, 4, 4), (2, 16)]
    pooled = torch.nn.functional.avg_pool2d(found[1], 2).flatten(1)
    torch.testing.assert_close(found[2], pooled)
    assert all(not layer._forward_pre_hooks for layer in network.modules())


def test_a_class_and_its_real_images_share_an_augmentation_for_a_step():
    work = _work(strategy=STRATEGY)
    wanted = _work(strategy=STRATEGY)
    generators = [make_generator(SETTINGS.seed, _MATCHING, 1, 1, label + 1) for label in range(3)]
    real = [wanted.real.draw(label, 6, generator) for label, generator in enumerate(generators)]
    views = [draw_view(8, generator, STRATEGY) for generator in generators]
    shown = torch.cat([view(wanted.images.of_class(label)) for label, view in enumerate(views)])
    loss = wanted._loss(_network(), [view(x) for view, x in zip(views, real, strict=True)], shown)
    assert float(work._match(_network(), 0, 0)) == pytest.approx(float(loss.detach()))


def test_the_window_of_ten():
    accuracies = [0.1, 0.3, 0.31, 0.32, 0.3, 0.33, 0.33, 0.33, 0.33, 0.33, 0.33, 0.36]
    watcher = Watcher(10)
    spans = [watcher.span(accuracy) for accuracy in accuracies]
    assert spans[:9] == [None] * 9
    assert spans[9:] == pytest.approx(
        [0.23, 0.03, 0.06]
    )  # λ1 = 0.04 ends after the eleventh, λ2 = 0.03 after the tenth


def _loop(monkeypatch, after_matching, after_training, **settings):
    """Do an iteration with these accuracies, and return the work."""
    given = {True: iter(after_matching), False: iter(after_training)}
    monkeypatch.setattr(FeatureAlignment, "_query", lambda self, *place: next(given[place[-1] == 0]))
    work = _work(**settings)
    work.step(0)
    return work


def test_an_iteration_ends_where_accuracies_after_matching_are_alike(monkeypatch):
    trained = [0.1, 0.1, 0.5, 0.1, 0.1, 0.1, 0.2, 0.3, 0.1, 0.1]  # three epochs, four, three
    free = {"max_outer": None, "max_inner": None, "carry_accuracy": False}
    work = _loop(monkeypatch, [0.1, 0.5, 0.52, 0.51], trained, **free)
    assert work.loops == {"matchings": 4, "epochs": 10, "matchings_capped": 0, "epochs_capped": 0}


def test_caps_are_counted(monkeypatch):
    work = _loop(monkeypatch, [0.1, 0.5, 0.9], [0.2] * 8, max_inner=4, carry_accuracy=False)
    assert work.loops == {"matchings": 3, "epochs": 8, "matchings_capped": 1, "epochs_capped": 2}


def test_accuracies_carry_over_in_a_window():
    watcher = Watcher(3, 1 / 3)
    spans = [watcher.span(accuracy) for accuracy in (0.3, 0.6, 0.9)]
    assert spans == [None, None, pytest.approx(0.9 + 0.6 / 3 + 0.3 / 9 - 0.3)]


@pytest.mark.parametrize(("carry", "matchings", "epochs"), [(True, 5, 12), (False, 3, 20)])
def test_accuracies_carry_over_in_both_loops_and_not_from_one_to_the_next(monkeypatch, carry, matchings, epochs):
    monkeypatch.setattr(FeatureAlignment, "_query", lambda *place: 0.6)
    # Carried, it is seen as 0.6, 0.8, 0.867, 0.889, 0.896: trainings move at once, and matching settles at the fifth.
    work = _work(max_outer=None, max_inner=10, carry_accuracy=carry)
    for number in range(2):
        work.step(number)
        assert (work.loops["matchings"], work.loops["epochs"]) == ((number + 1) * matchings, (number + 1) * epochs)


def test_the_learning_rate_is_halved_at_milestones():
    work = _work(lr_milestones=(1, 3), max_outer=1)
    rates = []
    for number in range(4):
        work.step(number)
        rates.append(work.images.optimiser.param_groups[0]["lr"])
    assert rates == [0.1, 0.05, 0.05, 0.025]


def _prepared(ctx, preset="", ipc=2, data=None, **options):
    ctx = replace(ctx, _dataset=data or toy_dataset(per_class=6), explicit={"method": options})
    return prepare_method(replace(ctx, preset=Preset.parse(preset)), "cafe", ipc, 0)


def test_a_seed_gives_its_images_and_a_set_tells_of_its_caps(ctx):
    with pytest.warns(UserWarning, match="cut short: 2 of 2 networks after 2 matchings"):
        made = distil(_prepared(ctx, **QUICK, outer_span=1e-9, inner_span=2)).content
    assert made.extra["loops"] == {"matchings": 4, "epochs": 4, "matchings_capped": 2, "epochs_capped": 2}
    again = distil(_prepared(ctx, **QUICK, outer_span=2e-9, inner_span=2)).content
    assert np.array_equal(made.images, again.images)


def test_a_network_with_other_levels_is_refused(ctx):
    with pytest.raises(ddbench.UsageError, match="convnet-2 has 2 pooling layers, so its levels need 3 weights, not 2"):
        _prepared(ctx, **QUICK | {"network": "convnet-2"})


def test_settings_of_the_paper_and_what_the_cpu_scale_shrinks(ctx, digits):
    cifar = replace(digits, name="cifar10", image_size=32)
    paper = _prepared(ctx, "paper", data=cifar)[1].options
    assert (paper.network, paper.iterations, paper.batch_real, paper.query) == ("convnet-3", 2000, 256, 128)
    assert (paper.lr_img, paper.lr_milestones, paper.weights) == (0.1, (1200, 1600, 1800), (0.1, 0.1, 1.0, 1.0))
    assert (paper.window, paper.outer_span, paper.inner_span) == (10, 0.04, 0.03)
    assert (paper.max_outer, paper.max_inner, paper.carry_accuracy) == (None, None, True)
    assert (paper.init, paper.augment, paper.extra_iteration) == ("noise", "none", False)
    assert _prepared(ctx, "official", data=cifar)[1].options.extra_iteration
    shrunk = {name for name, _, _ in _prepared(ctx, data=cifar)[1].resolved.shrunk}
    assert shrunk == {*("network", "iterations", "lr_milestones", "batch_real", "query"), "max_outer", "max_inner"}


def test_28_grey_pixels_and_three_classes(ctx):
    spec = ctx.plugins.get("method", "cafe").spec
    check_method(spec, options=QUICK)
    data = replace(toy_dataset(per_class=6), image_size=28)
    made = distil(_prepared(ctx, data=data, ipc=1, **QUICK)).content
    assert made.images.shape == (3, 28, 28, 1)
