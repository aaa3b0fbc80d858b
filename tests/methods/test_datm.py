"""DATM: window, labels, skipped iterations, initial images, and MTT where all is off (Guo et al. 2024)."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment import pipeline
from ddbench.experiment.pipeline import distil, prepare_evaluator, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_method
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.images import RealImages, initial_images  # noqa: E402
from ddbench_plugins.methods.mtt.datm import DATM, DatmOptions  # noqa: E402
from ddbench_plugins.methods.mtt.labels import ImagesWithLabels, expert_logits, judged, recognised  # noqa: E402
from ddbench_plugins.methods.mtt.matching import ImagesWithRate, Matching, TrajectoryMatching, Window  # noqa: E402
from ddbench_plugins.methods.mtt.trajectories import FlatNetwork, flat  # noqa: E402
from ddbench_plugins.networks.convnet import build  # noqa: E402
from ddbench_plugins.training import loop as training  # noqa: E402
from ddbench_plugins.training.dsa import STRATEGY  # noqa: E402

QUICK = {
    **{"network": "convnet-1", "experts": 2, "expert_batch": 8, "syn_steps": 2, "expert_epochs": 1},
    **{"max_start_epoch": 2, "train_epochs": 0, "iterations": 3, "lr_img": 10.0, "first_max_start_epoch": None},
}
OFF = {"rho": 0.0, "labels": "hard", "init": "real", "threshold": None, "expansion": 0}
RATE = {"rate": 0.01, "lr_rate": 1e-3, "positive": True, "mean": (0.5,) * 3, "std": (0.2,) * 3}


def _prepared(ctx, method="datm", preset="", ipc=2, data=None, **options):
    ctx = replace(ctx, _dataset=data or toy_dataset(channels=3), explicit={"method": options})
    return prepare_method(replace(ctx, preset=Preset.parse(preset)), method, ipc, 0)


def test_with_its_differences_off_it_is_mtt_bit_for_bit(ctx):
    shared = {**QUICK}
    del shared["first_max_start_epoch"]
    mtt = distil(_prepared(ctx, "mtt", **shared)).content
    off = distil(_prepared(ctx, **QUICK, **OFF)).content
    assert np.array_equal(off.images, mtt.images) and off.learning_rate == mtt.learning_rate
    assert off.soft_labels is None


# The window ----------------------------------------------------------------------------------------------------------


def test_the_window_opens_evenly_and_stays():
    window = Window(1, 10, 20, 1000)
    assert [window.bound(number) for number in (0, 99, 100, 500, 999, 1000, 5000)] == [10, 10, 11, 15, 19, 20, 20]
    assert {Window(40, 60, 60, 0).bound(number) for number in (0, 1, 9)} == {60}


def test_segments_start_inside_the_window():
    work, _ = _work(ImagesWithRate, window=Window(1, 2, 4, 30))
    starts = [work.segment(number)[1] for number in range(200)]
    assert set(starts[:15]) == {1}  # bound 2 until iteration 15
    assert set(starts[30:]) == {1, 2, 3}


@pytest.mark.parametrize(
    "wrong",
    [{"min_start_epoch": 25}, {"first_max_start_epoch": 26}, {"min_start_epoch": 3, "first_max_start_epoch": 3}],
)
def test_a_window_without_epochs_is_refused(wrong):
    with pytest.raises(ValueError, match="segments cannot begin"):
        DatmOptions(**wrong)


def test_a_first_bound_that_never_counts_is_refused():
    with pytest.raises(ValueError, match="first_max_start_epoch 10 would not count"):
        DatmOptions(first_max_start_epoch=10, max_start_epoch=20)
    DatmOptions(first_max_start_epoch=10, max_start_epoch=20, expansion=1)
    DatmOptions(first_max_start_epoch=20, max_start_epoch=20)


# Labels --------------------------------------------------------------------------------------------------------------


class _Experts(list):
    epochs = 4

    def at(self, number, epoch):
        return self[number][epoch]


def _network():
    torch.manual_seed(0)
    return FlatNetwork(build(in_channels=3, image_size=8, num_classes=3, depth=2, width=4, activation="swish"))


def _work(kind, threshold=float("inf"), window=None, **more):
    network, generator = _network(), torch.Generator().manual_seed(0)
    start = flat(network.network)
    experts = _Experts([start + 0.1 * e * torch.randn(len(start), generator=generator) for e in range(5)] for _ in "ab")
    images = kind(torch.randn(6, 3, 8, 8, generator=generator), 2, 1.0, **RATE, **more)
    window = window or Window(0, 3, 3, 0)
    return TrajectoryMatching(
        images, experts, network, Matching(5, 1, window, 4, STRATEGY, 7, threshold=threshold)
    ), images


def test_certain_labels_that_are_not_learned_are_mtts():
    hard, plain = _work(ImagesWithRate)
    logits = 100.0 * torch.eye(3).repeat_interleave(2, 0)
    soft, learned = _work(ImagesWithLabels, logits=logits, lr_label=0.0)
    for number in range(3):
        assert float(soft.step(number)) == pytest.approx(float(hard.step(number)), rel=1e-5)
    torch.testing.assert_close(learned.images, plain.images)
    assert torch.equal(learned.logits.detach(), logits)


def test_the_gradient_of_the_logits_is_a_finite_difference():
    work, images = _work(
        ImagesWithLabels, logits=torch.randn(6, 3, generator=torch.Generator().manual_seed(3)), lr_label=1.0
    )
    before = images.logits.detach().clone()
    step = torch.zeros_like(before)
    step[2, 1] = 0.05

    def loss(logits):
        fresh, _ = _work(ImagesWithLabels, logits=logits, lr_label=0.0)
        return float(fresh.step(0))

    slope = (loss(before + step) - loss(before - step)) / 0.1
    work.step(0)
    assert float((before - images.logits.detach())[2, 1]) == pytest.approx(slope, rel=0.02, abs=1e-6)


def test_a_loss_above_the_threshold_changes_nothing():
    work, images = _work(ImagesWithLabels, threshold=1e-3, logits=torch.zeros(6, 3), lr_label=1.0)
    before = copy.deepcopy(images.state())
    assert work.step(0) > 1e-3
    after = images.state()
    for name in ("images", "rate", "logits"):
        assert torch.equal(before[name], after[name])
    assert before["optimiser"] == after["optimiser"] and before["label_optimiser"] == after["label_optimiser"]


def test_labels_are_probabilities_and_resume(tmp_path):
    whole, images = _work(ImagesWithLabels, logits=torch.zeros(6, 3), lr_label=1.0)
    whole.step(0)
    state = copy.deepcopy(whole.state())
    whole.step(1)
    second, resumed = _work(ImagesWithLabels, logits=torch.zeros(6, 3), lr_label=1.0)
    second.restore(state)
    second.step(1)
    assert torch.equal(resumed.logits, images.logits) and not torch.equal(images.logits, torch.zeros(6, 3))
    made = images.distilled()
    np.testing.assert_allclose(made.soft_labels.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(made.soft_labels, images.logits.detach().softmax(1), atol=1e-7)


def test_images_begin_as_ones_that_the_named_expert_classifies_correctly():
    data, network = toy_dataset(channels=3), _network()
    real = RealImages(data)
    start = flat(network.network)
    experts = _Experts({4: start + number * 0.3 * torch.randn(len(start))} for number in range(40))
    chosen = recognised(real, 2, experts, network, 5)
    assert len(set(chosen.tolist())) == 6 and data.train.labels[chosen].tolist() == [0, 0, 1, 1, 2, 2]
    for place in chosen.tolist():
        label, order = data.train.labels[place], data.train.of_class(data.train.labels[place])
        right = [
            {p for p in order.tolist() if judged(real.at(torch.tensor([p])), n, experts, network).argmax() == label}
            for n in range(len(experts))
        ]
        first = next(n for n in range(len(experts)) if place in right[n])
        assert len(set().union(*right[:first])) < 2  # earlier experts know too few
    everything = initial_images(real, 2, "real", 5)
    lucky = _Experts([{4: start}])
    names = torch.tensor(data.train.labels)
    network.logits = lambda vector, images: torch.eye(3)[
        torch.stack([names[((real.at(torch.arange(len(names))) - x).abs().flatten(1).sum(1)).argmin()] for x in images])
    ]
    assert torch.equal(real.at(recognised(real, 2, lucky, network, 5)), everything)  # all are known
    network.logits = lambda vector, images: torch.eye(3)[torch.zeros(len(images), dtype=torch.long)]
    with pytest.raises(ddbench.UsageError, match="classify 0 images of class 1 correctly"):
        recognised(real, 2, lucky, network, 5)


def test_logits_begin_as_the_mean_of_the_experts_that_are_right():
    said = {0: [[4.0, 0], [1, 0]], 1: [[2.0, 0], [3, 0]], 2: [[0.0, 9], [5, 0]]}  # two images, of classes 0 and 1
    network = type("Network", (), {"logits": lambda self, number, images: torch.tensor(said[number])})()
    experts = _Experts([{4: 0}, {4: 1}, {4: 2}])
    found = expert_logits(torch.zeros(2, 1, 1, 1), experts, network)
    assert found.tolist() == [[3, 0], [3, 0]]  # the third is wrong of the first; all of the second, hence all count
    one, more = (expert_logits(torch.zeros(2, 1, 1, 1), experts, network, count) for count in (1, 9))
    assert one.tolist() == said[0]  # right or not
    assert torch.equal(more, found)


def test_options_of_labels_that_are_not_learned_are_refused(ctx):
    for unused in ("lr_label", "label_experts"):
        with pytest.raises(ddbench.UsageError, match=f"labels=hard.*{unused} changes nothing"):
            _prepared(ctx, **QUICK, labels="hard", **{unused: 1})


def test_labels_may_begin_as_the_first_experts_alone(ctx):
    one, two, every = (
        distil(_prepared(ctx, **QUICK, init="real", lr_label=0.0, label_experts=count)).content.soft_labels
        for count in (1, 2, None)
    )
    assert np.array_equal(two, every) and not np.array_equal(one, every)


# Method and protocol --------------------------------------------------------------------------------------------------


def test_it_keeps_the_contract():
    check_method(DATM, options=QUICK | {"init": "real"})


def test_its_own_protocol_trains_with_its_labels(ctx, monkeypatch):
    made = distil(_prepared(ctx, **QUICK, init="real")).content
    assert made.soft_labels.shape == (6, 3)
    asked = {}
    train = training.train_together

    def spy(networks, **how):
        asked.update(how)
        return train(networks, **how)

    from ddbench_plugins.training import students

    monkeypatch.setattr(students, "train_together", spy)
    mine = replace(ctx, _dataset=toy_dataset(channels=3), explicit={"evaluator": {"epochs": 2}})
    evaluator, mine, _ = prepare_evaluator(mine, "datm", "convnet-1", 2)
    told = evaluator.protocol(mine, made).settings
    assert (told["label_type"], told["batch_size"], told["lr"]) == ("soft", 128, "learned with the set")
    assert told["augmentation"][0] == "dsa"
    evaluator.evaluate(mine, made, 0)
    assert np.array_equal(asked["labels"], made.soft_labels)
    hard = replace(made, soft_labels=None)
    assert evaluator.protocol(mine, hard).settings["label_type"] == "hard"
    evaluator.evaluate(mine, hard, 0)
    assert asked["labels"].tolist() == [0, 0, 1, 1, 2, 2]


def test_candidates_are_compared_with_their_labels(ctx):
    made = distil(_prepared(ctx, **QUICK, init="real", keep="best_validation", evaluate_every=1, eval_epochs=1))
    assert sorted(made.content.extra["accuracy"]) == ["1", "2", "3"] and made.content.soft_labels is not None


@pytest.mark.parametrize(
    ("name", "ipc", "values"),
    [
        ("cifar10", 1, (80, 2, 0, None, 4, 0, 10, 100, 5, 1e-7, 1.1, "correct")),
        ("cifar10", 10, (80, 2, 0, 10, 20, 1000, 100, 100, 2, 1e-5, 1.0, "correct")),
        ("cifar10", 1000, (100, 2, 40, None, 60, 0, 1000, 50, 10, 1e-5, 1.0, "correct")),
        ("cifar100", 50, (80, 2, 20, None, 70, 0, 1000, 1000, 10, 1e-5, 1.0, "real")),
        ("tiny-imagenet", 50, (20, 2, 40, None, 70, 0, 1000, 100, 10, 1e-4, 1.0, "correct")),
    ],
)
def test_the_papers_values(ctx, digits, monkeypatch, name, ipc, values):
    monkeypatch.setattr(pipeline, "check_ipc", lambda data, ipc: None)  # the stand-in is small
    found = _prepared(ctx, preset="paper", ipc=ipc, data=replace(digits, name=name))[1].options
    names = (
        *("syn_steps", "expert_epochs", "min_start_epoch", "first_max_start_epoch", "max_start_epoch", "expansion"),
        *("batch_syn", "lr_img", "lr_label", "lr_lr", "threshold", "init"),
    )
    assert tuple(getattr(found, name) for name in names) == values
    assert (found.experts, found.train_epochs, found.iterations, found.lr_init) == (100, 100, 10000, 0.01)
    assert (found.rho, found.alpha, found.gradient) == (0.01, 0.3, "unrolled")
    assert found.evaluate_every == (1000 if ipc >= 500 else 500)
    official = _prepared(ctx, preset="paper+official", ipc=ipc, data=replace(digits, name=name))[1].options
    assert (official.gradient == "tesla") == (ipc >= 500)
    assert (found.label_experts, official.label_experts) == (None, 1 if (name, ipc) == ("cifar100", 50) else None)
