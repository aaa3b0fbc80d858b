"""Loops' figures: kept with their step, cut back to the checkpoint when a run resumes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

import ddbench
from ddbench.runtime import metrics
from ddbench.runtime.steps import cached
from ddbench.runtime.store import Store
from ddbench.tables import describe


def test_figures_keep_all_digits(ctx):
    def build(step):
        with ctx.progress("matching", 3) as advance:
            advance(1, 3, {"ce loss": 1 / 3, "bn": math.nan, "step": 7})
            advance(2, 3, {"ce loss": math.inf})

    (line,) = metrics.read(cached(ctx, "loop", {}, build).dir)
    assert line == {"task": "matching", "step": 1, "total": 3, "seconds": line["seconds"], "ce loss": 1 / 3}


def _loop(ctx, stop=None, total=6, save=2):
    """A step whose loop counts to ``total``; it dies at ``stop`` and keeps a checkpoint every ``save`` steps."""
    torch = pytest.importorskip("torch")

    def build(step):
        first = (step.load() or {"done": 0})["done"]
        with ctx.progress("matching", total) as advance:
            for done in range(first + 1, total + 1):
                advance(done, total, {"loss": 1 / done})
                if done % save == 0:
                    step.save({"done": done, "weights": torch.zeros(1)})
                if done == stop:
                    raise KeyboardInterrupt

    return cached(ctx, "loop", {"total": total}, build)


def _told(done):
    return [(line["step"], line["loss"]) for line in metrics.read(done.dir)]


@pytest.mark.parametrize("stop", [1, 3, 4, 5])
def test_a_resumed_loop_tells_what_an_undisturbed_one_tells(ctx, tmp_path, stop):
    undisturbed = _loop(ctx)
    other = replace(ctx, store=Store(tmp_path / "other"))
    with pytest.raises(KeyboardInterrupt):
        _loop(other, stop=stop)
    resumed = _loop(other)
    assert _told(resumed) == _told(undisturbed) == [(i, 1 / i) for i in range(1, 7)]
    clock = [line["seconds"] for line in metrics.read(resumed.dir)]
    assert clock == sorted(clock)
    assert resumed.cost()["seconds_per_step"].keys() == {"matching"}
    assert "seconds_per_step" in json.loads((resumed.dir / "step.json").read_text())["costs"]


def test_figures_go_to_the_innermost_step(ctx):
    def inner(step):
        with ctx.progress("teacher", 2) as advance:
            advance(1, 2, {"loss": 3})

    def outer(step):
        with ctx.progress("matching", 2) as advance:
            advance(1, 2, {"loss": 1})
            folders["inner"] = cached(ctx, "inner", {}, inner).dir
            advance(2, 2, {"loss": 0.5})

    folders = {}
    done = cached(ctx, "outer", {}, outer)
    assert _told(done) == [(1, 1.0), (2, 0.5)]
    assert [line["task"] for line in metrics.read(folders["inner"])] == ["teacher"]
    with ctx.progress("outside of every step", 1) as advance:
        advance(1, 1, {"loss": 1})


def test_figures_in_a_text_are_refused_with_what_to_write_instead(ctx):
    with ctx.progress("matching", 2) as advance, pytest.raises(ddbench.PluginError, match="'loss 3'") as refused:
        advance(1, 2, "loss 3")
    assert 'advance(done, total, {"loss": loss})' in refused.value.hint


def test_tasks_without_figures_leave_no_file(ctx):
    def build(step):
        with ctx.progress("cropping", 3) as advance:
            advance(3, 3)

    done = cached(ctx, "plain", {}, build)
    assert not (done.dir / metrics.FILE).exists() and "seconds_per_step" not in done.cost()


def test_long_loops_are_thinned_and_keep_their_end(ctx):
    def build(step):
        with ctx.progress("long", 50_000) as advance:
            for i in range(1, 50_001):
                advance(i, 50_000, {"loss": 1})

    told = _told(cached(ctx, "long", {}, build))
    assert metrics.LINES <= len(told) <= metrics.LINES + 1
    assert told[-1][0] == 50_000


def test_the_pace_counts_from_line_to_line_of_a_stretch():
    lines = [("a", 10, 5.0), ("a", 20, 6.0), ("a", 10, 9.0), ("a", 30, 11.0), ("b", 1, 4.0)]
    told = [{"task": task, "step": step, "seconds": seconds} for task, step, seconds in lines]
    assert metrics.seconds_per_step(told) == {"a": 0.1}


class Matching(ddbench.Distiller):
    """The first images of each class, after a loop that says something."""

    def distill(self, ctx):
        with ctx.progress("matching", 3) as advance:
            for i in range(3):
                advance(i + 1, 3, {"loss": 1 / (i + 1)})
        data = ctx.dataset
        chosen = [i for label in range(data.num_classes) for i in data.train.of_class(label)[: ctx.ipc]]
        return ddbench.DistilledSet(data.train.images.batch(chosen, data.image_size), data.train.labels[chosen])


PLUGIN = """
from ddbench import MethodSpec, hookimpl
from tests_metrics_method import Matching

@hookimpl
def ddbench_methods():
    return [MethodSpec("matching", Matching)]
"""


def test_a_record_holds_pace_and_memory_and_its_digest_holds_no_clock(tmp_path, monkeypatch):
    import sys
    from pathlib import Path

    monkeypatch.setitem(sys.modules, "tests_metrics_method", sys.modules[__name__])
    (tmp_path / "matching.py").write_text(PLUGIN)
    settings = {
        "dataset": "toy",
        "ipc": 2,
        "plugins": [tmp_path / "matching.py", Path(__file__).parents[1] / "toy_plugin.py"],
        "registry": tmp_path / "registry",
    }
    (record,) = ddbench.run("matching", "nearest-mean", **settings)
    (distilled,) = [step for step in record.costs.steps if step["step"] == "distilled"]
    assert distilled["seconds_per_step"]["matching"] >= 0 and record.costs.peak_bytes > 0
    assert any("s per step of matching" in line for line in describe.summary(record))
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "other"))
    (again,) = ddbench.run("matching", "nearest-mean", **settings)
    assert again.digest == record.digest
    (made,) = ddbench.distill("matching", dataset="toy", ipc=2, plugins=settings["plugins"], out=tmp_path / "sets")
    assert [line["step"] for line in metrics.read(made.path)] == [1, 2, 3]


def test_curves_of_a_folder(tmp_path, capsys):
    from ddbench.cli import main

    lines = [
        {"task": "matching", "step": i, "total": 9, "seconds": i / 10, "loss": 1 / i, "lr": 0.1} for i in (1, 5, 9)
    ]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / metrics.FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "loss.svg"
    with pytest.raises(SystemExit) as stop:
        main(["curves", str(tmp_path / "set"), "--out", str(out)])
    assert stop.value.code == 0, capsys.readouterr().err
    text = out.read_text()
    assert "<!-- loss -->" in text and "<!-- lr -->" in text and "matching" in text
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(["curves", str(tmp_path / "empty"), "--out", str(out)])
    assert stop.value.code == 2 and "metrics.jsonl" in capsys.readouterr().err
