"""The check of a GPU, as far as it can run without one: its dry run, its reports, what it holds against each other."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("gpu", "gpu_parts.agreement", "gpu_parts.jobs", "gpu_parts.report", "gpu_parts.settings")


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return {name.rpartition(".")[2]: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def setting(bench, tmp_path):
    return bench["jobs"].Setting(tmp_path / "out", "cpu", tiny=True, deadline=time.time() + 600)


def test_a_dry_run_measures_and_reports(bench, tmp_path):
    words = ["--out", str(tmp_path), "--device", "cpu", "--tiny", "--parts", "machine,students"]
    for job in ("machine", "students"):  # here, where torch is imported already, rather than in processes of their own
        assert bench["gpu"].main([*words, "--job", job]) == 0
    assert bench["gpu"].main(words) == 0
    content = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert content["left_out"] == [] and {row["part"] for row in content["rows"]} == {"machine", "students"}
    (student,) = (row["figures"] for row in content["rows"] if row["part"] == "students")
    assert student["ms per step"] > 0 and student["share of bf16 peak"] > 0
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "## machine" in text and "copy on the device" in text and "0 not as they should be" in text


def test_jobs_that_ended_are_not_done_again_and_errors_are_rows(bench, setting):
    jobs = bench["jobs"]
    done = []

    def works(setting):
        done.append(1)
        yield jobs.Row("part", "a thing", {"ms": 1.5})

    def fails(setting):
        yield jobs.Row("part", "another", {})
        raise ValueError("broken | in two")

    first, second = jobs.Job("part", "first", works, 9), jobs.Job("part", "second", fails, 9)
    for job in (first, second):
        jobs.carry_out(job, setting)
    assert first.ended(setting.out) and not second.ended(setting.out)
    assert [(row.what, row.ok) for row in second.rows(setting.out)] == [("another", None), ("second", False)]
    runner = jobs.Runner(setting, ["false"])  # what is not done before fails
    assert runner.run([first]) == [] and done == [1]
    text = bench["report"].write(setting, runner.rows() + second.rows(setting.out), ["third"])
    assert "| a thing | 1.5 |" in text and "broken \\| in two" in text and "third" in text


def test_a_job_that_takes_too_long_is_ended_and_what_it_found_is_kept(bench, setting):
    jobs = bench["jobs"]
    job = jobs.Job("part", "long", lambda setting: iter(()), seconds=0.0)
    file = job.file(setting.out)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"part": "part", "what": "early", "figures": {}, "ok": True, "note": ""}) + '\n{"par')
    runner = jobs.Runner(setting, ["sh", "-c", "sleep 60"])
    assert runner.run([job]) == []
    assert "early" in [row.what for row in runner.rows()]
    late = jobs.Setting(setting.out, "cpu", tiny=True, deadline=time.time())
    assert jobs.Runner(late, ["false"]).run([job]) == ["long"]


def test_devices_are_held_against_the_cpu(bench, setting):
    agreement, jobs = bench["agreement"], bench["jobs"]
    images = np.linspace(0, 255, 48).reshape(1, 4, 4, 3)
    away = images + 0.1 * images.std() * np.sign(images - images.mean())
    cpu, card = (agreement.found_file(setting, *place) for place in (("cpu", "fp32"), ("cuda", "fp32")))
    rough = agreement.found_file(setting, "cuda", "bf16")
    for file, shown, chosen, accuracy in (
        (cpu, images, images, 0.5),
        (card, away, away, 0.5),
        (rough, away, images, 0.6),
    ):
        agreement.keep(file, "method dm", shown)
        agreement.keep(file, "method random", chosen)
        agreement.keep(file, "method herding", -chosen)
        agreement.keep(file, "evaluator dc", [accuracy, 2.0])
    found = {row.what: row.ok for row in agreement.compared(setting)}
    assert found == {
        "method dm, cuda-fp32": False,  # a tenth apart
        "method dm, cuda-bf16": True,
        "method random, cuda-fp32": False,  # must be the same
        "method random, cuda-bf16": True,
        "method herding, cuda-fp32": None,
        "method herding, cuda-bf16": None,
        "evaluator dc, cuda-fp32": True,
        "evaluator dc, cuda-bf16": False,  # ten points apart
    }
    other = jobs.Setting(setting.out / "other", "cpu", tiny=True, deadline=0)
    assert [row.ok for row in agreement.compared(other)] == [False]


def test_every_method_and_evaluator_has_settings_of_options_that_are_there_or_a_reason(bench):
    from ddbench.plugin.manager import load_plugin, load_plugins

    entries, settings = load_plugins().entries, bench["settings"]
    run = {"method": {*settings.METHODS}, "evaluator": {name for name, _ in settings.EVALUATORS.values()}}
    left = {name for kind, names in run.items() for name in entries[kind].keys() - names}
    assert left == settings.LEFT_OUT.keys()
    for method, options in bench["settings"].METHODS.items():
        assert method in entries["method"]
        assert not options or options.keys() <= load_plugin(entries["method"][method]).Options.model_fields.keys(), (
            method
        )
    for evaluator, options in bench["settings"].EVALUATORS.values():
        assert options.keys() <= load_plugin(entries["evaluator"][evaluator]).Options.model_fields.keys(), evaluator
