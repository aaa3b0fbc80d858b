"""The RDED protocol's numbers (Sun et al. 2024, argument.py and validation/main.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ddbench_plugins.evaluators.rded import Rded, batch_size, test_epochs, test_resize
from ddbench_plugins.training.schedules import half_cosine

from ddbench.plugin.options import Preset
from ddbench.runtime.context import Context

# pytest would collect the two functions by their names.
epochs_of_tests, resize_of_tests = test_epochs, test_resize
del test_epochs, test_resize


@pytest.mark.parametrize(
    ("classes", "sizes"),
    [(10, (10, 50, 100)), (100, (20, 100, 200)), (1000, (20, 100, 200))],
)
def test_batch_size_by_ipc_and_classes(classes, sizes):
    assert tuple(batch_size(None, ipc, classes) for ipc in (1, 10, 50)) == sizes


def test_batch_size_never_exceeds_the_set():
    assert batch_size(None, 1, 3) == 3
    assert batch_size(500, 2, 10) == 20


def test_tests_are_made_in_the_last_fifth_under_the_official_rule():
    assert epochs_of_tests(300, "best_test") == [249, 259, 269, 279, 289, 299]
    assert epochs_of_tests(500, "best_test") == [409, 419, 429, 439, 449, 459, 469, 479, 489, 499]
    assert epochs_of_tests(33, "best_test") == [29, 32] and epochs_of_tests(40, "best_test") == [39]
    assert epochs_of_tests(5, "best_test") == [4] and epochs_of_tests(1, "best_test") == [0]
    assert epochs_of_tests(300, "last") == [299]


def test_learning_rate():
    factor = half_cosine(300)
    assert [0.001 * factor(e) for e in (0, 150, 299)] == pytest.approx([0.001, 0.000853553, 0.000502618], abs=1e-9)


def test_test_resize():
    assert [resize_of_tests(side) for side in (32, 64, 128, 224)] == [32, 72, 144, 256]


def _options(ctx: Context, preset: str, **facts):
    ctx = replace(ctx, preset=Preset.parse(preset))
    entry = ctx.plugins.get("evaluator", "rded")
    ctx.match_context = lambda: facts  # type: ignore[method-assign]
    return Context.with_options_of(ctx, Rded(), entry).options


def test_quirks_of_the_released_code_are_options_that_official_turns_on(ctx):
    sane, official = _options(ctx, ""), _options(ctx, "official")
    assert (sane.selection, sane.update_batchnorm_twice, sane.normalisation) == ("last", False, "dataset")
    assert (official.selection, official.update_batchnorm_twice, official.normalisation) == (
        "best_test",
        True,
        "imagenet",
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"dataset": "cifar10", "network": "modified-resnet-18"}, {"factor": 1, "lr": 0.001, "batch_size": None}),
        ({"dataset": "cifar100", "network": "convnet-3-bn"}, {"factor": 1, "lr": 0.002, "batch_size": 25}),
        ({"dataset": "tiny-imagenet", "network": "modified-resnet-18"}, {"factor": 1, "batch_size": 100}),
        ({"dataset": "imagenette", "network": "resnet-18-bn"}, {"factor": 2}),
        ({"dataset": "imagemeow", "network": "resnet-18-bn"}, {"factor": 2}),
        ({"dataset": "imagewoof", "network": "efficientnet-b0"}, {"factor": 2, "lr": 0.002}),
        ({"dataset": "imagenet-1k", "network": "torchvision:vit_b_16"}, {"factor": 2, "lr": 0.0001}),
        ({"dataset": "imagenet-1k", "network": "torchvision:mobilenet_v2"}, {"lr": 0.0025}),
        ({"dataset": "imagenet-1k", "network": "torchvision:efficientnet_b0"}, {"lr": 0.002}),
    ],
)
def test_values_by_data_set_and_student(ctx, facts, expected):
    found = _options(ctx, "paper", **facts).model_dump()
    assert {name: found[name] for name in expected} == expected
    assert found["epochs"] == 300
    assert found["temperature"] == 20
