"""The finite network of RFAD (Loo et al. 2022, training.py, eval_distilled_set.py, utils.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stopped import Stopped, stopped_after

import ddbench
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_evaluator
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.evaluators.rfad_nn.training import Student, Training  # noqa: E402
from ddbench_plugins.networks import gaussian  # noqa: E402
from ddbench_plugins.training import optimisers  # noqa: E402
from ddbench_plugins.training.engine import Loop  # noqa: E402

TOY = toy_dataset(channels=3)
NETWORK = "rfad-convnet-3-w64"


def content(data=TOY, ipc=4, **fields):
    """The first images of every class."""
    images, labels = data.arrays("train")
    chosen = np.concatenate([np.flatnonzero(labels == label)[:ipc] for label in range(data.num_classes)])
    return ddbench.DistilledSet(images[chosen], labels[chosen], **fields)


def prepared(ctx, data=TOY, preset="", network="", ipc=4, **options):
    """The evaluator with its context, explicit options as given."""
    ctx = replace(ctx, _dataset=data, explicit={"evaluator": options}, preset=Preset.parse(preset))
    return prepare_evaluator(ctx, "rfad-nn", network, ipc)


def training(recipe, network, watch=None, count=6):
    """Steps on random images and targets [count, 2], in float64."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, 8, 8, generator=generator).double()
    targets = torch.randn(count, 2, generator=generator).double()
    optimiser = optimisers.sgd(recipe.lr, momentum=0.9, weight_decay=0.0)
    student = Student(network.double(), centring=recipe.centring)
    loop = Loop(precision="fp32")
    how = {"recipe": recipe, "optimiser": optimiser, "loop": loop, "seed": 5, "watch": watch}
    return Training(student, images, targets, **how), images, targets


def recipe(ctx, count=6, **options):
    """The recipe for ``count`` images of two classes."""
    evaluator, mine, _ = prepared(ctx, **options)
    return replace(evaluator.recipe(mine, content()), targets=np.zeros((count, 2)))


def network(width=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return gaussian.build(in_channels=3, image_size=8, num_classes=2, width=width)


def test_what_the_released_script_does(ctx):
    evaluator, mine, _ = prepared(ctx, preset="paper+official")
    found = evaluator.protocol(mine, content()).settings
    stated = {"network": "rfad-convnet-3", "label_type": "real", "batch_size": 513, "steps": 20_000}
    stated |= {"optimiser": "SGD, momentum 0.9", "schedule": "constant", "augmentation": [], "centring": True}
    stated |= {"selection": "validation", "validation_images": 500, "check": 100, "patience": 500}
    assert {name: found[name] for name in stated} == stated


@pytest.mark.parametrize(
    ("dataset", "ipc", "expected"),
    [
        ("mnist", 1, (1e-3, 8, 1e-3)),
        ("mnist", 10, (1e-2, 8, 1e-3)),
        ("mnist", 50, (1e-2, 8, 0)),
        ("fashion-mnist", 1, (1e-3, 8, 0)),
        ("fashion-mnist", 10, (1e-2, 8, 1e-3)),
        ("fashion-mnist", 50, (1e-3, 2, 0)),
        ("svhn", 1, (1e-3, 16, 0)),
        ("svhn", 10, (1e-2, 8, 0)),
        ("svhn", 50, (1e-2, 2, 0)),
        ("cifar10", 1, (1e-3, 8, 0)),
        ("cifar10", 10, (1e-3, 2, 0)),
        ("cifar10", 50, (1e-2, 2, 0)),
        ("cifar100", 1, (1e-1, 8, 0)),
        ("cifar100", 10, (1e-1, 2, 0)),
    ],
)
def test_rates_scales_and_decays_by_data_set(ctx, dataset, ipc, expected):
    data = replace(TOY, name=dataset)
    for name, factor in (("rfad-convnet-3", 1), (NETWORK, 16)):
        options = prepared(ctx, data, "paper", name, ipc).ctx.options
        rate, scale, decay = expected
        assert (options.lr, options.label_scale, options.weight_decay) == (pytest.approx(factor * rate), scale, decay)


def test_centred_outputs_are_0_before_the_first_step(ctx):
    student = Student(network(), centring=True)
    x = torch.randn(5, 3, 8, 8)
    assert not student(x).any()
    assert float(student.moved().detach()) == 0
    plain = Student(network(), centring=False)
    assert torch.equal(plain(x), plain.network(x))
    assert float(plain.moved().detach()) == pytest.approx(
        sum(float(p.detach().square().sum()) for p in plain.network.parameters())
    )
    work, _, targets = training(recipe(ctx, lr=1e-9, label_scale=3.0), network())
    # The first loss is then that of the labels alone: mean (s·Y)² / s².
    assert work.step(0)["loss"] == pytest.approx(float(targets.square().mean()), rel=1e-6)


@pytest.mark.parametrize("centring", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_loss_is_the_papers_and_its_step_that_of_sgd(ctx, centring, decay):
    mine = recipe(ctx, lr=0.05, label_scale=2.0, weight_decay=decay, centring=centring)
    work, images, targets = training(mine, network())
    theirs, first = network().double(), network().double()
    optimiser = torch.optim.SGD(theirs.parameters(), 0.05, momentum=0.9)
    for number in range(3):
        before = first(images).detach() if centring else 0
        loss = ((theirs(images) - before - 2 * targets) ** 2).mean() / 4
        for now, then in zip(theirs.parameters(), first.parameters(), strict=True):
            loss = loss + decay * ((now - then.detach() if centring else now) ** 2).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert work.step(number)["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    for ours, wanted in zip(work.student.network.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("batch_size", "scale_minibatch", "factor"), [(6, False, 4), (5, False, 1), (5, True, 4)])
def test_labels_of_minibatches_are_not_scaled_in_the_released_code(ctx, batch_size, scale_minibatch, factor):
    """Mean (factor·Y)² over 4² at the first step."""
    mine = recipe(ctx, lr=1e-9, label_scale=4.0, batch_size=batch_size, scale_minibatch=scale_minibatch)
    work, _, targets = training(mine, network())
    torch.testing.assert_close(
        work.wanted - work.student.start(work.images).float(), factor * targets, rtol=1e-4, atol=1e-4
    )
    loss = work.step(0)["loss"]
    if batch_size == 6:
        assert loss == pytest.approx(float((factor * targets).square().mean()) / 16, rel=1e-4)
    evaluator, bound, _ = prepared(ctx, batch_size=batch_size, scale_minibatch=scale_minibatch)
    stated = evaluator.protocol(bound, content(ipc=2)).settings["labels"]  # 6 images
    assert stated == ("scaled" if factor == 4 else "not scaled, but the loss")


def _looks(accuracies):
    looks = iter(accuracies)
    return lambda: next(looks)


def test_it_ends_when_looks_get_no_better_and_keeps_the_best(ctx):
    """Looks after 0, 4, 8, … steps; the best after 4; 10 steps later, at 14, it ends."""
    mine = recipe(ctx, steps=40, check=4, patience=10, lr=0.05)
    work, *_ = training(mine, network(), _looks([0.1, 0.6, 0.6, 0.3]))
    after = {}
    for number in range(40):
        work.step(number)
        after[number + 1] = [parameter.detach().clone() for parameter in work.student.network.parameters()]
    assert (work.highest, work.best_step, work.ended) == (0.6, 4, True)
    assert all(map(torch.equal, after[14], after[40]))
    assert not all(map(torch.equal, after[13], after[14]))
    work.finish()
    assert all(map(torch.equal, work.student.network.parameters(), after[4]))


def test_the_last_network_is_looked_at_too(ctx):
    work, *_ = training(recipe(ctx, steps=6, check=4, patience=10, lr=0.05), network(), _looks([0.1, 0.2, 0.7]))
    for number in range(6):
        work.step(number)
    work.finish()
    assert (work.highest, work.best_step) == (0.7, 6)


def test_training_images_decide_and_no_test_image(ctx):
    """With other test images the same step is chosen; with other labels of training images another one."""
    options = {"steps": 30, "check": 3, "patience": 30, "lr": 0.05}

    def chosen(data):
        evaluator, mine, _ = prepared(ctx, data, **options)
        return evaluator.evaluate(mine, content(), 0).metrics

    first = chosen(TOY)
    assert chosen(replace(TOY, test=toy_dataset(channels=3, seed=3).test, fingerprint="other")) == first
    turned = replace(TOY.train, labels=np.roll(TOY.train.labels, 12))
    assert chosen(replace(TOY, train=turned))["validation"] < first["validation"]


def test_looks_are_at_as_many_training_images_of_every_class(ctx, monkeypatch):
    from ddbench_plugins.evaluators.rfad_nn import evaluator as module

    seen = []
    original = module.training_images

    def watched(ctx, places, whitening):
        seen.append(places)
        return original(ctx, places, whitening)

    monkeypatch.setattr(module, "training_images", watched)
    for count in (5, 500):
        evaluator, mine, _ = prepared(ctx, steps=1, validation_images=count)
        evaluator.evaluate(mine, content(), 0)
        assert np.bincount(TOY.train.labels[seen[-1]]).tolist() == [min(count, 12)] * 3
        assert len(set(seen[-1].tolist())) == len(seen[-1])
    evaluator, mine, _ = prepared(ctx, steps=2, selection="last")
    score = evaluator.evaluate(mine, content(), 0)
    assert len(seen) == 2
    assert score.metrics.keys() == {"final_loss"}


@pytest.mark.parametrize("states", [2, 11])
@pytest.mark.parametrize("batch_size", [513, 5])
def test_a_stopped_training_resumes_to_the_same_numbers(ctx, monkeypatch, batch_size, states):
    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", "0")
    evaluator, mine, _ = prepared(ctx, steps=20, check=3, patience=9, lr=0.1, batch_size=batch_size)
    whole = evaluator.evaluate(mine, content(), 0)
    checkpoint = stopped_after(states)
    with pytest.raises(Stopped):
        evaluator.evaluate(replace(mine, checkpoint=checkpoint), content(), 0)
    resumed = evaluator.evaluate(replace(mine, checkpoint=checkpoint.again()), content(), 0)
    assert resumed.metrics == whole.metrics
    assert resumed.correct.tolist() == whole.correct.tolist()


def test_a_rate_that_is_too_high_is_named(ctx):
    evaluator, mine, _ = prepared(ctx, steps=50, lr=1e6)
    with pytest.raises(ddbench.DivergedError, match="not finite") as caught:
        evaluator.evaluate(mine, content(), 0)
    assert "eval.lr" in caught.value.hint


@pytest.mark.slow
def test_it_conforms_and_learns_the_toy(ctx):
    options = {"steps": 60, "check": 20, "lr": 0.2}
    record = check_evaluator(
        ctx.plugins.get("evaluator", "rfad-nn").spec,
        options=options,
        network=NETWORK,
        dataset=TOY,
        unused=["scale_minibatch"],  # of sets with more images than a step
    )
    assert record.mean > 0.5
    assert record.result.selection == "validation"
    assert record.result.values == record.result.last
