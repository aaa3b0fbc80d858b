"""`ddbench plan`: states before and after, models, estimates, and that nothing is run and no connection opened."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import ddbench
from ddbench import cli
from ddbench.errors import DataError, ModelError
from ddbench.plugin.weights import cached_first, hub_weights
from ddbench.runtime.estimates import Effort, Estimate, History, marked
from ddbench.runtime.machine import Machine
from ddbench.runtime.store import Store

TOY = Path(__file__).parents[1] / "toy_plugin.py"
STAGED = """
import os
from pathlib import Path

import numpy as np

import ddbench


class Options(ddbench.Options):
    length: int = 3
    model: str = ""


class Staged(ddbench.Distiller):
    Options = Options

    def weights(self, ctx):
        return [ddbench.hub_weights(ctx.options.model, ["config.json"])] if ctx.options.model else []

    def distill(self, ctx):
        figure = self.first(ctx).info["figure"] + self.second(ctx).info["figure"]
        self.note("drawing")
        data = ctx.dataset
        images = np.full((ctx.ipc * data.num_classes, 8, 8, 1), figure, np.uint8)
        return ddbench.DistilledSet(images, np.repeat(np.arange(data.num_classes), ctx.ipc))

    def work(self, ctx):
        return ctx.ipc

    @ddbench.step(options=["length"], work=lambda self, ctx: ctx.options.length)
    def first(self, ctx, out):
        self.note("first")
        out.info["figure"] = 1

    @ddbench.step(needs=[first], seeds=["second"])
    def second(self, ctx, out):
        self.note("second")
        if os.environ.get("STOP"):
            raise KeyboardInterrupt
        out.info["figure"] = 2

    def note(self, word):
        with Path("notes.txt").open("a") as file:
            file.write(word + " ")


@ddbench.hookimpl
def ddbench_methods():
    return [ddbench.MethodSpec("staged", Staged)]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "staged.py").write_text(STAGED)
    return tmp_path


ARGUMENTS = ("-e", "nearest-mean", "-d", "toy", "--ipc", "2", "--plugin", "staged.py", "--plugin", TOY.as_posix())


def invoke(command, *arguments, method="staged"):
    line = [command, "-m", method, *ARGUMENTS, *map(str, arguments)]
    return CliRunner().invoke(cli.group, line, catch_exceptions=False)


def steps(output: str) -> dict[str, str]:
    return {line.removeprefix(state).split()[0]: state for line, state in _lines(output)}


def _lines(output: str):
    for line in output.splitlines():
        for state in ("done", "resumable", "to do"):
            if line.startswith(f"  {state} "):
                yield line.strip(), state


def test_states_before_and_after_and_nothing_is_run(here):
    before = invoke("plan").stdout
    assert steps(before) == dict.fromkeys(("first", "second", "distilled", "student"), "to do")
    assert "student ×2" in before and "1 cell: 1 to do" in before
    assert "here     toy: 60 training and 60 test images at 8×8" in before
    assert not (here / "notes.txt").exists() and not (here / "registry").exists()
    assert {path.name for path in (here / "home").iterdir()} <= {"network", ".in-use"}
    assert invoke("run", "-q").exit_code == 0
    assert (here / "notes.txt").read_text() == "first second drawing "
    after = invoke("plan").stdout
    assert steps(after) == {"distilled": "done", "student": "done"}
    assert "nothing is left to do" in after and "1 cell: 1 recorded" in after
    assert (here / "notes.txt").read_text() == "first second drawing "


def test_what_is_shared_is_done_and_a_stopped_step_can_go_on(here, monkeypatch):
    invoke("run", "-q")
    other = invoke("plan", "--seed", "0,1").stdout
    assert sorted(_lines(other))[0][1] == "done" and "first" in other
    assert [state for line, state in _lines(other) if line.startswith("to do  second")] == ["to do"]
    monkeypatch.setenv("STOP", "1")
    CliRunner().invoke(cli.group, ["run", "-m", "staged", *ARGUMENTS, "--seed", "1", "-q"], standalone_mode=False)
    stopped = invoke("plan", "--seed", "1").stdout
    assert steps(stopped) == {"first": "done", "second": "resumable", "distilled": "resumable", "student": "to do"}
    assert "resumes from there" in stopped


def test_a_dry_run_is_a_plan(here):
    assert invoke("run", "--dry-run").stdout == invoke("plan").stdout


def test_estimates_come_from_steps_of_the_kind(here):
    assert "time unknown" in invoke("plan").stdout
    invoke("run", "-q")
    (marker,) = (here / "home" / "first").glob("*/step.json")
    content = json.loads(marker.read_text())
    marker.write_text(
        json.dumps(content | {"seconds": 20.0, "costs": {"peak_process_bytes": 3_000_000_000}, "digest": None})
    )
    (line,) = [
        line for line, _ in _lines(invoke("plan", "-o", "staged.length=6").stdout) if line.startswith("to do  first")
    ]
    assert "~40 s" in line and "3.0 GB" in line


def test_missing_weights_are_named_with_what_fetches_them(here):
    result = invoke("plan", "-o", "staged.model=someone/absent")
    assert "missing  someone/absent, unknown" in result.stdout and "→ hf download someone/absent" in result.stdout
    assert "needs someone/absent, which is not here" in result.stdout
    assert result.exit_code == 0
    assert invoke("plan", "--offline", "-o", "staged.model=someone/absent").exit_code == ModelError.exit_code


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_network")
def test_the_papers_experiment_without_its_data(here, monkeypatch):
    monkeypatch.setenv("DDBENCH_DATA", str(here / "data"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here / "hub"))
    line = ["plan", "-m", "vlcp", "-e", "minimax", "-d", "imagewoof", "--ipc", "10", "--preset", "paper", "--offline"]
    result = CliRunner().invoke(cli.group, line)
    assert result.exit_code == DataError.exit_code
    assert "missing  imagewoof" in result.stdout and "imagewoof2-320.tgz" in result.stderr
    assert "→ hf download benjamin-paine/stable-diffusion-v1-5" in result.stdout and "4.3 GB" in result.stdout
    assert "→ hf download llava-hf/llava-1.5-7b-hf" in result.stdout and "14.1 GB" in result.stdout


@pytest.mark.usefixtures("no_network")
def test_digits_need_no_network(here):
    result = CliRunner().invoke(cli.group, ["plan", "-m", "vlcp", "-e", "rded", "--offline"], catch_exceptions=False)
    assert result.exit_code == 0
    states = steps(result.stdout)
    assert list(states) == [
        *("captions", "latents", "prototypes", "finetuned", "synthesis", "teacher", "synthesis-swapped", "acceptance"),
        *("caption-information", "distilled", "student"),
    ]
    assert set(states.values()) == {"to do"}
    assert "weights" not in result.stdout.split()


PLANNED = (
    "d4m",
    "dit",
    "minimax",
    "mgd3",
    "cao2",
    "d3hr",
    "igd",
    "rded",
    "sre2l",
    "cda",
    "dwa",
    "delt",
    "g-vbsm",
    "edc",
    "dm",
    "dsa",
    "dcc",
    "idm",
    "ncfm",
    "cafe",
    "it-gan",
    "idc",
    "dream",
    "mtt",
    "ftd",
    "datm",
    "random",
)


@pytest.mark.parametrize("method", PLANNED)
def test_every_method_can_be_planned(method, here):
    line = ["plan", "-m", method, "-e", "dc,lrs", "--repeats", "1"]
    if method in ("idm", "ncfm", "idc", "dream"):
        line += ["-o", "eval/dc.decode=true"]
    result = CliRunner().invoke(cli.group, line, catch_exceptions=False)
    assert result.exit_code == 0
    assert {"distilled", "student"} <= steps(result.stdout).keys()
    assert {path.name for path in (here / "home").iterdir()} <= {
        "network",
        "model-facts",
        ".in-use",
    }  # looked at, not made


def test_every_expert_is_counted(here):
    line = ["plan", "-m", "mtt", "-e", "dc", "--ipc", "1", "-o", "method.experts=7", "--repeats", "3"]
    out = CliRunner().invoke(cli.group, line, catch_exceptions=False).stdout
    assert "to do  expert ×7 " in out and "to do  student ×3 " in out and "  11 to do" in out


def test_images_of_folders_are_planned_once_they_have_been_looked_at(here):
    for split, count in (("train", 3), ("test", 1)):
        for name in ("one", "two"):
            (here / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (9, 8), (90 * number, count, 0)).save(here / "data" / split / name / f"{number}.png")
    name = f"folder:{here / 'data'}"
    line = ["-m", "random", "-e", "dc", "-d", name, "--ipc", "1", "--repeats", "1", "-o", "data.size=8"]
    before = CliRunner().invoke(cli.group, ["plan", *line])
    assert before.exit_code == DataError.exit_code and f"unread   {name}: see below" in before.stdout
    assert "have not been looked at yet" in before.stderr and "ddbench data prepare" in before.stderr
    assert CliRunner().invoke(cli.group, ["data", "prepare", name, "-o", "data.size=8"]).exit_code == 0
    after = CliRunner().invoke(cli.group, ["plan", *line], catch_exceptions=False)
    assert after.exit_code == 0 and "6 training and 2 test images at 8×8" in after.stdout
    assert steps(after.stdout) == {"distilled": "to do", "student": "to do"}


# Models of the hub ------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub that holds one model of two parts."""
    commit = "a" * 40
    folder = tmp_path / "hub" / "models--me--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    (snapshot / "unet").mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (snapshot / "unet" / "model.index.json").write_text(json.dumps(index))
    for name in ("one", "two"):
        (snapshot / "unet" / f"{name}.safetensors").write_bytes(bytes(1000))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


FILES = ("config.json", "unet/*.index.json", "unet/*.safetensors")


def test_a_model_in_the_hubs_cache_is_here(hub):
    weights = hub_weights("me/model", FILES)
    assert weights.here and weights.revision == "a" * 40
    assert weights.bytes == sum(path.stat().st_size for path in hub.rglob("*") if path.is_file())
    assert hub_weights("me/model", FILES, "a" * 40).here
    other = hub_weights("me/model", FILES, "v2", 5)
    assert not other.here and other.command == "hf download me/model --revision v2" and other.bytes == 5


@pytest.mark.parametrize("name", ["config.json", "unet/two.safetensors", "unet/model.index.json"])
def test_one_with_a_missing_part_is_not(hub, name):
    (hub / name).unlink()
    assert not hub_weights("me/model", FILES).here


@pytest.mark.parametrize(
    ("here", "offline", "lacking", "asked"),
    [
        (True, False, (), [True]),
        (True, False, (True,), [True, False]),  # a file that nobody had thought of
        (True, True, (), [True]),
        (False, False, (), [False]),
        (False, True, (True,), [True]),
        (True, True, (True,), [True]),
    ],
)
def test_a_model_that_is_here_is_read_without_a_connection(here, offline, lacking, asked):
    calls = []

    def load(closed):
        calls.append(closed)
        if closed in lacking:
            raise ModelError("not there")
        return "model"

    keywords = {"here": here, "offline": offline, "failures": (ModelError,)}
    if lacking and asked[-1] in lacking:
        with pytest.raises(ModelError):
            cached_first(load, **keywords)
    else:
        assert cached_first(load, **keywords) == "model"
    assert calls == asked


# Estimates --------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path):
    """Make a finished step of an amount that took so many seconds."""
    store = Store(tmp_path / "store")

    def make(amount, seconds, *, kind="a", machine=None, inside=0.0, content=10):
        def build(step):
            step.effort.update(marked(Effort(amount, {"kind": kind}), machine or Machine()))
            step.costs.update(peak_process_bytes=100 * amount, inside_seconds=inside)
            (step.dir / "data.bin").write_bytes(bytes(content))

        inputs = {"amount": amount, "kind": kind, "seed": 0, "on": str(machine), "seconds": seconds}
        done = store.build("work", inputs, build)
        marker = done.dir / "step.json"
        marker.write_text(json.dumps(json.loads(marker.read_text()) | {"seconds": seconds, "digest": None}))
        return store

    return make


def ask(store, amount, **alike) -> Estimate:
    return History(store, Machine()).estimate("work", Effort(amount, alike or {"kind": "a"}))


def test_time_is_proportional_to_the_nearest(finished):
    store = finished(100, 50.0)
    assert ask(store, 100).seconds == 50 and ask(store, 200).seconds == 100
    assert ask(store, 100).memory == 10_000
    assert ask(store, 2000) == Estimate()  # too far


def test_two_amounts_tell_what_does_not_grow(finished):
    finished(100, 30.0)
    assert ask(finished(400, 60.0), 300).seconds == pytest.approx(50)


def test_only_what_is_alike_is_compared(finished):
    finished(100, 50.0, kind="b")
    store = finished(100, 50.0, machine=Machine("cpu", "bf16"))
    assert ask(store, 100) == Estimate()
    assert ask(store, 100, kind="b").seconds == 50


def test_steps_inside_are_not_counted_twice(finished):
    assert ask(finished(100, 50.0, inside=20.0), 100).seconds == 30


def test_short_steps_say_little(finished):
    store = finished(100, 0.3)
    assert ask(store, 150).seconds == pytest.approx(0.45) and ask(store, 500).seconds is None


@pytest.mark.parametrize(("modules", "seconds", "told"), [(50, 20.0, True), (51, 20.0, False), (900, 60.0, True)])
def test_steps_that_imported_torch_say_nothing_unless_they_were_long(finished, modules, seconds, told):
    store = finished(100, seconds)
    (marker,) = store.root.glob("work/*/step.json")
    content = json.loads(marker.read_text())
    marker.write_text(json.dumps(content | {"effort": content["effort"] | {"modules": modules}, "digest": None}))
    assert ask(store, 100) == Estimate(seconds if told else None, 10_000, ask(store, 100).disk)


def test_large_results_are_not_guessed(finished):
    store = finished(100, 50.0, content=2 << 20)
    assert ask(store, 100).disk > 2 << 20 and ask(store, 200).disk is None
    assert History(store, Machine()).estimate("work", Effort(200, {"kind": "a"}, 77)).disk == 77


def test_without_an_effort_the_same_step_of_another_seed_tells(finished):
    store = finished(100, 50.0)
    history = History(store, Machine())
    inputs = {"amount": 100, "kind": "a", "on": "None", "seconds": 50.0}
    assert history.estimate("work", None, {**inputs, "seed": 3}).seconds == 50
    assert history.estimate("work", None, {**inputs, "kind": "b"}) == Estimate()


# Real digits ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_vlcp_on_digits(here):
    quick = ["-e", "rded", "-n", "mlp", "-o", "eval.epochs=4", "--repeats", "1"]
    quick += ["-o", "method.finetune_epochs=1", "-o", "method.steps=4", "-o", "method.acceptance=never"]

    def plan(*arguments):
        return CliRunner().invoke(cli.group, ["plan", "-m", "vlcp", *quick, *arguments], catch_exceptions=False).stdout

    assert set(steps(plan("--ipc", "2")).values()) == {"to do"}
    ddbench.run(
        "vlcp",
        "rded",
        ipc=2,
        network="mlp",
        repeats=1,
        options={
            "eval": {"epochs": 4},
            "method": {"finetune_epochs": 1, "steps": 4, "acceptance": "never"},
        },
    )
    assert steps(plan("--ipc", "2")) == {"distilled": "done", "teacher": "done", "student": "done"}
    states = steps(plan("--ipc", "3"))
    done = [name for name, state in states.items() if state == "done"]
    assert done == ["captions", "latents", "finetuned", "caption-information", "teacher"]
    assert states["prototypes"] == states["synthesis"] == states["student"] == "to do"
