"""The FRePo protocol (Zhou et al. 2022, script/eval.py, lib/dataset/augmax)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_evaluator
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.evaluators.frepo.augment import OPERATIONS, one_for_all  # noqa: E402
from ddbench_plugins.evaluators.real_labels import targets_of  # noqa: E402
from ddbench_plugins.training.schedules import warmup_cosine  # noqa: E402

TOY = toy_dataset(channels=3)


def _content(count=12, **fields):
    images = np.zeros((count, 8, 8, 3), np.uint8)
    return ddbench.DistilledSet(images, np.repeat(np.arange(3), count // 3), **fields)


def _protocol(ctx, content, preset="", data=TOY, **options):
    ctx = replace(ctx, _dataset=data, explicit={"evaluator": options}, preset=Preset.parse(preset))
    evaluator, mine, _ = prepare_evaluator(ctx, "frepo", "", len(content.labels) // 3)
    return evaluator.protocol(mine, content).settings


def test_what_the_released_script_does(ctx):
    found = _protocol(ctx, _content(), "paper+official")
    stated = {"network": "frepo-convnet-3", "label_type": "real", "loss": "squared error", "optimiser": "Adam"}
    stated |= {"lr": 3e-4, "weight_decay": 0.0, "batch_size": 500, "steps": 1000, "order": "fixed", "selection": "last"}
    assert {name: found[name] for name in stated} == stated
    assert found["augmentation"] == ["flip", "color", "crop", "rotate", "translate", "cutout"]
    assert _protocol(ctx, _content(), data=replace(TOY, flip=False))["augmentation"][0] == "color"
    assert _protocol(ctx, _content())["order"] == "shuffled"


@pytest.mark.parametrize(
    ("images", "steps"),
    [(3, 1000), (99, 1000), (102, 2000), (201, 20_000), (501, 5000), (1002, 10_002), (6000, 40_008)],
)
def test_steps_by_the_number_of_images(ctx, images, steps):
    assert _protocol(ctx, _content(images))["steps"] == steps


def test_the_learning_rate_rises_for_500_steps_and_falls_to_a_hundredth():
    factor = warmup_cosine(1000, 500, 0.0, 0.01)
    assert [factor(step) for step in (0, 250, 500, 750, 1000)] == pytest.approx([0, 0.5, 1, 0.505, 0.01])


def test_real_valued_labels_are_taken_as_they_are_and_others_centred_and_scaled():
    learned = np.array([[3.0, -1.0, 0.5]] * 3, np.float32)
    assert targets_of(_content(3, soft_labels=learned, label_kind="centred"), 3, 0.3**0.5) is learned
    hard = targets_of(_content(3), 3, 0.3**0.5)
    assert hard == pytest.approx((np.eye(3) - 1 / 3) / 0.3**0.5)
    assert targets_of(_content(3, soft_labels=np.eye(3, dtype=np.float32)), 3, 0.3**0.5) == pytest.approx(hard)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_changes_images_of_any_depth(name, channels):
    x = torch.randn(16, channels, 12, 12, generator=torch.Generator().manual_seed(1))
    out = one_for_all([name])(x, torch.Generator().manual_seed(2))
    assert out.shape == x.shape
    assert bool(out.isfinite().all())
    assert not torch.equal(out, x)
    same = torch.full((4, channels, 8, 8), 0.7)
    if name not in ("color", "cutout"):  # the border goes on where an image ends
        torch.testing.assert_close(one_for_all([name])(same, torch.Generator()), same)


def test_a_hole_is_a_quarter_of_the_side_and_colours_move_within_bounds():
    out = one_for_all(["cutout"])(torch.ones(8, 1, 32, 32), torch.Generator())
    assert (out == 0).sum((1, 2, 3)).tolist() == [64] * 8
    grey = one_for_all(["color"])(torch.zeros(200, 3, 4, 4), torch.Generator())
    assert 0.2 < float(grey.abs().max()) <= 0.25


def test_an_order_that_is_fixed_and_a_shuffled_one_train_differently(ctx):
    images, labels = TOY.arrays("train")
    content = ddbench.DistilledSet(images, labels)
    outcomes = []
    for fixed in ("true", "false"):
        options = {"steps": "6", "batch_size": "20", "warmup": "1", "fixed_order": fixed}
        mine = replace(ctx, _dataset=TOY, explicit={"evaluator": options})
        evaluator, bound, _ = prepare_evaluator(mine, "frepo", "frepo-convnet-3-w32", 12)
        outcomes.append(evaluator.evaluate(bound, content, 0).metrics["final_loss"])
    assert outcomes[0] != outcomes[1]


def test_it_conforms_and_learns_the_toy(ctx):
    options = {"steps": 25, "warmup": 5, "lr": 0.005}
    record = check_evaluator(
        ctx.plugins.get("evaluator", "frepo").spec, options=options, network="frepo-convnet-3-w32", dataset=TOY
    )
    assert record.mean > 0.5
