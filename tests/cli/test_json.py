"""`--json`: one value on standard output, in the words of docs/cli/json.md and of the Python API."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import ddbench
from ddbench import cli

TOY = str(Path(__file__).parents[1] / "toy_plugin.py")
PAGE = (Path(__file__).parents[2] / "docs" / "cli" / "json.md").read_text("utf-8")
RUN = ("run", "-m", "random,full", "-e", "nearest-mean", "--ipc", "2", "--repeats", "2", "--plugin", TOY)


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0):
        done = CliRunner().invoke(cli.group, [*map(str, arguments), "--json"], catch_exceptions=False)
        assert done.exit_code == code
        return json.loads(done.stdout)

    return call


def keys(value, level=2):
    """Return the names in a value, as deep as its shape is fixed."""
    if isinstance(value, list):
        return {name for one in value for name in keys(one, level)}
    if not isinstance(value, dict) or not level:
        return set()
    return set(value) | {name for one in value.values() for name in keys(one, level - 1)}


def documented(command):
    """Return the names that the page gives for a command, with those of records where it returns some."""
    (row,) = re.findall(rf"^\| (?:`\w+`, )?`{command}`.*\| (.*) \|$", PAGE, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", row + (PAGE if "as below" in row else "")))


def test_a_run_gives_its_records(call):
    given = call(*RUN, "--quiet")
    assert keys(given["records"], 1) <= documented("evaluate") and given["failed"] == []
    assert given["records"] == [
        {**known, "path": one["path"]}
        for known, one in zip(json.loads(json.dumps(ddbench.records().to_dicts()[::-1])), given["records"], strict=True)
    ]
    (first, whole) = given["records"]
    assert (first["method"], first["ipc"], whole["method"], whole["ipc"]) == ("random", 2, "full", None)
    assert len(first["value"]) == 2 and first["mean"] == pytest.approx(sum(first["value"]) / 2)
    assert json.loads(Path(first["path"]).read_text("utf-8"))["digest"] == first["digest"]

    shown = call("show", first["path"], whole["path"])
    assert set(shown) <= documented("show FILE …") and shown["obstacles"] == []
    assert shown["differences"]["cell"]["IPC"] == ["2", "full"]
    assert call("registry", "verify") == {"records": 2, "claims": 0, "problems": [], "notes": []}
    exported = call("registry", "export", "all.csv")
    assert exported == {"records": 2, "target": "all.csv", "problems": []}
    again = call("registry", "import", "registry")
    assert set(again) == documented("registry import") - {"claims"} and len(again["same"]) == 2


def test_a_study_gives_what_failed(call, tmp_path):
    text = "method = 'random'\neval = 'nearest-mean'\nipc = 1\n[[cells]]\n[[cells]]\ndataset = 'folder:none'\n"
    (tmp_path / "s.toml").write_text(text)
    given = call("run", "s.toml", "--plugin", TOY, code=4)
    assert len(given["records"]) == 1 and set(given["failed"][0]) == {"title", "error", "hint"}


def test_a_plan_gives_cells_steps_and_weights(call):
    planned = call("plan", *RUN[1:])
    assert keys(planned) <= documented("plan")
    assert [cell["state"] for cell in planned["cells"]] == ["to do", "to do"]
    assert {step["name"] for step in planned["steps"]} == {"distilled", "student"}
    python = ddbench.plan(["random", "full"], "nearest-mean", ipc=2, repeats=2, plugins=TOY)
    assert json.loads(json.dumps(python.to_dict())) == planned


def test_a_comparison_gives_its_numbers(call):
    call(*RUN, "--seed", "0,1")
    call(*RUN, "-m", "k-means", "--seed", "0,1")
    compared = call("compare", "random", "k-means")
    assert keys(compared, 3) <= documented("compare")
    assert json.loads(json.dumps(ddbench.compare("random", "k-means").to_dict())) == compared
    (setting,) = compared["settings"]
    gap = setting["first"]["mean"] - setting["second"]["mean"]
    assert setting["over_runs"]["effect"] == pytest.approx(gap)


def test_plugins_and_data_are_described(call):
    listed = call("list", "methods")
    names = [one["name"] for one in listed]
    assert keys(listed) == documented("list") and names == sorted(names) and {"d4m", "dc"} < set(names)
    (rded,) = call("show", "evaluator/rded", "-o", "eval.epochs=7")["plugins"]
    assert set(rded) | keys(rded["options"]) <= documented("show NAME") | documented("list")
    epochs = next(option for option in rded["options"] if option["name"] == "epochs")
    assert (epochs["value"], epochs["source"], epochs["default"], epochs["paper"]) == (7, "explicit", 300, 300)
    (network,) = call("show", "convnet-3")["plugins"]
    assert network["kind"] == "network" and network["settings"]["depth"] == 3

    states = {one["name"]: one for one in call("data", "list")}
    assert keys(list(states.values())) == documented("data list")
    assert states["digits"]["found"] and states["imagenet-1k"]["missing"]
    (digits,) = call("data", "check", "digits")
    assert digits["num_classes"] == 10 and digits["train_images"] == 1437
    (prepared,) = call("data", "prepare", "digits")
    assert keys(prepared) == documented("data prepare") and prepared["images"] == 1797
