"""From a distilled set to a record: what is written, what it cost, and what is kept on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import student_effort
from ddbench.testing.toy import toy_dataset

PLUGIN = Path(__file__).parents[1] / "toy_plugin.py"
#: A method with a step and a snapshot, one that shares the step, and an evaluator with tests on the way.
SOURCE = """
import numpy as np

import ddbench


class Options(ddbench.Options):
    level: int = 7
    best: bool = True


class Keeper(ddbench.Distiller):
    Options = Options

    def painted(self, ctx, level):
        labels = np.repeat(np.arange(ctx.dataset.num_classes), ctx.ipc)
        return ddbench.DistilledSet(np.full((len(labels), 8, 8, 1), level, np.uint8), labels, learning_rate=0.5)

    @ddbench.step(options=["level"])
    def paint(self, ctx, out):
        out.costs.update(bytes_labels=1000)

    def distill(self, ctx):
        self.paint(ctx)
        if ctx.options.level != 7:
            return self.painted(ctx, ctx.options.level)
        ctx.keep("early", self.painted(ctx, 3), level=3)
        return self.painted(ctx, 7)


class Plain(ddbench.Distiller):
    def distill(self, ctx):
        labels = np.repeat(np.arange(ctx.dataset.num_classes), ctx.ipc)
        return ddbench.DistilledSet(np.zeros((len(labels), 8, 8, 1), np.uint8), labels)


class Tested(ddbench.Evaluator):
    Options = Options
    default_network, default_repeats = "convnet-3", 2

    def protocol(self, ctx, distilled):
        return ddbench.Protocol({"network": ctx.network, "label_type": "hard", "selection": "best_test"})

    @ddbench.step()
    def inner(self, ctx, out, repeat):
        pass

    def evaluate(self, ctx, distilled, repeat):
        self.inner(ctx, repeat)
        correct = np.arange(60) < 30 + repeat
        best = 0.75 if ctx.options.best and repeat else None
        curve = [(1, 0.75), (2, float(correct.mean()))]
        return ddbench.Score(
            last=float(correct.mean()), best=best, correct=correct, curve=curve, metrics={"loss": 0.25}
        )


@ddbench.hookimpl
def ddbench_methods():
    return [ddbench.MethodSpec("keeper", Keeper, ""), ddbench.MethodSpec("plain", Plain, "")]


@ddbench.hookimpl
def ddbench_evaluators():
    return [ddbench.EvaluatorSpec("tested", Tested, "")]
"""


@pytest.fixture
def how(tmp_path):
    (tmp_path / "kept.py").write_text(SOURCE)
    return {"dataset": "toy", "ipc": 2, "plugins": [PLUGIN, tmp_path / "kept.py"]}


@pytest.fixture
def run(tmp_path, how):
    return lambda method, **more: ddbench.run(method, "tested", registry=tmp_path / "registry", **how, **more)


def test_the_headline_is_the_best_test_where_there_is_one(run):
    (record,) = run("plain")
    assert record.result.values == [0.5, 0.75]
    assert record.result.last == [0.5, 31 / 60] and record.result.best == [None, 0.75]
    assert record.result.curves == [[(1, 0.75), (2, 0.5)], [(1, 0.75), (2, 31 / 60)]]
    assert record.result.metrics == [{"loss": 0.25}] * 2 and record.result.test_images == 60
    assert record.result.correct_bits(1).tolist() == [True] * 31 + [False] * 29
    assert (record.distilled.count, record.distilled.shape, record.distilled.whole) == (6, [6, 8, 8, 1], False)


def test_a_record_bills_its_own_steps_and_no_others(run):
    first, second = run("keeper,plain")
    named = [{step["step"] for step in record.costs.steps} for record in (first, second)]
    assert named == [{"paint", "distilled", "student", "inner"}, {"distilled", "student", "inner"}]
    keys = [{step["key"] for step in record.costs.steps} for record in (first, second)]
    assert len(first.costs.steps) == len(keys[0]) == 6 and len(second.costs.steps) == len(keys[1]) == 5
    # Six labels of eight bytes, and what a step says that it stored.
    assert (first.costs.bytes_labels, second.costs.bytes_labels) == (6 * 8 + 1000, 6 * 8)
    for record in (first, second):
        seconds = {"distill": 0.0, "evaluate": 0.0}
        for step in record.costs.steps:
            seconds["distill" if step["step"] in ("paint", "distilled") else "evaluate"] += step["seconds"]
        assert record.costs.distill_seconds == pytest.approx(seconds["distill"], abs=1e-3)
        assert record.costs.evaluate_seconds == pytest.approx(seconds["evaluate"], abs=1e-3)
        assert record.costs.peak_bytes == max(step["peak_process_bytes"] for step in record.costs.steps)


def test_what_was_reused_is_billed_as_well(run):
    (first,) = run("keeper")
    (again,) = run("keeper")
    assert sorted(again.costs.steps, key=str) == sorted(first.costs.steps, key=str)
    assert again.costs.model_dump(exclude={"steps"}) == first.costs.model_dump(exclude={"steps"})


def test_the_record_of_a_folder_does_not_know_what_distilling_cost(tmp_path, how):
    (made,) = ddbench.distill("plain", out=tmp_path / "sets", **how)
    how.pop("ipc")
    (record,) = ddbench.evaluate(made.path, "tested", registry=tmp_path / "registry", **how)
    assert record.costs.distill_seconds is None


def test_a_snapshot_is_a_set_of_the_run_that_would_have_ended_with_it(how, tmp_path):
    (made,) = ddbench.distill("keeper", out=tmp_path / "sets", **how)
    early = ddbench.load(made.path / "snapshots" / "early")
    assert np.unique(early.images).tolist() == [3] and np.unique(made.images).tolist() == [7]
    assert early.about["method"]["options"]["level"] == 3 and early.about["ipc"] == 2
    (short,) = ddbench.distill("keeper", options={"method": {"level": 3}}, **how)
    assert early.about["digest"] == short.about["digest"]


def test_a_students_time_grows_with_passes_of_images_through_networks():
    data = toy_dataset()  # 60 test images
    made = ddbench.DistilledSet(np.zeros((6, 8, 8, 1), np.uint8), np.arange(6) % 3)
    told = {"network": "mlp", "epochs": 50, "batch_size": 4, "lr": 0.1, "temperature": 20}
    soft = ddbench.Protocol({**told, "label_type": "soft", "teacher": {"network": "convnet-3", "accuracy": 0.9}})
    hard = ddbench.Protocol({**told, "label_type": "hard"})
    found = student_effort("rded", soft, made, data)
    assert found.amount == (3 + 1) * 50 * 6 + 60
    assert student_effort("rded", hard, made, data).amount == 3 * 50 * 6 + 60
    assert found.comparable_by == {
        "evaluator": "rded",
        "teacher": "convnet-3",
        "settings": {"network": "mlp", "batch_size": 4, "label_type": "soft"},
        "data": [8, 1, 3],
    }
    assert student_effort("rded", ddbench.Protocol({"network": "mlp", "label_type": "hard"}), made, data) is None
