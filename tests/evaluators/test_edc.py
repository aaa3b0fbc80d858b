"""EDC's evaluator: averaged weights, RandAugment, schedules, and the values of its released code."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.plugin.options import Preset
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.evaluators.fkd.edc import randaugmented  # noqa: E402
from ddbench_plugins.teachers import observers  # noqa: E402
from ddbench_plugins.training import optimisers, schedules  # noqa: E402
from ddbench_plugins.training.averaging import AveragedWeights  # noqa: E402
from ddbench_plugins.training.engine import Loop  # noqa: E402
from ddbench_plugins.training.loop import train, train_together  # noqa: E402
from torch import nn  # noqa: E402

IMAGES = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3
HOW = {"images": IMAGES, "labels": LABELS, "epochs": 4, "batch_size": 5, "optimiser": optimisers.sgd(0.1)}


def _network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def test_the_stretched_cosine_ends_at_one_half_and_the_others_as_released():
    for name, values in {
        "half_cosine": {0: 1.0, 500: 0.8535534, 1000: 0.5},
        "half_linear": {0: 1.0, 500: 0.75, 1000: 0.5},
        "half_cosine_drop": {0: 1.0, 833: 0.6297, 834: 0.1045, 1000: 0.0},
        "three_halves": {799: 1.0, 800: 0.5, 900: 0.25, 950: 0.125, 999: 0.125},
    }.items():
        found = schedules.SCHEDULES[name](1000)
        assert {epoch: found(epoch) for epoch in values} == pytest.approx(values, abs=1e-4), name


# Averaged weights ---------------------------------------------------------------------------------------------------


def test_averages_follow_the_weights_and_are_swapped_in_and_back():
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    averaged = AveragedWeights(network, 0.9)
    for weight in (2.0, 3.0):
        network.weight.data.fill_(weight)
        averaged.update()
    expected = 0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 3
    with averaged.swapped():
        assert float(network.weight) == pytest.approx(expected)
    assert float(network.weight) == 3.0 and float(averaged.averages[0]) == pytest.approx(expected)


def test_tests_see_averaged_weights_and_the_training_does_not():
    seen = []

    def test(network):
        seen.append([value.detach().clone() for value in network.state_dict().values()])
        return 0.5

    plain, averaged = _network(), _network()
    initial = plain[0].weight.detach().clone()
    train(plain, seed=1, **HOW)
    train(averaged, seed=1, average=0.99, test=test, test_epochs=[1, 3], **HOW)
    for own, other in zip(plain.state_dict().values(), averaged.state_dict().values(), strict=True):
        assert torch.equal(own, other)
    last = seen[-1][0]
    assert 0 < float((last - initial).norm()) < float((plain[0].weight - initial).norm())
    names = list(plain.state_dict())
    assert torch.equal(seen[-1][names.index("1.running_mean")], plain[1].running_mean)  # its own


@pytest.mark.parametrize("kill_after", [1, 3])
def test_a_killed_training_tests_the_same_averages(kill_after):
    class Kept:
        def __init__(self):
            self.state, self.saves = None, 0

        def load(self):
            return self.state

        def save(self, state):
            self.state, self.saves = copy.deepcopy(state), self.saves + 1
            if self.saves == kill_after:
                raise KeyboardInterrupt

    def run(loop):
        found = []
        test = lambda network: found.append(network[0].weight.detach().clone()) or 0.0  # noqa: E731
        train(_network(), seed=1, average=0.9, test=test, test_epochs=[3], loop=loop, **HOW)
        return found[0]

    kept = Kept()
    with pytest.raises(KeyboardInterrupt):
        run(Loop(checkpoint=kept, checkpoint_seconds=0))
    assert torch.equal(run(Loop(checkpoint=kept, checkpoint_seconds=0)), run(Loop()))


def test_several_students_have_averages_of_their_own():
    def tested(networks, seeds):
        found = []
        test = lambda network: found.append(network[0].weight.detach().clone()) or 0.0  # noqa: E731
        train_together(networks, seeds=seeds, average=0.9, test=test, test_epochs=[3], **HOW)
        return found

    together, weights = [_network(0), _network(1)], []
    averages = tested(together, [1, 2])
    for number in range(2):
        alone = [_network(number)]
        torch.testing.assert_close(averages[number], tested(alone, [number + 1])[0])
        torch.testing.assert_close(together[number][0].weight, alone[0][0].weight)
        weights.append(alone[0][0].weight)
    assert not torch.equal(averages[0], weights[0])


# Images and labels --------------------------------------------------------------------------------------------------


def test_randaugment_draws_from_its_own_seed():
    images = (torch.rand(6, 3, 16, 16) * 255).byte()
    before = torch.random.get_rng_state()
    one, again, other = (randaugmented(images, 5, epoch) for epoch in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.dtype == torch.uint8 and one.shape == images.shape
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, images)
    assert randaugmented(images[:, :1], 5).shape == (6, 1, 16, 16)


class _Teacher:
    def __init__(self, ctx, network, *asked, floor=True):
        self.digest, self.network, self.floor = network, network, floor

    def describe(self):
        return {"network": self.network}

    def module(self):
        constant = nn.Linear(1, 3)
        nn.init.zeros_(constant.weight)
        constant.bias.data = torch.tensor([1.0, 2.0, 3.0]) * len(self.network)
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1), constant)


def _recipe(ctx, monkeypatch, **options):
    monkeypatch.setattr(observers, "get_teacher", _Teacher)
    ctx = replace(ctx, _dataset=toy_dataset(), explicit={"evaluator": {"epochs": 2, "teacher": "mlp,lenet", **options}})
    made, mine, _ = prepare_evaluator(ctx, "edc", "convnet-1", 2)
    images = mine.dataset.arrays("train")[0][:4]
    classes = np.array([0, 1, 2, 0])
    return mine, made.recipe(mine, ddbench.DistilledSet(images, classes)), torch.tensor(images).permute(0, 3, 1, 2)


def test_teachers_see_what_the_student_sees_and_their_mean_is_the_label(ctx, monkeypatch):
    mine, recipe, images = _recipe(ctx, monkeypatch, batch_size=4)
    training = recipe.training(mine, nn.Linear(1, 1), images, 0)
    assert training["average"] == 0.99
    (batch,), (again,) = training["batches"](0), training["batches"](0)
    assert torch.equal(batch.images, again.images)
    labels = torch.tensor([[4.0, 8.0, 12.0]] * 4)  # mlp and lenet are 3 and 5 letters long
    torch.testing.assert_close(batch.labels[:, :3], labels)
    loss = training["step"](lambda x: labels - 1, batch, torch.Generator())
    cross_entropy = nn.functional.cross_entropy(labels - 1, batch.labels[:, 3].long())
    assert float(loss) == pytest.approx(1 + 0.025 * float(cross_entropy), rel=1e-5)
    plain = _recipe(ctx, monkeypatch, batch_size=4, randaugment=False)
    (other,) = plain[1].training(plain[0], nn.Linear(1, 1), images, 0)["batches"](0)
    assert torch.equal(other.indices, batch.indices) and not torch.equal(other.images, batch.images)
    white = torch.rand(4, 1, 8, 8)  # of a set in another space
    (floats,) = recipe.training(mine, nn.Linear(1, 1), white, 0)["batches"](0)
    assert floats.images.isfinite().all()


def test_one_weak_teacher_is_refused_and_several_are_told(ctx, monkeypatch):
    assert [each.floor for each in _recipe(ctx, monkeypatch)[1].teacher.members] == [False, False]
    assert [each.floor for each in _recipe(ctx, monkeypatch, teacher="mlp")[1].teacher.members] == [True]


def test_a_file_is_of_the_first_teacher(ctx):
    options = {"teacher": "mlp,lenet", "teacher_file": "weights.safetensors"}
    mine = replace(ctx, _dataset=toy_dataset(), explicit={"evaluator": options})
    made, mine, _ = prepare_evaluator(mine, "edc", "convnet-1", 2)
    assert [asked[2] for asked in made.teachers(mine)] == ["weights.safetensors", ""]


def test_changed_images_are_not_stored(ctx):
    with pytest.raises(ddbench.UsageError, match="set randaugment=false"):
        prepare_evaluator(
            replace(ctx, _dataset=toy_dataset(), explicit={"evaluator": {"labels": "stored"}}), "edc", "convnet-1", 2
        )


def test_it_is_tested_last_or_every_tenth_epoch_after_the_800th(ctx, monkeypatch):
    recipe = _recipe(ctx, monkeypatch, epochs=1000)[1]
    assert recipe.test_epochs == [999]
    recipe = _recipe(ctx, monkeypatch, epochs=1000, selection="best_test")[1]
    assert recipe.test_epochs == [*range(810, 1000, 10), 999]
    assert _recipe(ctx, monkeypatch, epochs=3, selection="best_test")[1].test_epochs == [2]
    every = {"test_every": 30, "test_from": 0}
    assert _recipe(ctx, monkeypatch, epochs=100, **every)[1].test_epochs == [99]
    recipe = _recipe(ctx, monkeypatch, epochs=100, selection="best_test", **every)[1]
    assert recipe.test_epochs == [0, 30, 60, 90, 99]


LARGE = "resnet-18-bn,torchvision:mobilenet_v2"
FIVE = "modified-resnet-18,convnet-3,convnet-1,convnet-2,convnet-3-w32"


@pytest.mark.parametrize(
    ("name", "teacher", "every"),
    [
        ("cifar10", FIVE, (10, 0.8)),
        ("cifar100", "modified-resnet-18,convnet-3", (100, 0)),
        ("tiny-imagenet", "modified-resnet-18,convnet-3", (30, 0)),
        ("imageidc", LARGE + ",torchvision:efficientnet_b0,torchvision:shufflenet_v2_x0_5", (30, 0)),
        ("imagenet-1k", LARGE + ",torchvision:shufflenet_v2_x0_5,torchvision:alexnet", (30, 0)),
    ],
)
def test_teachers_and_tests_of_the_released_code(ctx, name, teacher, every):
    data = replace(toy_dataset(channels=3), image_size=224 if name.startswith("image") else 32, name=name)
    mine = replace(ctx, _dataset=data, preset=Preset.parse("paper"))
    found = prepare_evaluator(mine, "edc", "modified-resnet-18", 10)[1].options
    assert found.teacher == teacher and (found.test_every, found.test_from) == every and not found.equal_norms
    official = replace(mine, preset=Preset.parse("paper+official"))
    replaced = prepare_evaluator(official, "edc", "modified-resnet-18", 10)[1].options.schedule
    assert (replaced == "half_linear") == (name == "imagenet-1k") and found.schedule != "half_linear"


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("cifar10", 32, {"optimiser": "adamw", "lr": 0.001, "weight_decay": 0.01, "epochs": 1000, "batch_size": 10}),
        ("cifar100", 32, {"optimiser": "sgd", "lr": 0.1, "schedule": "half_cosine_drop", "weight_decay": 5e-4}),
        ("tiny-imagenet", 64, {"epochs": 300, "batch_size": 100, "accumulation": 1, "schedule": "half_cosine"}),
        ("imageidc", 224, {"epochs": 1000, "batch_size": 50, "crop_scale": 0.5, "optimiser": "adamw"}),
        ("imagenet-1k", 224, {"epochs": 300, "randaugment": False, "weight_decay": 0.01, "test_resize": True}),
    ],
)
def test_values_of_the_released_code(ctx, name, size, expected):
    data = replace(toy_dataset(channels=3), image_size=size, name=name)
    official = replace(ctx, _dataset=data, preset=Preset.parse("paper+official"))
    made, mine, _ = prepare_evaluator(official, "edc", "modified-resnet-18", 1)
    found = mine.options
    assert {option: getattr(found, option) for option in expected} == expected
    assert found.labels == ("stored" if name == "imagenet-1k" else "online")
    assert (found.ce_weight, found.average, found.mix) == (0.025, 0.99, "cutmix")
    assert found.selection == "best_test" and len(made.teachers(mine)) >= 2 and "teachers" in made.extension(mine)
    sane = prepare_evaluator(replace(official, preset=Preset.parse("paper")), "edc", "modified-resnet-18", 1)[1].options
    assert sane.selection == "last"
