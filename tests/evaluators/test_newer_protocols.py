"""G-VBSM's loss and teachers, NCFM's schedule: by hand, and as their released code has them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ddbench_plugins.evaluators.fkd.gvbsm import Ensemble, GVbsm, GVbsmOptions, GVbsmRecipe
from ddbench_plugins.evaluators.ncfm import NcfmOptions, NcfmRecipe
from ddbench_plugins.teachers import observers
from torch import nn

import ddbench
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.plugin.options import Preset
from ddbench.testing.toy import toy_dataset


class Teacher:
    """Says the same of every image."""

    def __init__(self, ctx=None, network="a", *asked, floor=True, logits=(1.0, 2.0, 3.0)):
        self.digest, self.network, self.logits = network, network, logits

    def describe(self):
        return {"network": self.network}

    def module(self):
        constant = nn.Linear(1, 3)
        nn.init.zeros_(constant.weight)
        constant.bias.data = torch.tensor(self.logits)
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1), constant)


def test_several_teachers_say_the_mean_of_their_logits():
    both = Ensemble([Teacher(network="a"), Teacher(network="b", logits=(3.0, 0.0, 1.0))])
    out = both.module()(torch.zeros(2, 1, 8, 8))
    torch.testing.assert_close(out, torch.tensor([[2.0, 1.0, 2.0]] * 2))
    assert both.describe()["network"] == "a, b"
    assert both.digest != Ensemble(both.members[:1]).digest


def test_the_loss_is_squared_error_and_cross_entropy_with_the_own_class(ctx, monkeypatch):
    monkeypatch.setattr(observers, "get_teacher", Teacher)
    options = {"labels": "online", "epochs": 1, "ce_weight": 0.5, "teacher": "mlp, convnet-1", "batch_size": 4}
    mine = replace(ctx, _dataset=toy_dataset(), explicit={"evaluator": options})
    made, mine, _ = prepare_evaluator(mine, "g-vbsm", "convnet-1", 2)
    assert [name for name, *_ in made.teachers(mine)] == ["mlp", "convnet-1"]
    classes = np.array([0, 1, 2, 0])
    recipe = made.recipe(mine, ddbench.DistilledSet(mine.dataset.arrays("train")[0][:4], classes))
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    training = recipe.training(mine, nn.Linear(1, 1), images, 0)
    (batch,) = training["batches"](0)
    own = torch.tensor(classes)[batch.indices]
    torch.testing.assert_close(batch.labels, torch.cat([torch.tensor([[1.0, 2, 3]] * 4), own[:, None].float()], 1))
    out = torch.tensor([[0.0, 0.0, 0.0]] * 4)
    loss = training["step"](lambda x: out, batch, torch.Generator())
    assert float(loss) == pytest.approx((1 + 4 + 9) / 3 + 0.5 * np.log(3))  # whatever the image is mixed with


@pytest.mark.parametrize(
    ("size", "classes", "name", "expected"),
    [
        (32, 10, "cifar10", {"optimiser": "adamw", "batch_size": 100, "weight_decay": 0, "ce_weight": 0.15}),
        (32, 100, "cifar100", {"optimiser": "sgd", "lr": 0.1, "batch_size": 64, "weight_decay": 5e-4}),
        (64, 200, "tiny-imagenet", {"epochs": 100, "accumulation": 2, "ce_weight": 0.1}),
    ],
)
def test_values_of_gvbsm(ctx, size, classes, name, expected):
    data = replace(toy_dataset(channels=3), image_size=size, name=name)
    mine = replace(ctx, _dataset=data, preset=Preset.parse("paper"))
    found = prepare_evaluator(mine, "g-vbsm", "modified-resnet-18", 10)[1].options
    assert {option: getattr(found, option) for option in expected} == expected
    assert (found.schedule, found.mix, found.crop, found.crop_scale) == ("cosine", "cutmix", "resized", 0.08)
    official = replace(mine, preset=Preset.parse("paper+official"))
    for evaluator in ("g-vbsm", "edc"):
        own = prepare_evaluator(official, evaluator, "modified-resnet-18", 10)[1].options
        assert own.normalisation == {"cifar10": "cifar100", "tiny-imagenet": "imagenet"}.get(name, "dataset")
    assert found.normalisation == "dataset"
    assert found.teacher == "modified-resnet-18,convnet-3" and GVbsm.Options is GVbsmOptions


def test_gvbsm_states_its_loss_and_norms_where_they_are_equal():
    def settings(**options):
        options = GVbsmOptions(**options)
        about = SimpleNamespace(dataset=toy_dataset())
        return GVbsmRecipe.of(about, options, options=options, teacher=Teacher()).settings()

    assert settings()["loss"].startswith("squared error")
    assert "equal_norms" not in settings() and settings(equal_norms=True)["equal_norms"]


def test_gvbsm_on_imagenet_asks_the_released_teachers_with_equal_norms(ctx):
    data = replace(toy_dataset(channels=3), image_size=224, name="imagenet-1k")
    mine = replace(ctx, _dataset=data, preset=Preset.parse("paper"))
    found = prepare_evaluator(mine, "g-vbsm", "resnet-18-bn", 10)[1].options
    names = ("mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5")
    assert found.teacher.split(",") == ["resnet-18-bn", *(f"torchvision:{name}" for name in names)]
    assert (found.epochs, found.batch_size, found.ce_weight, found.equal_norms) == (300, 1024, 0.1, True)


def test_logits_of_equal_norms_have_the_mean_norm_of_the_batch():
    """As the released code labels ImageNet-1K: the norm is that of all logits of a teacher in the batch."""

    class Scaled:
        def __init__(self, factor):
            self.factor, self.digest = factor, str(factor)

        def describe(self):
            return {"network": f"×{self.factor}"}

        def module(self):
            scaled = nn.Linear(3, 3, bias=False)
            scaled.weight.data = self.factor * torch.eye(3)
            return scaled

    x = torch.tensor([[1.0, 0, 0], [0, 2, 0]])
    teachers = [Scaled(1.0), Scaled(-5.0), Scaled(3.0)]
    torch.testing.assert_close(Ensemble(teachers).module()(x), x * (1 - 5 + 3) / 3)
    equal = Ensemble(teachers, equal_norms=True)
    torch.testing.assert_close(equal.module()(x), x * 3 * (1 - 1 + 1) / 3)
    assert equal.describe() == Ensemble(teachers).describe() | {"equal_norms": True}


def test_ncfm_halves_its_rate_after_each_fifth_under_adamw(ctx):
    options = NcfmOptions()
    recipe = NcfmRecipe.of(SimpleNamespace(dataset=toy_dataset()), options, factor=1, imagenet=False, tests=0)
    network = nn.Linear(2, 2)
    training = recipe.training(ctx, network, torch.zeros(1), 0)
    factors = [training["schedule"](epoch) for epoch in (0, 399, 400, 800, 1200, 1600, 1999)]
    assert factors == [1, 1, 0.5, 0.25, 0.125, 0.0625, 0.0625]
    made = training["optimiser"](network)
    assert type(made).__name__ == "AdamW"
    assert {(group["lr"], group["weight_decay"]) for group in made.param_groups} == {(0.001, 0.01)}
    assert list(recipe.test_epochs) == [1999]
    assert list(replace(recipe, selection="best_test").test_epochs) == list(range(99, 2000, 100))


@pytest.mark.parametrize(("ipc", "epochs"), [(1, 2000), (10, 300), (50, 40)])
def test_ncfm_on_tiny_imagenet(ctx, ipc, epochs):
    data = replace(toy_dataset(channels=3), image_size=64, name="tiny-imagenet")
    made, mine, _ = prepare_evaluator(replace(ctx, _dataset=data), "ncfm", None, ipc)
    assert mine.options.epochs == epochs and mine.network == "convnet-4"
    assert made.extension(mine) == ""


def test_a_teacher_without_a_name_is_refused(ctx):
    ctx = replace(ctx, _dataset=toy_dataset(), explicit={"evaluator": {"teacher": "convnet-1-bn,"}})
    with pytest.raises(ddbench.UsageError, match="no network between two commas"):
        prepare_evaluator(ctx, "g-vbsm", "convnet-1-bn", 1)
