"""DD-Ranking's scores and protocol (Li et al. 2025)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ddbench_plugins.evaluators.lrs import evaluator as lrs
from ddbench_plugins.evaluators.lrs import recipe as student_recipe
from ddbench_plugins.evaluators.lrs import trials
from ddbench_plugins.evaluators.lrs.recipe import TrialRecipe
from ddbench_plugins.evaluators.lrs.reference import TABLE, real_reference
from ddbench_plugins.evaluators.lrs.scores import (
    augmentation_robust_beta,
    hard_label_recovery,
    improvement_over_random,
    label_robust_alpha,
    robust_score,
)
from ddbench_plugins.training.steps import Batch
from hypothesis import given
from hypothesis import strategies as st

import ddbench
from ddbench.experiment.pipeline import distil, evaluate, prepare_evaluator, prepare_method
from ddbench.plugin.manager import load_plugins
from ddbench.plugin.options import Preset
from ddbench.runtime.context import Context
from ddbench.testing.conformance import check_evaluator
from ddbench.testing.toy import toy_dataset

fractions = st.floats(0, 1)
QUICK = {"epochs": 6, "lr": 0.01}


def test_values_of_the_score():
    found = [robust_score(x) for x in (-1, -0.3, 0, 1)]
    assert found == pytest.approx([0, 0.15867, 0.2689414, 1], abs=5e-6)


@given(real=fractions, hard=fractions, syn=fractions, random=fractions, weight=fractions)
def test_scores_are_fractions_and_grow_with_the_set(real, hard, syn, random, weight):
    def score(syn: float, hard: float) -> float:
        ior, hlr = improvement_over_random(syn, random), hard_label_recovery(real, hard)
        return robust_score(label_robust_alpha(ior, hlr, weight))

    assert 0 <= score(syn, hard) <= 1
    assert score(min(1, syn + 0.1), hard) >= score(syn, hard) >= score(syn, max(0, hard - 0.1))
    beta = augmentation_robust_beta(syn - random, hard - random, weight)
    assert min(syn, hard) - random - 1e-9 <= beta <= max(syn, hard) - random + 1e-9


@given(st.lists(st.floats(-1, 1), min_size=2))
def test_the_score_is_monotone(values):
    assert [robust_score(x) for x in sorted(values)] == sorted(map(robust_score, values))


def test_percentages_are_refused():
    with pytest.raises(ValueError, match="not percent"):
        hard_label_recovery(56.5, 40.0)
    with pytest.raises(ValueError, match="not percent"):
        robust_score(-10)


def test_scores_of_a_run():
    found = {"real_hard": 0.9, "syn_hard": 0.4, "syn": 0.6, "random": 0.5, "syn_plain": 0.3, "random_plain": 0.4}
    made = lrs.scores(found, 0.5, 0.5)
    assert (made["hlr"], made["ior"], made["alpha"]) == pytest.approx((0.5, 0.1, -0.2))
    assert (made["ior_plain"], made["beta"], made["ars"]) == pytest.approx((-0.1, 0, 0.2689414))
    assert made["lrs"] == pytest.approx((math.exp(-0.2) - math.exp(-1)) / (math.e - math.exp(-1)))
    assert "ars" not in lrs.scores({name: found[name] for name in list(found)[:4]}, 0.5, 0.5)


def _options(preset: str, **facts):
    plugins = load_plugins()
    ctx = Context(plugins=plugins, store=None, reporter=None, preset=Preset.parse(preset))
    ctx.match_context = lambda: facts
    return Context.with_options_of(ctx, lrs.Lrs(), plugins.get("evaluator", "lrs"))


SOFT = {
    "labels": "soft",
    "soft_label_mode": "M",
    "optimiser": "adamw",
    "weight_decay": 0.01,
    "schedule": "half_cosine",
}


@pytest.mark.parametrize(
    ("dataset", "network", "ipc", "expected"),
    [
        ("cifar10", "convnet-3", 10, {"labels": "hard", "augmentation": "dsa", "epochs": 1000, "batch_size": 256}),
        ("tiny-imagenet", "convnet-4", 1, {"optimiser": "sgd", "weight_decay": 5e-4, "schedule": "step", "lr": None}),
        ("cifar10", "convnet-3-bn", 1, {**SOFT, "batch_size": 10, "epochs": 300, "lr": 0.001}),
        ("cifar10", "convnet-3-bn", 10, {"batch_size": 50, "augmentation": "cutmix", "temperature": 20}),
        ("cifar10", "convnet-3-bn", 50, {"batch_size": 100, "flip": True, "crop_scale": 1.0, "loss": "kl"}),
        ("cifar100", "convnet-3-bn", 1, {"batch_size": 20}),
        ("cifar100", "convnet-3-bn", 10, {"batch_size": 50}),
        ("cifar100", "convnet-4-bn", 50, {"batch_size": 200}),
        *(("tiny-imagenet", "convnet-4-bn", i, {"batch_size": b}) for i, b in ((1, 100), (10, 100), (50, 200))),
        ("cifar100", "modified-resnet-18", 10, {**SOFT, "temperature": 30, "mixup_alpha": 0.8, "crop_padding": 4}),
        ("cifar10", "modified-resnet-18", 10, {"augmentation": "mixup", "epochs": 400, "batch_size": 256, "lr": None}),
        ("tiny-imagenet", "modified-resnet-18", 10, {**SOFT, "epochs": 400, "batch_size": 1024, "crop_scale": 0.08}),
        ("imagenet-1k", "modified-resnet-18", 10, {**SOFT, "epochs": 300, "temperature": 20, "real": "table"}),
    ],
)
def test_configurations_of_the_leaderboard(dataset, network, ipc, expected):
    found = _options("paper", dataset=dataset, network=network, ipc=ipc).options.model_dump()
    assert {name: found[name] for name in expected} == expected
    assert (found["selection"], found["lr_selection"], found["reference_lr"]) == ("last", "validation", "same")


def test_steps_at_half_of_the_epochs():
    assert lrs._step_size(_options("paper", network="convnet-3").options) == 500


def test_official_turns_the_quirks_on_and_cpu_says_what_it_shrinks():
    found = _options("paper+official", network="convnet-3").options
    quirks = (found.selection, found.lr_selection, found.reference_lr, found.real, found.mix_hard_labels)
    assert quirks == ("best_test", "test", "search", "official", False)
    assert found.normalisation == "dataset"
    assert _options("official", network="convnet-3-bn").options.normalisation == "imagenet"
    assert _options("official", network="convnet-3", dataset="cifar100").options.normalisation == "cifar10"
    assert _options("official", network="convnet-3-bn", dataset="cifar100").options.normalisation == "imagenet"
    assert _options("", network="convnet-3", dataset="cifar100").options.normalisation == "dataset"
    shrunk = _options("", network="convnet-3").resolved.shrunk
    assert set(shrunk) == {("lr", None, 0.01), ("epochs", 1000, 300)}
    shrunk = _options("", network="convnet-3", dataset="cifar10").resolved.shrunk
    assert ("real", "table", "reference") in shrunk


def test_table_of_networks_trained_on_everything():
    row = TABLE["cifar10", "convnet-3"]
    assert (row.optimiser, row.lr, row.weight_decay, row.step_size, row.epochs, row.batch_size) == (
        *("sgd", 0.01, 5e-4),
        *(100, 200, 512),
    )
    assert TABLE["cifar100", "convnet-3-bn"] == row
    row = TABLE["tiny-imagenet", "modified-resnet-18"]
    assert (row.optimiser, row.weight_decay, row.schedule, row.epochs) == ("adamw", 0.01, "half_cosine", 100)
    row = TABLE["imagenet-1k", "modified-resnet-18"]
    assert (row.lr, row.weight_decay, row.step_size, row.epochs) == (0.1, 1e-4, 30, 90)


def _recipe(**changes) -> TrialRecipe:
    return replace(TrialRecipe(False, 30, 8, "sgd", 5e-4, "step", 15), **changes)


def test_tests_are_made_every_ten_epochs_and_after_the_last():
    assert _recipe(epochs=35, test_every=10).test_epochs() == [9, 19, 29, 34]
    assert _recipe(epochs=30, test_every=10).test_epochs() == [9, 19, 29]
    assert _recipe().test_epochs() == [29]


def test_equal_trainings_have_equal_keys():
    soft = _recipe(soft=True, temperature=20.0, augmentation="cutmix", flip=True)
    assert soft.hard(False) == _recipe(flip=True) == soft.hard(False).canonical()
    assert soft.hard(True).augmentation == "cutmix"
    assert soft.plain() == _recipe(soft=True, temperature=20.0)
    assert _recipe(augmentation="dsa", mix_hard_labels=False).canonical() == _recipe(augmentation="dsa")
    assert _recipe(augmentation="cutmix", mix_hard_labels=False).canonical() != _recipe(augmentation="cutmix")


def _loss(recipe: TrialRecipe, labeller=None, seen=None) -> float:
    images = torch.stack([torch.full((1, 8, 8), float(value)) for value in range(4)])
    batch = Batch(images, torch.arange(4), torch.tensor([3, 2, 1, 0]))
    weights = torch.randn(64, 4, generator=torch.Generator().manual_seed(1)) / 8

    def forward(x):
        if seen is not None:
            seen.append(x)
        return x.flatten(1) @ weights

    return float(student_recipe.label_step(recipe, labeller)(forward, batch, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("augmentation", ["cutmix", "mixup"])
def test_hard_labels_follow_the_mixture_unless_told_otherwise(augmentation):
    plain, mixed, released = [], [], []
    _loss(_recipe(), seen=plain)
    weighed = _loss(_recipe(augmentation=augmentation), seen=mixed)
    unmixed = _loss(_recipe(augmentation=augmentation, mix_hard_labels=False), seen=released)
    assert torch.equal(mixed[0], released[0]) and not torch.equal(mixed[0], plain[0])
    assert weighed != unmixed


def test_teachers_see_the_mixed_batch_and_stored_labels_stay_with_their_image():
    seen, asked = [], []

    def teacher(images, batch):
        asked.append(images)
        return torch.eye(4)

    soft = _recipe(soft=True, augmentation="cutmix")
    _loss(soft, teacher, seen)
    assert torch.equal(seen[0], asked[0])
    stored = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    by_index = _loss(soft, lambda images, batch: stored[batch.indices])
    assert by_index == pytest.approx(_loss(soft, lambda images, batch: stored.flip(0)))


def test_losses():
    student, target = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    labels = torch.tensor([0])
    p, q = torch.softmax(target / 4, 1), torch.log_softmax(student / 4, 1)
    recipe = _recipe(soft=True, temperature=4.0)
    kl = float((p * (p.log() - q)).sum())
    assert float(student_recipe.soft_loss(recipe, student, target, labels)) == pytest.approx(kl)
    scaled = replace(recipe, scale_by_t2=True)
    assert float(student_recipe.soft_loss(scaled, student, target, labels)) == pytest.approx(16 * kl)
    sce = student_recipe.soft_loss(replace(recipe, loss="sce"), student, target, labels)
    assert float(sce) == pytest.approx(float(-(p * q).sum()))
    mse = replace(recipe, loss="mse_gt", mse_weight=1.0, ce_weight=0.025)
    expected = 2.5 + 0.025 * float(-torch.log_softmax(student, 1)[0, 0])
    assert float(student_recipe.soft_loss(mse, student, target, labels)) == pytest.approx(expected)


def _run(ctx: Context, method: str = "random", seed: int = 0, repeats: int = 1, ipc: int = 2, **options):
    ctx = replace(ctx, _dataset=toy_dataset(), ledger=[], explicit={"evaluator": {**QUICK, **options}})
    made = distil(prepare_method(ctx, method, ipc, seed))
    return evaluate(prepare_evaluator(ctx, "lrs", "convnet-1", ipc), made, repeats=repeats)


def _trainings(record) -> set[str]:
    return {step["key"] for step in record.costs.steps if step["step"] == "training"}


@pytest.mark.slow
def test_a_run_with_hard_labels(ctx):
    record = _run(ctx, repeats=2)
    assert len(_trainings(record)) == 2 * 4
    for metrics, last in zip(record.result.metrics, record.result.last, strict=True):
        assert metrics["syn"] == metrics["syn_hard"] == last
        assert metrics["hlr"] == pytest.approx(metrics["real_hard"] - metrics["syn"])
        assert metrics["lrs"] == pytest.approx(robust_score((metrics["ior"] - metrics["hlr"]) / 2))
        assert metrics["ars"] == pytest.approx(robust_score((metrics["ior"] + metrics["ior_plain"]) / 2))
    assert record.protocol.settings["real"]["network"]["network"] == "convnet-1"
    trained = sum(step["seconds"] for step in record.costs.steps if step["step"] == "training")
    assert record.costs.evaluate_seconds >= trained > 0


@pytest.mark.slow
def test_methods_share_random_images_and_nothing_else(ctx):
    first, second = _run(ctx, ars=False), _run(ctx, "herding", ars=False)
    assert len(_trainings(first) & _trainings(second)) == 1
    assert first.result.metrics[0]["random"] == second.result.metrics[0]["random"]
    assert first.result.metrics[0]["real_hard"] == second.result.metrics[0]["real_hard"]
    assert first.protocol.digest == second.protocol.digest


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_trainings_it_has(ctx, monkeypatch):
    made = []
    train = trials.students.train_student

    def failing(*args, **how):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return train(*args, **how)

    monkeypatch.setattr(trials.students, "train_student", failing)
    with pytest.raises(KeyboardInterrupt):
        _run(ctx)
    made[:] = [1] * 10
    record = _run(ctx)
    assert len(made) == 12
    monkeypatch.undo()
    assert record.digest == _run(replace(ctx, store=type(ctx.store)(Path(ctx.store.root, "other")))).digest


@pytest.mark.slow
def test_soft_labels_of_a_teacher(ctx):
    record = _run(ctx, labels="soft", augmentation="mixup", ars=False)
    assert len(_trainings(record)) == 3
    assert record.protocol.settings["teacher"]["network"] == "convnet-1"
    assert record.protocol.settings["label_type"] == "soft"


@pytest.mark.slow
@pytest.mark.parametrize("selection", ["validation", "test"])
def test_a_searched_learning_rate_is_one_of_five(ctx, selection):
    record = _run(ctx, lr="none", lr_selection=selection, ars=False, selection="best_test", reference_lr="search")
    assert len(_trainings(record)) == 2 * 5
    metrics = record.result.metrics[0]
    assert metrics["syn_lr"] in trials.RATES and metrics["random_lr"] in trials.RATES
    assert record.protocol.settings["lr"] == "best of 0.001, 0.005, 0.01, 0.05, 0.1"


@pytest.mark.slow
def test_a_learned_rate_is_the_sets_own(ctx):
    record = _run(replace(ctx, plugins=_with_learned(ctx)), "learned", ars=False)
    assert record.result.metrics[0]["syn_lr"] == 0.03 and record.result.metrics[0]["random_lr"] == 0.01
    stored = {"labels": "soft", "soft_label_mode": "S", "loss": "sce", "temperature": 1, "learned_lr": False}
    record = _run(replace(ctx, plugins=_with_learned(ctx)), "learned", ars=False, **stored)
    assert record.result.metrics[0]["syn_lr"] == 0.01
    assert record.result.metrics[0]["syn"] != record.result.metrics[0]["syn_hard"]


def _with_learned(ctx):
    from ddbench.plugin.manager import Entry, Owner, Plugins

    class Learned(ddbench.Distiller):
        seeded = False

        def distill(self, ctx):
            chosen = [place for c in range(3) for place in ctx.dataset.train.of_class(c)[: ctx.ipc]]
            images, labels = ctx.dataset.arrays("train")
            soft = np.full((len(chosen), 3), 1 / 3, np.float32)
            return ddbench.DistilledSet(images[chosen], labels[chosen], soft_labels=soft, learning_rate=0.03)

    entries = {kind: dict(found) for kind, found in ctx.plugins.entries.items()}
    entries["method"]["learned"] = Entry(ddbench.MethodSpec("learned", Learned), Owner("test", "here"))
    return Plugins(ctx.plugins.manager, entries)


def test_contradictions_are_refused_before_anything_is_trained(ctx):
    for options, words in (
        ({"soft_label_mode": "S"}, "bring no soft labels"),
        ({"soft_label_mode": "S", "loss": "mse_gt"}, "stores probabilities"),
        ({"teachers": ["convnet-1", "convnet-2"], "teacher_file": "a.safetensors"}, "of one teacher"),
    ):
        with pytest.raises(ddbench.UsageError, match=words):
            _run(ctx, labels="soft", **options)


def test_held_out_images_are_not_in_the_set(ctx):
    ctx = replace(ctx, _dataset=toy_dataset())
    ids = ctx.dataset.train.ids
    _, some = trials.held_out(ctx, set(ids[:20]))
    assert len(some) == 3  # a tenth of 36 images, and at least one per class
    with pytest.raises(ddbench.DataError, match="every training image"):
        trials.held_out(ctx, set(ids))


@pytest.mark.slow
def test_the_whole_set_is_its_own_reference(ctx):
    record = _run(ctx, "full")
    assert record.distilled.whole and "lrs" not in record.result.metrics[0]


@pytest.mark.slow
def test_kept_accuracies_and_own_epochs_of_the_released_code(ctx):
    like, how = _recipe(epochs=2, batch_size=9), {"normalisation": "dataset", "selection": "last"}
    data = replace(toy_dataset(), name="imagenet-1k")
    found = real_reference(replace(ctx, _dataset=data, network="modified-resnet-18"), "official", like, **how)
    assert found[0] == 0.565
    ctx = replace(ctx, _dataset=replace(toy_dataset(), name="cifar10"), network="convnet-3")
    accuracy, about = real_reference(ctx, "official", like, **how)
    assert 0 <= accuracy <= 1 and (about["epochs"], about["batch_size"], about["lr"]) == (2, 9, 0.01)
    table = TABLE["cifar10", "convnet-3"].recipe(replace(like, augmentation="dsa", test_every=10), own_size=False)
    assert (table.epochs, table.batch_size, table.augmentation, table.test_every) == (200, 512, "dsa", 10)


@pytest.mark.slow
def test_conformance():
    options = {"epochs": 40, "ars": False, "lr": 0.01, "augmentation": "none"}
    check_evaluator(lrs.Lrs, options=options, network="convnet-1-bn")


@pytest.mark.slow
def test_on_digits(tmp_path):
    how = {"network": "convnet-1-bn", "options": {"eval": {"epochs": 60}}}
    (record,) = ddbench.run("random", "lrs", ipc=5, repeats=1, registry=tmp_path, **how)
    metrics = record.result.metrics[0]
    assert metrics["real_hard"] > metrics["syn"] > 0.5
    assert abs(metrics["ior"]) < 0.25  # random against random
    assert 0 < metrics["lrs"] < robust_score(0) + 0.1 and 0 < metrics["ars"] < 1
    assert ("eval.lr", None, 0.01) in record.shrunk
