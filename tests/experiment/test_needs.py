"""Methods and evaluators at work use no step that they do not declare; what they declare is planned and keyed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.errors import PluginError
from ddbench.experiment import dependencies, pipeline
from ddbench.plugin.manager import Entry, Owner
from ddbench.runtime.steps import AnyCall, steps_of
from ddbench.testing.toy import toy_dataset


@ddbench.step(facts=["ipc"])
def judged(ctx, out, number):
    out.info["number"] = number


class Method(ddbench.Distiller):
    seeded = False
    declared = (judged,)

    def needs(self, ctx):
        return self.declared

    def distill(self, ctx):
        assert judged(ctx, 3).info["number"] == 3
        rows = np.concatenate([ctx.dataset.train.of_class(label)[: ctx.ipc] for label in range(3)])
        return ddbench.DistilledSet(ctx.dataset.train.images.batch(rows, 8), ctx.dataset.train.labels[rows])


class Evaluator(ddbench.Evaluator):
    needs_network = False
    used: dict = {}  # noqa: RUF012

    def needs(self, ctx, distilled, repeat):
        return [judged.of(ctx, repeat)]

    def protocol(self, ctx, distilled):
        judged(ctx, self.used.get("protocol", 0))
        return ddbench.Protocol({"network": "none", "label_type": "hard", "selection": "last"})

    def evaluate(self, ctx, distilled, repeat):
        judged(ctx, self.used.get("evaluate", repeat))
        return ddbench.Score(last=0.0, correct=np.zeros(len(ctx.dataset.test), bool))


@pytest.fixture
def run(ctx, monkeypatch):
    """Return the context of a run with both plugins; nothing of them stays."""
    monkeypatch.setattr(Method, "declared", Method.declared)
    monkeypatch.setattr(Evaluator, "used", {})
    owner, entries = Owner("probe", "file"), dict(ctx.plugins.entries)
    for spec in (ddbench.MethodSpec("probe", Method), ddbench.EvaluatorSpec("probe", Evaluator)):
        entries[spec.kind] = {**entries[spec.kind], "probe": Entry(spec, owner)}
    return replace(ctx, plugins=replace(ctx.plugins, entries=entries), _dataset=toy_dataset())


def distil(run):
    return pipeline.distil(pipeline.prepare_method(run, "probe", 2, 0))


def evaluate(run, repeats=2):
    return pipeline.evaluate(pipeline.prepare_evaluator(run, "probe", "", 2), distil(run), repeats=repeats)


def test_a_step_without_arguments_may_be_called_with_any(run):
    assert [entry["step"] for entry in distil(run).steps] == ["judged", "distilled"]


def test_a_method_uses_no_step_that_it_does_not_declare(run):
    Method.declared = ()
    with pytest.raises(PluginError, match="Method probe uses the step judged, which it does not declare") as caught:
        distil(run)
    assert "`needs`" in caught.value.hint and "judged.of(…)" in caught.value.hint


@pytest.mark.parametrize(("where", "number"), [("protocol", 1), ("evaluate", 5)])
def test_an_evaluator_uses_no_step_that_it_does_not_declare(run, where, number):
    Evaluator.used = {where: number}
    with pytest.raises(PluginError, match="Evaluator probe uses the step judged, which it does not declare"):
        evaluate(run)


def test_an_evaluator_uses_what_it_declares_for_each_network(run):
    assert [cost["step"] for cost in evaluate(run).costs.steps].count("judged") == 3  # 3 of the method, 0 and 1


def test_what_is_declared_is_in_the_key(run):
    bound = pipeline.prepare_method(run, "probe", 2, 0)
    first = pipeline.artifact(bound)["steps"]
    judged.version = 2
    try:
        second = pipeline.artifact(bound)["steps"]
    finally:
        judged.version = 1
    Method.declared = [judged.of(bound.ctx, 3)]
    assert len({str(steps) for steps in (first, second, pipeline.artifact(bound)["steps"])}) == 3
    (call,) = steps_of(Method(), bound.ctx)
    assert not isinstance(call, AnyCall)
    evaluator = pipeline.prepare_evaluator(run, "probe", "", 2)
    made = distil(run)
    keys = [dependencies.steps(*evaluator, made.content, repeat) for repeat in (0, 1)]
    assert keys[0] != keys[1]


@pytest.mark.parametrize("name", ["dc", "datm", "fkd", "idc", "lrs", "minimax", "rded"])
def test_the_whole_set_is_measured_by_a_declared_network(run, name, monkeypatch):
    bound = pipeline.prepare_evaluator(run, name, "convnet-1", None)
    images, labels = run.dataset.arrays("train")
    whole = ddbench.DistilledSet(images, labels, whole=True)
    calls = [steps_of(bound.plugin, bound.ctx, whole, repeat) for repeat in (0, 1)]
    assert [[call.name for call in own] for own in calls] == [["teacher"], ["teacher"]]
    assert calls[0][0].key != calls[1][0].key
    made = replace(distil(run), content=whole, ipc=None)
    monkeypatch.setattr(type(bound.plugin), "needs", lambda *_: [])
    with pytest.raises(PluginError, match=f"Evaluator {name} uses the step teacher, which it does not declare"):
        pipeline.evaluate(bound, made, repeats=1)


@pytest.mark.parametrize(
    ("kind", "name", "options", "step"),
    [
        ("evaluator", "fkd", {}, "soft-labels"),
        ("evaluator", "fkd", {"labels": "online"}, None),
        ("evaluator", "lrs", {}, "training"),
        ("method", "mtt", {"keep": "best_validation"}, "mtt-student"),
        ("method", "mtt", {"keep": "last"}, None),
    ],
)
def test_built_in_plugins_declare_the_steps_that_follow_while_they_work(run, kind, name, options, step):
    run = replace(run, explicit={kind: options})
    images, labels = run.dataset.arrays("train")
    if kind == "evaluator":
        plugin, ctx, _ = pipeline.prepare_evaluator(run, name, "convnet-3-bn", 2)
        calls = steps_of(plugin, ctx, ddbench.DistilledSet(images[:3], labels[:3]), 0)
    else:
        plugin, ctx, _ = pipeline.prepare_method(run, name, 2, 0)
        calls = steps_of(plugin, ctx)
    assert [call.name for call in calls if isinstance(call, AnyCall)] == [step] * (step is not None)
