"""MTT: the matching loss and its gradients, experts, selection, resumption (Cazenavette et al. 2022)."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_method
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.methods.mtt import experts as mtt_experts  # noqa: E402
from ddbench_plugins.methods.mtt import selection  # noqa: E402
from ddbench_plugins.methods.mtt.distiller import MTT  # noqa: E402
from ddbench_plugins.methods.mtt.matching import (  # noqa: E402
    SMALLEST_RATE,
    ImagesWithRate,
    Matching,
    TrajectoryMatching,
    Window,
)
from ddbench_plugins.methods.mtt.trajectories import FlatNetwork, flat, follow, match  # noqa: E402
from ddbench_plugins.networks.convnet import build  # noqa: E402
from ddbench_plugins.training.dsa import STRATEGY, apply, draw_dc  # noqa: E402
from torch.func import functional_call  # noqa: E402

QUICK = {
    "network": "convnet-1",
    "experts": 2,
    "expert_batch": 8,
    "syn_steps": 2,
    "expert_epochs": 1,
    "max_start_epoch": 2,
    "train_epochs": 0,
    "iterations": 3,
    "lr_img": 10.0,
}
BEST = QUICK | {"keep": "best_validation", "eval_networks": 1, "eval_epochs": 2}


def _network(**settings):
    torch.manual_seed(0)
    return build(in_channels=3, image_size=8, num_classes=3, depth=2, width=4, activation="swish", **settings)


def _problem(steps=3, augment=True, dtype=torch.float64):
    network = FlatNetwork(_network().to(dtype))
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(6, 3, 8, 8, generator=generator, dtype=dtype)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    drawn = [draw_dc(6, 8, generator, STRATEGY) if augment else () for _ in range(steps)]
    losses = [lambda p, x, d=d: network.loss(p, apply(x, d), labels) for d in drawn]
    start = flat(network.network)
    target = start + 0.1 * torch.randn(len(start), generator=generator, dtype=dtype)
    return network, losses, start, target, images, labels


def test_without_steps_the_loss_is_one():
    _, _, start, target, images, _ = _problem()
    found = match([], start, target, [images], torch.tensor(0.1))
    assert float(found.loss) == 1
    assert not found.learned[0].any() and not found.lr.any()


def test_one_exact_step_reaches_its_target():
    network, losses, start, _, images, labels = _problem(steps=1, augment=False)
    module = copy.deepcopy(network.network)
    sgd = torch.optim.SGD(module.parameters(), lr=0.3)
    torch.nn.functional.cross_entropy(module(images), labels).backward()
    sgd.step()
    found = match(losses, start, flat(module), [images], torch.tensor(0.3, dtype=torch.float64))
    assert float(found.loss) < 1e-20
    other = match(losses, start, flat(module), [images], torch.tensor(0.2, dtype=torch.float64))
    assert float(other.loss) == pytest.approx((1 / 3) ** 2)
    # d/dα (1 − α/0.3)² at 0.2
    assert float(other.lr) == pytest.approx(-2 / 0.3 * (1 - 0.2 / 0.3))


@pytest.mark.parametrize("room", [0, 1, 2**30], ids=["no graph kept", "the first graph kept", "all graphs kept"])
def test_gradients_are_those_of_the_whole_unrolled_graph(room):
    _, losses, start, target, images, _ = _problem()
    x, rate = images.clone().requires_grad_(), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    parameters = start.clone().requires_grad_()
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss(parameters, x), parameters, create_graph=True)
        parameters = parameters - rate * gradient
    whole = (parameters - target).square().sum() / (start - target).square().sum()
    whole.backward()
    found = match(losses, start, target, [images], rate.detach(), room=room)
    assert float(found.loss) == pytest.approx(float(whole.detach()), rel=1e-12)
    torch.testing.assert_close(found.learned[0], x.grad, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.lr, rate.grad, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("steps", [1, 3])
def test_teslas_gradients_are_those_of_a_graph_without_the_way_through_earlier_steps(steps):
    _, losses, start, target, images, _ = _problem(steps)
    x, rate = images.clone().requires_grad_(), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    parameters, total = start, torch.zeros_like(start)
    for loss in losses:  # θ_N = θ_0 − α Σ g_n, with g_n at parameters that count as constants
        at = parameters.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(at, x), at, create_graph=True)
        total, parameters = total + gradient, parameters - rate.detach() * gradient.detach()
    (start - rate * total - target).square().sum().div((start - target).square().sum()).backward()
    found = match(losses, start, target, [images], rate.detach(), gradient="tesla")
    torch.testing.assert_close(found.learned[0], x.grad, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.lr, rate.grad, rtol=1e-9, atol=1e-14)
    unrolled = match(losses, start, target, [images], rate.detach())
    assert found.loss == unrolled.loss
    assert torch.allclose(found.learned[0], unrolled.learned[0], rtol=1e-9) == (steps == 1)  # exact for one step alone


def test_gradients_are_finite_differences():
    _, losses, start, target, images, _ = _problem()
    rate = torch.tensor(0.5, dtype=torch.float64)
    found = match(losses, start, target, [images], rate)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def value(x, lr):
        end = follow(losses, start, [x], lr)[-1]
        return float((end - target).square().sum() / (start - target).square().sum())

    h = 1e-5
    by_images = (value(images + h * direction, rate) - value(images - h * direction, rate)) / (2 * h)
    assert float((found.learned[0] * direction).sum()) == pytest.approx(by_images, rel=1e-6)
    assert float(found.lr) == pytest.approx((value(images, rate + h) - value(images, rate - h)) / (2 * h), rel=1e-6)


def test_the_flat_vector_is_a_copy_in_the_order_of_the_parameters():
    network = _network()
    vector = flat(network)
    x, labels = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    expected = torch.nn.functional.cross_entropy(network(x), labels)
    torch.testing.assert_close(FlatNetwork(network).loss(vector, x, labels), expected)
    before = vector.clone()
    with torch.no_grad():
        next(iter(network.parameters())).add_(1)
    assert torch.equal(vector, before)
    assert functional_call(network, dict(network.named_parameters()), (x,)).shape == (2, 3)


def test_batch_norm_is_refused():
    with pytest.raises(ValueError, match="batch norm"):
        FlatNetwork(_network(norm="batch"))


class _Experts(list):
    def at(self, number, epoch):
        return self[number][epoch]


def _work(rate=0.01, lr_rate=1e-3, positive=True):
    network = FlatNetwork(_network())
    start = flat(network.network)
    experts = _Experts(
        [start + 0.1 * e * torch.randn(len(start), generator=torch.Generator().manual_seed(n)) for e in range(4)]
        for n in range(3)
    )
    images = ImagesWithRate(
        torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
        2,
        1.0,
        rate=rate,
        lr_rate=lr_rate,
        positive=positive,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.3),
    )
    return TrajectoryMatching(images, experts, network, Matching(5, 1, Window(0, 3, 3, 0), 4, STRATEGY, seed=7))


def test_every_expert_comes_once_before_any_comes_again():
    work = _work()
    segments = [work.segment(number) for number in range(60)]
    for turn in range(20):
        assert sorted(expert for expert, _ in segments[3 * turn : 3 * turn + 3]) == [0, 1, 2]
    assert {epoch for _, epoch in segments} == {0, 1, 2}
    assert len({tuple(expert for expert, _ in segments[3 * t : 3 * t + 3]) for t in range(20)}) > 1


def test_chunks_of_a_permutation_hold_every_image_before_it_is_drawn_anew():
    chosen = [rows.tolist() for rows, _ in _work()._draw_steps(0)]
    assert [len(chunk) for chunk in chosen] == [2, 4, 2, 4, 2]
    assert sorted(chosen[0] + chosen[1]) == sorted(chosen[2] + chosen[3]) == [*range(6)]


def test_the_learning_rate_travels_and_stays_positive_unless_told_otherwise():
    work = _work()
    before = work.images.distilled()
    assert before.learning_rate == pytest.approx(0.01)
    assert before.space == "unit"
    scaled = work.images.images.detach()[0, :, 2, 3] * torch.tensor([0.2, 0.25, 0.3]) + torch.tensor([0.5, 0.4, 0.3])
    np.testing.assert_allclose(before.images[0, 2, 3], scaled, rtol=1e-6)
    assert before.images.min() < 0 and before.images.max() > 1  # kept, not clamped
    work.step(0)
    assert work.images.distilled().learning_rate != before.learning_rate
    for positive in (True, False):
        images = _work(positive=positive, lr_rate=1.0).images
        images.update([torch.zeros_like(images.images)], torch.tensor(5.0))
        if positive:
            assert images.distilled().learning_rate == pytest.approx(SMALLEST_RATE)
        else:
            with pytest.raises(ddbench.UsageError, match="learning rate is"):
                images.distilled()


def test_a_resumed_loop_ends_with_the_same_images():
    whole = _work()
    for number in range(4):
        whole.step(number)
    first = _work()
    for number in range(2):
        first.step(number)
    state = copy.deepcopy(first.state())
    second = _work()
    second.restore(state)
    for number in range(2, 4):
        second.step(number)
    assert torch.equal(second.images.images, whole.images.images)
    assert torch.equal(second.images.rate, whole.images.rate)


# The whole method ------------------------------------------------------------------------------------------------


def _prepared(ctx, data, preset="", ipc=2, seed=0, **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, "mtt", ipc, seed)


def test_experts_are_shared_by_budgets_and_seeds_and_survive_a_kill(ctx, monkeypatch):
    data = toy_dataset(channels=3)
    made = distil(_prepared(ctx, data, **QUICK))
    assert made.content.learning_rate > 0
    folder = ctx.store.root / "expert"
    found = sorted(folder.glob("*/epoch-*.npy"))
    assert len(found) == 2 * 3  # two experts, before and after two epochs
    one, two, three = (np.load(path, allow_pickle=False) for path in found[:3])
    assert not np.array_equal(one, two) and not np.array_equal(two, three)
    distil(_prepared(ctx, data, ipc=1, seed=5, **QUICK))
    assert sorted(folder.glob("*/epoch-*.npy")) == found

    # Killed after the first epoch of the second expert.
    again = replace(ctx, store=type(ctx.store)(ctx.store.root / "again"))
    calls = []
    trainer = mtt_experts.trainer

    def killed(*args, **kwargs):
        train = trainer(*args, **kwargs)

        def epoch(seeds):
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return train(seeds)

        return epoch

    monkeypatch.setattr(mtt_experts, "trainer", killed)
    with pytest.raises(KeyboardInterrupt):
        distil(_prepared(again, data, **QUICK))
    assert distil(_prepared(again, data, **QUICK)).digest == made.digest
    assert len(calls) == 5


def test_the_best_is_chosen_on_held_out_training_images_that_no_expert_saw(ctx, monkeypatch):
    data = toy_dataset(channels=3)
    seen = []
    best = selection.best

    def spy(ctx, candidates, split, students):
        seen.append(split)
        return best(ctx, candidates, split, students)

    monkeypatch.setattr(selection, "best", spy)
    made = distil(_prepared(ctx, data, **BEST, evaluate_every=1))
    rest, held = selection.hold_out(data)
    assert set(held.ids) | set(rest.train.ids) == set(data.train.ids)
    assert not set(held.ids) & set(rest.train.ids)
    assert set(held.labels) == set(range(data.num_classes))
    assert seen[0].ids == held.ids
    extra = made.content.extra
    assert sorted(extra["accuracy"]) == ["1", "2", "3"]
    assert extra["accuracy"][str(extra["iteration"])] == max(extra["accuracy"].values())


@pytest.mark.parametrize("options", [QUICK, BEST | {"evaluate_every": 2}], ids=["last", "best_validation"])
def test_it_keeps_the_contract(options):
    check_method(MTT, options=options)


def test_official_keeps_the_best_on_the_test_split_and_an_unconstrained_rate(ctx, digits):
    official = _prepared(ctx, digits, "official")[1].options
    assert (official.keep, official.positive_lr) == ("best_test", False)
    sane = _prepared(ctx, digits)[1].options
    assert (sane.keep, sane.positive_lr) == ("last", True)


@pytest.mark.parametrize(
    ("name", "ipc", "values"),
    [
        ("cifar10", 1, (50, 2, 2, 100, 1e-7, 0.01, None)),
        ("cifar10", 10, (30, 2, 20, 100, 1e-5, 0.001, None)),
        ("cifar10", 50, (30, 2, 40, 1000, 1e-5, 0.001, None)),
        ("cifar100", 1, (20, 3, 20, 1000, 1e-5, 0.01, None)),
        ("cifar100", 50, (80, 2, 40, 1000, 1e-5, 0.01, 125)),
        ("tiny-imagenet", 50, (20, 2, 40, 10000, 1e-4, 0.01, 300)),
    ],
)
def test_the_papers_values_by_data_set_and_budget(ctx, digits, name, ipc, values):
    found = _prepared(ctx, replace(digits, name=name), "paper", ipc=ipc)[1].options
    names = ("syn_steps", "expert_epochs", "max_start_epoch", "lr_img", "lr_lr", "lr_init", "batch_syn")
    assert tuple(getattr(found, name) for name in names) == values
    assert (found.experts, found.train_epochs, found.iterations, found.network) == (100, 50, 5000, "convnet-3")


@pytest.mark.parametrize(("name", "ipc"), [("digits", 1), ("cifar10", 20), ("imagewoof", 10)])
def test_the_paper_has_no_values_elsewhere(ctx, digits, name, ipc):
    with pytest.raises(ddbench.UsageError, match=f"does not fit dataset {name}, ipc {ipc}"):
        _prepared(ctx, replace(digits, name=name), "paper", ipc=ipc)


def test_what_the_cpu_scale_shrinks_is_listed(ctx, digits):
    shrunk = _prepared(ctx, replace(digits, name="cifar10"), ipc=1)[1].resolved.shrunk
    assert ("experts", 100, 5) in shrunk
    assert {name for name, _, _ in shrunk} == {
        *("experts", "train_epochs", "expert_epochs", "iterations", "syn_steps", "evaluate_every", "eval_networks"),
        "lr_img",  # the paper's is for whitened pixels
    }


def test_mistakes_are_explained(ctx):
    data = toy_dataset(channels=3)
    with pytest.raises(ddbench.UsageError, match="reach epoch 2 of an expert"):
        distil(_prepared(ctx, data, **(QUICK | {"train_epochs": 1})))
    with pytest.raises(ddbench.UsageError, match="batch norm"):
        distil(_prepared(ctx, data, **(QUICK | {"network": "convnet-1-bn"})))


@pytest.mark.parametrize("unused", ["evaluate_every", "eval_networks", "eval_epochs"])
def test_options_of_candidates_are_refused_where_there_are_none(ctx, unused):
    with pytest.raises(ddbench.UsageError, match=f"keep=last.*{unused} changes nothing"):
        _prepared(ctx, toy_dataset(channels=3), **QUICK, **{unused: 1})


def test_one_class_moves_no_expert(ctx):
    with pytest.raises(ddbench.UsageError, match="has one class"):
        _prepared(ctx, replace(toy_dataset(channels=3), class_names=("only",)), **QUICK)


def test_a_best_of_one_is_said(ctx):
    quick = BEST | {"eval_epochs": 1}
    with pytest.warns(UserWarning, match="has nothing to choose from"):
        made = distil(_prepared(ctx, toy_dataset(channels=3), **quick))
    assert list(made.content.extra["accuracy"]) == [str(quick["iterations"])]


@pytest.mark.slow
def test_training_on_the_images_comes_closer_to_the_experts(ctx, digits):
    quick = {"network": "convnet-1", "experts": 2, "syn_steps": 10, "expert_epochs": 2, "max_start_epoch": 1}
    made = distil(_prepared(ctx, digits, ipc=1, **quick, expert_batch=256, iterations=30, lr_img=100.0))
    assert made.content.images.shape == (10, 16, 16, 1)
    assert made.content.extra["loss"] < 0.25  # about 0.8 before the first step
