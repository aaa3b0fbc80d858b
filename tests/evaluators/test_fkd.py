"""The FKD protocol's numbers (SRe2L validate/ and small_dataset/, DD-Ranking) and its stored labels in a record."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ddbench_plugins.evaluators.fkd import evaluator as fkd
from ddbench_plugins.training import schedules

import ddbench
from ddbench.errors import UsageError
from ddbench.plugin.options import Preset
from ddbench.runtime.context import Context
from ddbench.testing.conformance import check_evaluator
from ddbench.testing.toy import toy_dataset

# pytest would collect it by its name.
epochs_of_tests = fkd.test_epochs

IMAGENET = {
    "epochs": 300,
    "batch_size": 1024,
    "accumulation": 2,
    "optimiser": "adamw",
    "lr": 0.001,
    "weight_decay": 0.01,
    "decay": "matrices",
    "schedule": "cosine",
    "temperature": 20,
    "scale_by_t2": False,
    "mix": "cutmix",
    "crop": "resized",
    "crop_scale": 0.08,
    "test_resize": True,
}
CIFAR100 = {
    "epochs": 400,
    "batch_size": 128,
    "accumulation": 1,
    "optimiser": "adamw",
    "lr": 0.001,
    "weight_decay": 0.01,
    "decay": "all",
    "schedule": "cosine",
    "temperature": 30,
    "scale_by_t2": False,
    "mix": "mixup",
    "mixup_alpha": 0.8,
    "crop": "padded",
    "padding": 4,
    "test_resize": False,
}
CIFAR10 = {**CIFAR100, "batch_size": 256, "schedule": "half_cosine"}
TINY = {
    "epochs": 100,
    "batch_size": 256,
    "accumulation": 1,
    "optimiser": "sgd",
    "lr": 0.2,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "decay": "all",
    "schedule": "warmup_cosine",
    "temperature": 20,
    "scale_by_t2": True,
    "mix": "none",
    "crop": "resized",
    "crop_scale": 0.08,
    "test_resize": False,
}


def _resolved(ctx: Context, preset: str = "", **facts):
    ctx = replace(ctx, preset=Preset.parse(preset), _dataset=replace(toy_dataset(), name=facts.get("dataset", "toy")))
    entry = ctx.plugins.get("evaluator", "fkd")
    ctx.match_context = lambda: facts  # type: ignore[method-assign]
    return Context.with_options_of(ctx, fkd.Fkd(), entry)


@pytest.mark.parametrize(
    ("facts", "expected", "borrowed"),
    [
        ({"dataset": "imagenet-1k", "image_size": 224}, IMAGENET, None),
        ({"dataset": "imagenette", "image_size": 64}, IMAGENET, "ImageNet-1K"),
        ({"dataset": "photos", "image_size": 224}, IMAGENET, "ImageNet-1K"),
        ({"dataset": "cifar100", "image_size": 32}, CIFAR100, None),
        ({"dataset": "cifar10", "image_size": 32}, CIFAR10, "DD-Ranking"),
        ({"dataset": "digits", "image_size": 16}, {**CIFAR10, "padding": 2}, "DD-Ranking"),
        ({"dataset": "fashion-mnist", "image_size": 28}, CIFAR10, "DD-Ranking"),
        ({"dataset": "tiny-imagenet", "image_size": 64}, TINY, None),
    ],
)
@pytest.mark.parametrize("preset", ["", "paper", "paper+official"])
def test_values_by_data_set(ctx, facts, expected, borrowed, preset):
    mine = _resolved(ctx, preset, **facts)
    found = mine.options.model_dump()
    assert {name: found[name] for name in expected} == expected
    assert not mine.resolved.shrunk
    assert borrowed in fkd.extension(mine) if borrowed else fkd.extension(mine) == ""


def test_sane_values_store_all_logits_of_a_teacher_in_evaluation_mode(ctx):
    for name in ("cifar10", "cifar100", "tiny-imagenet", "imagenet-1k"):
        options = _resolved(ctx, "paper", dataset=name).options
        found = (options.labels, options.top_k, options.teacher_mode, options.normalisation, options.selection)
        assert found == ("stored", None, "eval", "dataset", "last")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar100", ("online", "train", "cifar10", "last", 10)),
        ("cifar10", ("online", "eval", "dataset", "best_test", 20)),
        ("tiny-imagenet", ("stored", "eval", "tiny-imagenet", "best_test", 1)),
        ("imagenet-1k", ("stored", "eval", "dataset", "best_test", 10)),
    ],
)
def test_quirks_of_the_released_code_are_options_that_official_turns_on(ctx, name, expected):
    options = _resolved(ctx, "official", dataset=name).options
    found = (options.labels, options.teacher_mode, options.normalisation, options.selection, options.test_every)
    assert found == expected


def test_tests_under_the_official_rule():
    assert epochs_of_tests(300, "best_test", 10) == [*range(0, 300, 10), 299]
    assert epochs_of_tests(100, "best_test", 1) == list(range(100))
    assert epochs_of_tests(300, "last", 10) == [299]


@pytest.mark.parametrize(("count", "parts"), [(1024, [512, 512]), (784, [512, 272]), (320, [320]), (100, [100])])
def test_batch_norm_sees_halves_of_full_batches_only(count, parts):
    import torch
    from ddbench_plugins.training.steps import Batch, given_label_step

    seen = []

    def forward(x):
        seen.append(len(x))
        return x

    size = fkd.part_size(fkd.FkdOptions(batch_size=1024, accumulation=2))
    batch = Batch(torch.zeros(count, 1), torch.ones(count, 1), torch.arange(count))
    given_label_step(lambda student, target: (student - target).mean(), part_size=size)(forward, batch, None)
    assert seen == parts


def _recipe(**options):
    options = fkd.FkdOptions(**options)
    return fkd.FkdRecipe.of(SimpleNamespace(dataset=toy_dataset()), options, options=options, teacher=None)


@pytest.mark.parametrize(
    ("schedule", "epochs", "expected"),
    [
        ("cosine", 300, {0: 1.0, 150: 0.5, 299: 2.7415e-5}),
        ("half_cosine", 400, {0: 1.0, 200: 0.853553}),
        ("linear", 300, {0: 1.0, 150: 0.5}),
        ("warmup_cosine", 100, {0: 0.01, 5: 1.0, 99: 0.000273}),
    ],
)
def test_schedules(schedule, epochs, expected):
    factor = _recipe(schedule=schedule, epochs=epochs).schedule
    assert {epoch: factor(epoch) for epoch in expected} == pytest.approx(expected, abs=1e-6)
    assert schedules.cosine(400)(400) == pytest.approx(0)


@pytest.mark.parametrize(("optimiser", "decay"), [("adamw", "matrices"), ("sgd", "matrices"), ("sgd", "all")])
def test_which_parameters_decay(optimiser, decay):
    from ddbench_plugins.networks import convnet

    network = convnet.build(in_channels=1, image_size=8, num_classes=3, depth=1, width=8, norm="batch")
    made = _recipe(optimiser=optimiser, decay=decay, weight_decay=0.02).optimiser(network)
    decayed = sum(p.numel() for group in made.param_groups if group["weight_decay"] for p in group["params"])
    assert all(group["weight_decay"] in (0, 0.02) for group in made.param_groups)
    biases = sum(p.numel() for p in network.parameters() if p.ndim == 1)
    assert decayed == sum(p.numel() for p in network.parameters()) - (biases if decay == "matrices" else 0)


def test_top_k_must_leave_a_class_out(ctx):
    mine = _resolved(replace(ctx, explicit={"evaluator": {"top_k": 3}}), dataset="toy")
    with pytest.raises(UsageError, match="none of the 3 classes"):
        fkd.Fkd().check(mine, ())


@pytest.mark.parametrize("flip", [True, False])
def test_images_that_must_not_be_mirrored_are_not(ctx, flip):
    import torch

    mine = _resolved(ctx, dataset="toy")
    plan = fkd.make_plan(replace(mine, _dataset=replace(mine.dataset, flip=flip)), 0)
    views = list(plan.views(torch.zeros(40, 1, 8, 8), 0))
    assert all((view.flips is not None) == flip for view in views)


def test_repeats_share_stored_labels_and_draw_their_own_on_line(ctx):
    mine = _resolved(ctx, dataset="toy")
    assert fkd.make_plan(mine, 0).seed != fkd.make_plan(mine, 1).seed


@pytest.mark.slow
def test_the_protocol_shows_every_option_and_reads_every_pixel_space():
    # Every option of a Literal, a number or a boolean is changed in turn; the digest must change.
    spec = ddbench.EvaluatorSpec("fkd", "ddbench_plugins.evaluators.fkd.evaluator:Fkd", label_type="soft")
    options = {"epochs": 8, "batch_size": 4, "padding": 1, "temperature": 4, "lr": 0.01}
    assert check_evaluator(spec, options=options, network="convnet-1-bn").mean > 0.5


def _run(folder: Path, **options) -> ddbench.results.schema.Record:
    chosen = {"epochs": 4, "teacher": "convnet-3-bn", **options}
    how = {"network": "convnet-1-bn", "registry": folder / "registry"}
    (record,) = ddbench.run("random", "fkd", ipc=2, repeats=2, options={"evaluator": chosen}, **how)
    return record


@pytest.mark.slow
@pytest.mark.usefixtures("shared_teachers")
def test_labels_are_stored_once_and_billed_in_every_record(tmp_path):
    first = _run(tmp_path)
    (labels,) = [step for step in first.costs.steps if step["step"] == "soft-labels"]
    home = tmp_path / "home" / "soft-labels"
    (folder,) = [path for path in home.iterdir() if path.is_dir()]
    on_disk = sum(path.stat().st_size for path in folder.iterdir() if path.name != "step.json")
    assert labels["bytes_labels"] == on_disk > 20 * 4 * (2 * 10 + 17 - 1)  # digits are not mirrored
    distilled = first.costs.bytes_labels - on_disk
    assert 0 < distilled < 1000

    shutil.rmtree(home)  # finished students need no labels, and their record still says what they cost
    again = _run(tmp_path)
    assert not home.exists()
    assert again.digest == first.digest
    assert again.costs.bytes_labels == first.costs.bytes_labels

    online = _run(tmp_path, labels="online")
    assert online.costs.bytes_labels == distilled
    assert online.protocol.digest != first.protocol.digest
    # Repeat 0 sees the same batches; only rounding to half precision differs, and what follows from it.
    assert online.result.metrics[0]["final_loss"] == pytest.approx(first.result.metrics[0]["final_loss"], rel=0.2)

    few = _run(tmp_path, top_k=2)
    assert few.costs.bytes_labels < first.costs.bytes_labels
    assert len({record.protocol.digest for record in (first, online, few)}) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("shared_teachers")
def test_a_teacher_in_train_mode_and_the_whole_set(tmp_path):
    usual, train_mode = _run(tmp_path), _run(tmp_path, teacher_mode="train")
    assert usual.result.metrics != train_mode.result.metrics
    (whole,) = ddbench.run("full", "fkd", network="mlp", repeats=1, registry=tmp_path / "registry")
    assert whole.distilled.whole and whole.result.values[0] > 0.9
