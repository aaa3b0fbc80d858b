"""Repeats of a cell that are trained at once: the record of those trained one after the other, and who says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ddbench_plugins.training import stacking

import ddbench
from ddbench.experiment.pipeline import distil, evaluate, prepare_evaluator, prepare_method
from ddbench.runtime import machine
from ddbench.runtime.machine import Machine
from ddbench.runtime.progress import Reporter
from ddbench.runtime.store import Store
from ddbench.testing.toy import toy_dataset


class Told(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def record(ctx, tmp_path, monkeypatch):
    """Return a function: the record of a protocol on toy images, and what was warned of."""
    data = toy_dataset(per_class=6, channels=3)

    def run(home, repeats, at_once="", evaluator="dc", network="convnet-1-bn", device="cpu", **options):
        monkeypatch.setenv("DDBENCH_REPEATS_AT_ONCE", at_once)
        reporter = Told()
        mine = replace(ctx, _dataset=data, store=Store(tmp_path / home), reporter=reporter)
        mine = replace(
            mine, machine=Machine(device, "fp32"), explicit={"evaluator": {"epochs": 3, "augment": "plain", **options}}
        )
        bound = prepare_evaluator(mine, evaluator, network, 2)
        return evaluate(bound, distil(prepare_method(mine, "random", 2, 0)), repeats=repeats), reporter.warnings

    return run


def test_the_record_is_that_of_repeats_trained_one_after_the_other(record):
    wanted, _ = record("one", 4)
    found, told = record("all", 3, "auto")
    assert not told and found.environment["repeats_at_once"] == 3 and "repeats_at_once" not in wanted.environment
    assert [step["step"] for step in found.costs.steps].count("students") == 1
    assert found.key == wanted.key
    more, _ = record("all", 4, "3")  # the fourth by itself
    for mine, theirs in zip(more.result.metrics, wanted.result.metrics, strict=True):
        assert mine["final_loss"] == pytest.approx(theirs["final_loss"], rel=1e-4)
    assert more.result.last[:3] == found.result.last
    assert more.result.last == pytest.approx(wanted.result.last, abs=1 / 9)


def test_where_a_network_cannot_be_stacked_that_is_said_once(record, monkeypatch):
    def refused(*_):
        raise stacking.NotStackableError("its forward pass mixes channels")

    monkeypatch.setattr(stacking, "check", refused)
    found, told = record("home", 3, "2")
    assert "repeats_at_once" not in found.environment
    (line,) = [line for line in told if "one after the other" in line]
    assert "convnet-1-bn" in line and "mixes channels" in line


def test_auto_leaves_steps_of_many_graphs_alone(record):
    found, told = record("home", 2, "auto", augment="dsa")
    assert "repeats_at_once" not in found.environment and not told


@pytest.mark.parametrize(
    ("asked", "device", "most"), [("", "cpu", 1), ("", "cuda:1", None), ("auto", "cpu", None), ("4", "cuda", 4)]
)
def test_how_many_are_trained_at_once_is_a_choice(monkeypatch, asked, device, most):
    monkeypatch.setenv("DDBENCH_REPEATS_AT_ONCE", asked)
    assert machine.repeats_at_once(device) == most


@pytest.mark.parametrize("asked", ["0", "-1", "many", "1.5"])
def test_another_choice_is_refused(monkeypatch, asked):
    monkeypatch.setenv("DDBENCH_REPEATS_AT_ONCE", asked)
    with pytest.raises(ddbench.UsageError, match="not auto or a number"):
        machine.repeats_at_once("cuda")
