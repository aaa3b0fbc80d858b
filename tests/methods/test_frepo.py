"""FRePo: regression on the features of a pool of networks in training (Zhou et al. 2022, lib/datadistillation/)."""

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
from ddbench_plugins.kernels.ridge import centred, regularised, solve  # noqa: E402
from ddbench_plugins.matching.images import RealImages, initial_images  # noqa: E402
from ddbench_plugins.methods.frepo.distiller import label_scale  # noqa: E402
from ddbench_plugins.methods.frepo.lamb import Lamb  # noqa: E402
from ddbench_plugins.methods.frepo.pool import Pool  # noqa: E402
from ddbench_plugins.methods.frepo.regression import (  # noqa: E402
    FeatureRegression,
    Settings,
    decidedness,
    features,
    rate,
)
from ddbench_plugins.methods.kernel.support import Support  # noqa: E402
from ddbench_plugins.networks import widening  # noqa: E402

TOY = toy_dataset(channels=3)
SETTINGS = Settings(batch_real=16, lr_img=0.01, lr_iterations=10, ridge=1e-6, flip=True, precision="fp32", seed=5)
QUICK = {"iterations": "2", "network": "frepo-convnet-3-bn-w32", "batch_real": "8", "pool": "2"}


def _network(number, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(number)
        return widening.build(in_channels=3, image_size=8, num_classes=3, width=4, norm="batch").to(dtype)


def _work(ipc=2, learn_labels=True, dtype=torch.float32, updates=2, **settings):
    real = RealImages(TOY)
    begun = initial_images(real, ipc, "real", 3).to(dtype)
    support = Support(begun, ipc, lambda learned: Lamb(learned, 0.01), learn_labels=learn_labels)
    pool = Pool(lambda number: _network(number, dtype), 2, updates, 3e-4)
    return FeatureRegression(support, real, torch.tensor(TOY.train.labels), pool, replace(SETTINGS, **settings))


def _prepared(ctx, data=TOY, ipc=2, preset="", **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, "frepo", ipc, 0)


def test_a_step_of_lamb_is_adams_direction_as_long_as_the_rate_times_the_tensor():
    begun = torch.linspace(-2, 3, 12).view(3, 4)
    mine, theirs = begun.clone().requires_grad_(), begun.clone().requires_grad_()
    lamb, adam = Lamb([mine], 0.1), torch.optim.Adam([theirs], 1.0, eps=1e-6)
    for number in range(4):
        before = mine.detach().clone(), theirs.detach().clone()
        for tensor, optimiser in ((mine, lamb), (theirs, adam)):
            tensor.grad = torch.sin(begun * (number + 1)) * 3
            optimiser.step()
        moved, direction = mine.detach() - before[0], theirs.detach() - before[1]
        assert float(moved.norm()) == pytest.approx(0.1 * float(before[0].norm()), rel=1e-5)
        torch.testing.assert_close(moved / moved.norm(), direction / direction.norm())


def test_lamb_takes_adams_step_where_there_is_nothing_to_be_relative_to():
    zero = torch.zeros(3, requires_grad=True)
    zero.grad = torch.tensor([1.0, -2.0, 3.0])
    Lamb([zero], 0.1).step()
    torch.testing.assert_close(zero.detach(), torch.tensor([-0.1, 0.1, -0.1]), rtol=1e-5, atol=0)


def test_gradients_by_pixels_and_labels_are_those_of_differences():
    work = _work(dtype=torch.float64)
    network = work.pool.networks[0]
    images, targets = work.real.at(torch.arange(0, 36, 4)).double(), centred(torch.arange(9) // 3, 3)
    work.loss(network, images, targets).backward(inputs=[work.support.images, work.support.targets])
    for values in (work.support.images, work.support.targets):
        flat, slope = values.detach().view(-1), values.grad.flatten()
        for place in (0, 5, len(flat) - 1):
            sides = []
            for step in (1e-6, -2e-6):
                flat[place] += step
                sides.append(float(work.loss(network, images, targets).detach()))
            flat[place] += 1e-6
            assert float(slope[place]) == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4, abs=1e-7)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_mirror_images_double_the_support_inside_the_regression_only():
    work = _work()
    network = work.pool.networks[1].eval()
    images, targets = work.real.at(torch.arange(0, 36, 4)), centred(torch.arange(9) // 3, 3)
    with torch.no_grad():
        found = work.loss(network, images, targets)
        own = work.support.images
        ours = features(network, torch.cat([own, own.flip(-1)])).double()
        weights = solve(regularised(ours @ ours.T, 1e-6), work.support.targets.double().repeat(2, 1))
        by_hand = features(network, images).double() @ ours.T @ weights
    assert float(found) == pytest.approx(float((by_hand - targets).square().sum(1).mean() / 2), rel=1e-4)
    assert work.support.images.shape[0] == 6
    plain = _work(flip=False).loss(network, images, targets).detach()
    assert float(plain) != pytest.approx(float(found), rel=1e-3)


def test_fresh_labels_of_ten_classes_are_decided_as_much_as_counts():
    assert label_scale(10) == 1
    assert float(decidedness(centred(torch.arange(10), 10))) == pytest.approx(1 / 10)
    hundred = centred(torch.arange(100), 100) * label_scale(100)
    assert float(hundred.max()) == pytest.approx(0.99 / 10**0.5)
    assert float(decidedness(hundred)) == pytest.approx(1 / 100)
    assert float(decidedness(torch.tensor([[0.3, 0.28, 0.0], [0.0, 0.0, 0.0]]))) == pytest.approx(0.01)
    assert float(decidedness(torch.zeros(4, 1))) == 0


def test_the_learning_rate_falls_to_a_tenth_by_a_cosine_and_stays():
    assert [rate(share) for share in (0, 0.5, 1, 2)] == pytest.approx([1, 0.55, 0.1, 0.1])


def test_a_network_is_replaced_after_one_update_more_than_said():
    pool = Pool(_network, 2, 100, 3e-4)
    assert pool.ages == [0, 50]
    first = pool.networks[0]
    images, targets = torch.randn(4, 3, 8, 8), torch.zeros(4, 3)
    generator = torch.Generator()
    for _ in range(101):
        pool.update(0, images, targets, generator, torch.enable_grad())
    assert pool.networks[0] is first
    assert pool.born == 2
    trained = {name: value.clone() for name, value in first.state_dict().items()}
    pool.update(0, images, targets, generator, torch.enable_grad())
    assert pool.networks[0] is not first
    assert (pool.ages[0], pool.born) == (0, 3)
    fresh = _network(2).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in pool.networks[0].state_dict().items())
    assert all(torch.equal(value, trained[name]) for name, value in first.state_dict().items())


def test_a_network_is_trained_on_at_most_a_thousand_images(monkeypatch):
    monkeypatch.setattr("ddbench_plugins.methods.frepo.pool.TOGETHER", 3)
    pool, seen = Pool(_network, 1, 9, 3e-4), []
    pool.networks[0].register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    for count in (2, 8):
        pool.update(0, torch.randn(count, 3, 8, 8), torch.zeros(count, 3), torch.Generator(), torch.enable_grad())
    assert seen == [2, 3]


def test_resumed_work_ends_where_undisturbed_work_does():
    whole, first, second = _work(), _work(), _work()
    for number in range(8):
        whole.step(number)
    for number in range(5):
        first.step(number)
    second.restore(first.state())
    for number in range(5, 8):
        second.step(number)
    assert torch.equal(whole.support.images, second.support.images)
    assert torch.equal(whole.support.targets, second.support.targets)
    assert whole.pool.ages == second.pool.ages
    assert whole.pool.born == second.pool.born > 2


def test_the_regression_on_digits_gets_better(ctx, digits):
    made = [
        distil(_prepared(ctx, digits, 1, iterations=number, batch_real="100", lr_img="0.02")) for number in ("1", "60")
    ]
    assert made[1].content.extra["loss"] < 0.7 * made[0].content.extra["loss"]
    assert (made[1].content.space, made[1].content.label_kind) == ("normalized", "centred")


def test_labels_that_are_not_learned_stay_those_of_the_classes(ctx):
    made = distil(_prepared(ctx, **QUICK, learn_labels="false"))
    assert made.content.soft_labels is None


def test_a_snapshot_is_what_a_shorter_run_with_that_schedule_makes(ctx):
    longer = distil(_prepared(ctx, **(QUICK | {"iterations": "4", "snapshots": "[2]"})))
    kept = ddbench.load(longer.path / "snapshots" / "000002")
    alone = distil(_prepared(ctx, **(QUICK | {"iterations": "2", "lr_iterations": "4"})))
    assert kept.about["digest"] == alone.digest != longer.digest


def _few(classes, per_class=1, channels=3):
    images = np.random.default_rng(0).integers(0, 255, (classes * per_class, 8, 8, channels), np.uint8)
    labels = np.repeat(np.arange(classes), per_class)
    split = ddbench.Split(ddbench.ArrayImages(images), labels, tuple(map(str, range(len(labels)))))
    names = tuple(f"class {label}" for label in range(classes))
    constants = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    return replace(
        TOY, class_names=names, class_ids=names, train=split, test=split, fingerprint=f"{classes}", **constants
    )


@pytest.mark.parametrize(("classes", "channels"), [(1, 3), (1, 1), (100, 3)])
def test_one_class_one_image_grey_images_and_a_hundred_classes(ctx, classes, channels):
    made = distil(_prepared(ctx, _few(classes, channels=channels), 1, **QUICK))
    assert made.content.images.shape == (classes, 8, 8, channels)
    assert made.content.soft_labels.shape == (classes, classes)


def test_a_rate_that_is_too_high_is_reported(ctx):
    with pytest.raises(ddbench.DivergedError, match=r"is not finite|is 0"):
        distil(_prepared(ctx, **(QUICK | {"lr_img": "1e30", "iterations": "4"})))


def test_the_same_images_twice_with_no_ridge_are_named(ctx):
    first = TOY.train.images.batch([0, 12, 24], 8).repeat(2, 0)
    split = ddbench.Split(ddbench.ArrayImages(first), np.repeat(np.arange(3), 2), tuple("abcdef"))
    data = replace(TOY, train=split, fingerprint="pairs")
    with pytest.raises(ddbench.DataError, match="kernel matrix of 12 images is singular"):
        distil(_prepared(ctx, data, ridge="0", **QUICK))


def test_settings_by_preset(ctx):
    paper, cpu = _prepared(ctx, preset="paper")[1], _prepared(ctx)[1]
    options = paper.options
    assert (options.iterations, options.batch_real, options.pool, options.updates) == (500_000, 1024, 10, 100)
    assert (options.lr_img, options.lr_net, options.ridge, options.flip) == (3e-4, 3e-4, 1e-6, None)
    assert sorted(name for name, _, _ in cpu.resolved.shrunk) == ["batch_real", "iterations", "lr_img", "network"]
    assert cpu.resolved.experiment["eval"][0] == "frepo"
    fashion = replace(TOY, name="fashion-mnist")
    assert _prepared(ctx, fashion)[1].options.flip is False
    large = _prepared(ctx, replace(TOY, name="imagenet-1k", image_size=64), preset="paper")[1].options
    assert (large.flip, large.network) == (False, "frepo-convnet-4-bn")


def test_it_conforms(ctx):
    options = {"iterations": 2, "network": "frepo-convnet-3-bn-w32", "batch_real": 8, "pool": 2}
    check_method(ctx.plugins.get("method", "frepo").spec, options=options)
