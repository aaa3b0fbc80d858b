import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from records import make

from ddbench import api, cli
from ddbench.cli import common
from ddbench.errors import UsageError
from ddbench.results import schema as records


def invoke(*arguments):
    result = CliRunner().invoke(cli.group, [str(argument) for argument in arguments], catch_exceptions=False)
    return result


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_option_pairs():
    assert common.parse_options(["method.a=1", "eval.b=x=y", "method.c = d"]) == {
        "method": {"a": "1", "c": "d"},
        "eval": {"b": "x=y"},
    }
    for wrong in ("a=1", "method.a", ".a=1", "method.=1"):
        with pytest.raises(UsageError, match=r"SCOPE\.KEY=VALUE"):
            common.parse_options([wrong])


@pytest.fixture
def blocks(monkeypatch):
    """What the command asks for, instead of running it."""
    from ddbench.experiment import jobs

    asked = []
    monkeypatch.setattr(jobs, "expand", lambda study, base: asked.extend(study.blocks) or jobs.Expansion())
    monkeypatch.setattr(jobs, "run", lambda *_, **__: [make("random", (0.5,)), make("vlcp", (0.6,))])
    return asked


def test_run_passes_everything_on_and_shows_the_table(here, blocks):
    line = "run -m random,vlcp -e rded --ipc 1,10 --seed 0,1 --repeats 2 --preset paper -o eval.epochs=3"
    result = invoke(*line.split())
    (block,) = blocks
    assert block.method == ("random", "vlcp") and block.ipc == (1, 10) and block.seed == (0, 1)
    assert block.option == {"eval": {"epochs": "3"}} and block.dataset == ("",) and block.repeats == 2
    assert "60.0" in result.stdout and "± 0.0" not in result.stdout
    assert "registry/results/digits/vlcp/" in result.stdout


def test_a_list_may_be_given_in_parts(here, blocks):
    line = "run -m random -m vlcp,random -e rded --ipc 1 --ipc 50,10 -n lenet -n alexnet"
    invoke(*line.split())
    (block,) = blocks
    assert block.method == ("random", "vlcp") and block.eval == ("rded",)
    assert block.ipc == (1, 50, 10) and block.network == ("lenet", "alexnet")
    assert CliRunner().invoke(cli.group, ["run", "-m", "random", "-e", "rded", "--ipc", "1", "--ipc", "x"]).exit_code


def test_what_was_there_before_the_start_is_called_reused(tmp_path, monkeypatch):
    from ddbench.cli.run import reused
    from ddbench.runtime.store import Store

    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path))
    store = Store(tmp_path)
    steps = [store.build("student", {"repeat": repeat}, lambda step: None) for repeat in range(2)]
    used = [{"step": "student", "key": step.key[:20]} for step in steps]
    record = make()
    record = record.model_copy(update={"costs": record.costs.model_copy(update={"steps": used})})
    marker = steps[0].dir / "step.json"
    now = marker.stat().st_mtime
    os.utime(marker, (now - 100, now - 100))
    assert reused([record], now - 50) == "student 1 of 2"
    assert reused([record], now - 200) == ""


def test_several_data_sets_are_one_block(here, blocks):
    invoke("run", "-m", "random", "-e", "rded", "-d", "digits,cifar10")
    assert blocks[0].dataset == ("digits", "cifar10")


def test_a_typo_in_the_last_data_set_is_found_before_the_first_is_run(here, monkeypatch):
    from ddbench.experiment import jobs

    monkeypatch.setattr(jobs, "run", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(UsageError, match="Did you mean 'cifar10'"):
        invoke("run", "-m", "random", "-e", "rded", "-d", "digits,cifar1O")


def test_several_sets_are_evaluated_in_turn(here):
    toy = Path(__file__).parents[1] / "toy_plugin.py"
    invoke("distill", "-m", "random", "--ipc", "1,2", "--out", "sets")
    sets = sorted(Path("sets").iterdir())
    assert len(sets) == 2
    told = invoke("evaluate", *sets, "-e", "nearest-mean", "--repeats", "1", "--plugin", toy).stdout
    assert told.count("record  registry/results/digits/random/ipc") == 2
    with pytest.raises(UsageError, match="There is no 'sets/none'"):
        invoke("evaluate", *sets, "sets/none", "-e", "nearest-mean", "--plugin", toy)


def test_list_names_kinds_owners_and_the_default(here):
    (here / "mine.py").write_text(
        "import ddbench\n@ddbench.hookimpl\ndef ddbench_networks():\n"
        "    return [ddbench.NetworkSpec('tiny', lambda **k: None, 'a tiny one')]\n"
    )
    out = invoke("list", "networks", "--plugin", "mine.py").stdout
    assert "a tiny one [mine.py (file)]" in out and "datasets" not in out
    everything = invoke("list").stdout
    assert "(default)" in everything
    assert "mine.py (file)\n  networks: tiny" in invoke("plugins", "--plugin", "mine.py").stdout


def test_show_tells_options_and_where_they_come_from():
    out = invoke("show", "evaluator/rded", "-o", "eval.epochs=7").stdout
    assert "epochs = 7  (set by you)" in out and "default 300" in out
    assert "Sun et al." in out and "@inproceedings" in out
    citation = invoke("show", "method/rded").stdout
    assert "\n  booktitle = {CVPR},\n  year = {2024}\n}" in citation  # line by line, to be copied
    paper = invoke("show", "evaluator/rded", "--dataset", "digits", "--preset", "paper").stdout
    assert "preset paper+sane" in paper and "data set digits" in paper
    assert "network convnet-3" in invoke("show", "convnet-3").stdout
    slurm = invoke("show", "slurm").stdout
    assert "cache version" not in slurm and "\n  options:\n" in slurm  # where it runs decides no result
    assert "\n  options for preset cpu+sane:\n" in invoke("show", "imagenette").stdout


def test_showing_options_for_a_data_set_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DDBENCH_DATA", raising=False)
    out = invoke("show", "mtt", "--preset", "official", "--dataset", "cifar100").stdout
    assert "cifar100 could not be read here" in " ".join(out.split()) and "keep = best_test" in out
    assert not (tmp_path / "home" / "data").exists()


def test_a_folder_called_as_a_plugin_hides_nothing(here):
    (here / "digits").mkdir()
    assert invoke("show", "digits").stdout.startswith("dataset digits")


def test_show_summarises_records_and_their_difference(here):
    first, second = (records.write(make(m, (0.5,)), here) for m in ("random", "vlcp"))
    assert "accuracy   50.0 % (" in invoke("show", first).stdout
    assert invoke("show", first, second).stdout.startswith("Same protocol")


def test_leaderboard_prints_writes_and_checks(here):
    assert invoke("leaderboard", "--check").exit_code == 0  # nothing recorded, nothing to compare
    for method in ("random", "vlcp"):
        records.write(make(method, (0.5,)), here / "registry")
    assert invoke("leaderboard", "--check").exit_code == 1
    assert invoke("leaderboard", "--quiet").output == ""
    assert invoke("leaderboard").stdout.splitlines()[0].split() == ["digits", "digits"]
    result = invoke("leaderboard", "--board", "digits")
    assert "50.0" in result.stdout and "± 0.0" not in result.stdout
    page = (here / "leaderboards" / "digits.md").read_text("utf-8")
    assert "|Method|rded|\n|---|---:|\n|random|50.0|\n|vlcp|50.0|" in page and str(here) not in page
    assert invoke("leaderboard", "--check").exit_code == 0
    assert invoke("leaderboard", "--board", "digits", "--format", "csv").stdout.count("\n") == 3
    (here / "leaderboards" / "digits.md").write_text(page.replace("50.0", "60.0"))
    assert invoke("leaderboard", "--check").exit_code == 1


def distilled(folder: Path, prompts=None):
    from ddbench.plugin.contracts import DistilledSet
    from ddbench.sets.folder import save

    data = api.load_dataset("digits")
    images = np.zeros((10, data.image_size, data.image_size, 1), np.uint8)
    about = {"method": {"name": folder.name}, "ipc": 1, "seed": 0}
    save(folder, DistilledSet(images, np.arange(10), prompts=prompts), data, about)


def test_gallery_draws_folders_and_prompts(here):
    from PIL import Image

    distilled(here / "a")
    distilled(here / "b", prompts=("a digit",) * 10)
    assert invoke("gallery", "a", "b", "--out", "pictures/two.png").stdout.strip() == "pictures/two.png"
    assert invoke("gallery", "b", "--prompts", "--out", "prompts.png").exit_code == 0
    with Image.open("pictures/two.png") as two, Image.open("prompts.png") as prompts:
        assert two.width > 100 and prompts.width > two.width
    with pytest.raises(UsageError, match="no prompts"):
        invoke("gallery", "a", "--prompts")
    with pytest.raises(UsageError, match="name of a picture"):
        invoke("gallery", "a", "--out", "two.what")
    assert "distilled set of digits by b" in invoke("show", "b/").stdout


@pytest.mark.slow
def test_new_plugins_work_and_so_do_their_tests(here):
    for kind in ("method", "evaluator", "dataset", "network", "captioner"):
        assert invoke("new-plugin", kind, f"my-{kind}").stdout == f"my_{kind}.py\ntest_my_{kind}.py\n"
        assert f"my-{kind}" in invoke("list", kind, "--plugin", f"my_{kind}.py").stdout
        before = Path(f"my_{kind}.py").read_text("utf-8")
        with pytest.raises(UsageError, match="exists already"):
            invoke("new-plugin", kind, f"my-{kind}")
        assert Path(f"my_{kind}.py").read_text("utf-8") == before
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert all(f"test_my_{kind}.py::" in done.stdout for kind in ("method", "evaluator", "dataset"))


def test_a_new_plugin_hides_no_module_and_takes_no_name(here):
    assert invoke("new-plugin", "method", "numpy").stdout == "numpy_plugin.py\ntest_numpy_plugin.py\n"
    with pytest.raises(UsageError, match="a method called 'random' already"):
        invoke("new-plugin", "method", "random")
