"""Study files: expansion, refusals, going on after failures, boards and plots."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from records import make

from ddbench import cli
from ddbench.errors import DataError, UsageError
from ddbench.experiment import jobs, setup, study
from ddbench.figures import sweeps
from ddbench.plugin.manager import load_plugins
from ddbench.results.registry import load
from ddbench.runtime.progress import Reporter
from ddbench.tables import variants
from ddbench.tables.declared import FILE, declared, validated
from ddbench.tables.leaderboard import Layout, build

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "leaderboards" / "studies").glob("*.toml"))
PLUGIN = (Path(__file__).parents[1] / "toy_plugin.py").as_posix()
SHARED = f"""
plugin = {PLUGIN!r}
method = "toy"
dataset = "toy"
eval = "nearest-mean"
ipc = 2
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text: str, shared: str = SHARED) -> Path:
        path = tmp_path / "my-study.toml"
        path.write_text(shared + text, "utf-8")
        return path

    return write


def invoke(*arguments):
    return CliRunner().invoke(cli.group, ["run", *map(str, arguments)], catch_exceptions=False)


def expanded(content):
    return jobs.expand(content, setup.context(content.plugins))


def test_blocks_share_the_keys_above_them_and_add_their_own(write):
    found = study.read(
        write(
            """
            seed = [0, 1]
            option.method.noise = 2.0
            [[cells]]
            [[cells]]
            label = "more"
            seed = 5
            option.eval.pixels = 0.5
            sweep.method.noise = [4.0, 8.0]
            """
        )
    )
    first, second = found.blocks
    assert (first.seed, first.ipc, first.repeats, first.variants()) == (
        (0, 1),
        (2,),
        None,
        [("", {"method": {"noise": 2.0}})],
    )
    assert second.seed == (5,)
    assert second.variants() == [
        ("more 4.0", {"method": {"noise": 4.0}, "eval": {"pixels": 0.5}}),
        ("more 8.0", {"method": {"noise": 8.0}, "eval": {"pixels": 0.5}}),
    ]
    assert found.swept == ("noise",)


def test_the_command_line_replaces_keys_and_adds_options(write):
    path = write("seed = [0, 1]\noption.method.noise = 2.0\n[[cells]]\nseed = 3")
    (block,) = study.read(path, {"seed": [7], "option": {"eval": {"pixels": "0.5"}}}).blocks
    assert block.seed == (7,)
    assert block.option == {"method": {"noise": 2.0}, "eval": {"pixels": "0.5"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("methd = 'toy'", "Unknown key of my-study.toml 'methd'. Did you mean 'method'"),
        ("[[cells]]\nipcs = 1", r"block 1 of \[\[cells\]\] 'ipcs'. Did you mean 'ipc'"),
        ("[[cells]]\nboard = []", "Unknown key"),
        ("repeats = 0", "repeats: Input should be greater than or equal to 1"),
        ("seed = ['a']", "seed.0: Input should be a valid integer"),
        ("option.noise = 1", "option 'noise' has no scope"),
        ("sweep.method.noise = 1", "sweep.method.noise: write a list"),
        ("sweep.method.noise = []", "sweep.method.noise has no values"),
        ("[[cells]]\nipc = []", "ipc has no values"),
        ("[[cells]]\ndataset = ''", "dataset has no values"),
        ("cells = 3", "not a list of tables"),
        ("title = 3", "`title`, `executor` and `plugin` are texts"),
        ("[cells", "not valid TOML"),
    ],
)
def test_what_is_not_known_is_refused(write, text, words):
    with pytest.raises(UsageError, match=words):
        study.read(write(text))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a = " + b"[" * 5000 + b"]" * 5000, "not valid TOML"),
        (b"ipc = " + b"9" * 5000, "not valid TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    ],
)
def test_a_damaged_study_or_boards_file_is_refused_by_name(tmp_path, content, words):
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        study.read(tmp_path / "mine.toml")
    assert "mine.toml" in str(caught.value)
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        declared(tmp_path)
    assert FILE in str(caught.value)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_study_or_boards_file_is_refused(tmp_path, make):
    for name, read in (("mine.toml", study.read), (FILE, lambda path: declared(path.parent))):
        make(tmp_path / name)
        with pytest.raises(UsageError, match=name):
            read(tmp_path / name)


def test_a_study_and_boards_may_begin_with_a_byte_order_mark(write, tmp_path):
    path = write("")
    path.write_text("\ufeff" + path.read_text("utf-8"), "utf-8")
    assert study.read(path).blocks[0].method == ("toy",)
    (tmp_path / FILE).write_text("\ufeff[columns]\nfirst = ['random']\n", "utf-8")
    assert declared(tmp_path).columns.first == ("random",)


def test_a_study_needs_a_method(write, tmp_path):
    with pytest.raises(UsageError, match="names no method"):
        study.read(write("eval = 'toy'", shared=""))
    with pytest.raises(UsageError, match="cannot be read"):
        study.read(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[cells]]\n[[cells]]\nmethod = 'toi'", "block 2: Unknown method 'toi'. Did you mean 'toy'"),
        ("[[cells]]\n[[cells]]\noption.method.nois = 1", "block 2: .*has no option 'nois'. Did you mean 'noise'"),
        ("[[cells]]\n[[cells]]\nipc = 21", "block 2: IPC 21 is larger"),
        ("[[cells]]\n[[cells]]\npreset = 'papre'", "block 2: .*Did you mean 'paper'"),
    ],
)
def test_a_mistake_anywhere_stops_all_before_anything_runs(write, tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        invoke(write(text))
    assert not (tmp_path / "registry").exists()


def test_all_axes_make_cells_and_a_value_that_is_the_default_makes_none(write):
    found = expanded(
        study.read(
            write(
                """
                seed = [0, 1]
                network = ["convnet-3", "mlp"]
                [[cells]]
                label = "plain"
                [[cells]]
                label = "noise"
                repeats = 4
                sweep.method.noise = [0.0, 3.0]
                """
            )
        )
    )
    assert [job.title for job in found.jobs[:2]] == [
        "plain: toy on toy, IPC 2, seed 0, nearest-mean on convnet-3",
        "plain: toy on toy, IPC 2, seed 0, nearest-mean on mlp",
    ]
    assert len(found.jobs) == 8
    assert found.same == [("noise 0.0", "plain")]
    assert {(job.name, job.measurement.repeats) for job in found.jobs} == {("plain", 4), ("noise 3.0", 4)}


def test_a_study_goes_on_after_failures_and_says_how_to_go_on(write, tmp_path):
    path = write("[[cells]]\noption.method.fail = true\nipc = [2, 3]\n[[cells]]\n[[cells]]\ndataset = 'folder:absent'")
    result = invoke(path)
    assert result.exit_code == 1  # a plugin's and a data error
    assert "cells   1 recorded, 3 failed" in result.stdout
    assert result.stderr.count("ZeroDivisionError: on purpose") == 4  # when it happens, and at the end
    assert "toy on folder:absent" in result.stderr and "There is no folder" in result.stderr
    assert "to resume: ddbench" in result.stderr
    assert len(list((tmp_path / "registry").glob("results/toy/toy/*.json"))) == 1
    path.write_text(path.read_text().replace("fail = true", "fail = false").partition("[[cells]]\ndataset")[0])
    assert invoke(path).exit_code == 0


def test_failures_of_one_kind_have_their_exit_code(write):
    result = invoke(write("[[cells]]\n[[cells]]\ndataset = 'folder:absent'"))
    assert result.exit_code == DataError.exit_code


def test_a_dry_run_lists_what_is_recorded_and_runs_nothing(write, tmp_path):
    path = write("[[cells]]\n[[cells]]\nlabel = 'noisy'\noption.method.noise = 3.0\nrepeats = 3")
    shown = invoke(path, "--dry-run").stdout
    assert shown.partition("steps")[0].count("to do  ") == 2 and "2 cells: 2 to do" in shown
    assert not (tmp_path / "registry").exists()
    invoke(path, "-q", "--repeats", "2")
    shown = invoke(path, "--dry-run").stdout
    assert "recorded         toy on toy" in shown
    assert "2 of 3 networks  noisy: toy (noise=3) on toy" in shown
    plain = invoke("-m", "toy", "-e", "nearest-mean", "-d", "toy", "--ipc", "2,3", "--plugin", PLUGIN, "--dry-run")
    assert "2 cells: 1 recorded, 1 to do" in plain.stdout


def test_the_same_command_reuses_everything(write, tmp_path):
    path = write("sweep.method.noise = [0.0, 3.0]")
    invoke(path, "-q")
    before = {file: file.read_bytes() for file in (tmp_path / "home").rglob("step.json")}
    pages = {file: file.read_bytes() for file in (tmp_path / "my-study").iterdir()}
    again = invoke(path)
    assert again.exit_code == 0 and "• student" not in again.stderr and "✓ student: reused" in again.stderr
    assert {file: file.read_bytes() for file in (tmp_path / "home").rglob("step.json")} == before
    assert {file: file.read_bytes() for file in (tmp_path / "my-study").iterdir()} == pages


def test_boards_and_plot_are_written_beside_the_file(write, tmp_path):
    result = invoke(
        write(
            """
            seed = [0, 1]
            [[cells]]
            label = "plain"
            [[cells]]
            label = "noise"
            sweep.method.noise = [40.0, 90.0]
            [[board]]
            name = "parts"
            title = "What noise does"
            style = "variants"
            """
        ),
    )
    assert result.exit_code == 0
    page = (tmp_path / "my-study" / "parts.md").read_text("utf-8")
    lines = [line for line in page.splitlines() if line.startswith("|toy|")]
    assert [line.split("|")[3] for line in lines] == ["plain", "noise 40.0", "noise 90.0"]
    assert "Differences are from plain" in page and "noise 90.0: toy (noise=90)." in page
    assert "What noise does" in result.stdout and "plain" in result.stdout
    assert (tmp_path / "my-study" / "sweeps.png").stat().st_size > 5000
    assert (tmp_path / "my-study" / "toy.md").exists()


def test_a_wrong_board_is_found_before_anything_runs(write, tmp_path):
    with pytest.raises(UsageError, match=r"my-study\.toml: board\.0\.stile"):
        invoke(write("[[board]]\nname = 'x'\ntitle = 'X'\nstile = 'long'"))
    assert not (tmp_path / "registry").exists()


@pytest.mark.parametrize(
    ("board", "words"),
    [
        ("name = 'x'\ntitle = 'X'\nstyle = 'variants'\nreference = 'plane'", "'plane'. Did you mean 'plain'"),
        ("name = 'README'\ntitle = 'X'", "board name 'README' is taken"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_board_that_cannot_be_is_found_before_anything_runs(write, tmp_path, board, words, more):
    path = write(f"[[cells]]\nlabel = 'plain'\n[[cells]]\noption.method.noise = 3.0\n[[board]]\n{board}")
    with pytest.raises(UsageError, match=words):
        invoke(path, *more)
    assert not (tmp_path / "registry").exists()


def test_what_failed_is_told_even_where_boards_cannot_be_written(write, tmp_path):
    (tmp_path / "file").write_text("")
    text = "[[cells]]\n[[cells]]\noption.method.fail = true\n[[board]]\nname = 'b'\ntitle = 'B'\nmetric = ['f1']"
    result = invoke(write(text), "--out", "file")
    assert "1 recorded, 1 failed" in result.stdout and result.exit_code == 1
    assert "ZeroDivisionError: on purpose" in result.stderr and "Cannot write" in result.stderr
    assert "empty   board b" in invoke(write(text)).stdout


def test_the_first_error_is_raised_where_a_traceback_is_wanted(write):
    found = expanded(study.read(write("option.method.fail = true")))
    with pytest.raises(Exception, match="on purpose"):
        list(jobs.run(found.jobs, Path("registry"), Reporter(), stop=True))


def test_only_toml_files_are_studies(write):
    with pytest.raises(UsageError, match="'vlcp' is not a study file"):
        invoke("vlcp")


def noisy(value: float, values, **more):
    return make("toy", values, options={"noise": value, "fail": False}, **more)


def test_variants_are_compared_with_the_reference_in_their_setting():
    records = [noisy(0.0, (0.5, 0.51), seed=seed, ipc=ipc) for seed in range(3) for ipc in (1, 10)]
    records += [noisy(4.0, (0.7, 0.71), seed=seed, explicit={"noise": 4.0}) for seed in range(3)]
    grid = variants.grid(records, Layout(labels={"toy (noise=4)": "noisy", "toy": "plain"}), "x")
    names = [heading.name for heading in grid.headings]
    rows = [dict(zip(names, row, strict=True)) for row in grid.rows]
    assert [(row["IPC"], row["Variant"]) for row in rows] == [("1", "plain"), ("10", "plain"), ("10", "noisy")]
    assert rows[2]["Difference"] == pytest.approx(20)
    assert rows[2]["p"] < 0.001 and rows[2]["Runs"] == "3×2"
    assert rows[2]["95 % of difference"] == "20.0 to 20.0" and rows[1]["95 % of difference"] == ""
    assert rows[0]["Difference"] is None and rows[1]["Difference"] is None
    # One mean per set, all 70.5: no deviation between sets.
    assert rows[2]["95 % interval"] == "70.5 to 70.5"


def test_no_variant_is_the_reference_where_none_stands_out():
    pair = [noisy(value, (0.5,), explicit={"noise": value}) for value in (1.0, 2.0)]
    grid = variants.grid(pair, Layout(), "x")
    assert all(row[[h.name for h in grid.headings].index("Difference")] is None for row in grid.rows)
    chosen = variants.grid(pair, Layout(), "x", "toy (noise=2)")
    assert "Differences are from toy (noise=2)" in " ".join(chosen.notes)


def test_a_sweep_has_the_reference_as_a_point_and_nothing_that_differs_otherwise():
    records = [noisy(0.0, (0.5, 0.6))] + [noisy(x, (v,), explicit={"noise": x}) for x, v in ((4.0, 0.7), (2.0, 0.6))]
    records.append(make("toy", (0.9,), options={"noise": 3.0, "fail": True}, explicit={"noise": 3.0, "fail": True}))
    found = sweeps.sweep(records, "noise")
    assert [(value, round(runs.mean, 3)) for value, runs in found[""]] == [(0.0, 0.55), (2.0, 0.6), (4.0, 0.7)]
    assert sweeps.sweep(records, "fail") == {}
    drawn = sweeps.draw(sweeps.sweeps(records, ["noise", "fail"]))
    assert len(drawn.axes) == 1 and drawn.axes[0].get_xlabel() == "noise"


def test_a_sweep_without_a_reference_is_drawn_all_the_same():
    records = [noisy(x, (v,), explicit={"noise": x}) for x, v in ((4.0, 0.7), (2.0, 0.6))]
    baseline = make("other", (0.4,))
    for several in (records, [*records, baseline]):  # no variant stands out, or one of a method without the option
        found = sweeps.sweeps(several, ["noise", "fail"])
        assert {option: [value for value, _ in lines["toy"]] for option, lines in found.items()} == {"noise": [2, 4]}


def test_names_of_variants_stand_above_the_columns_of_a_table():
    records = [noisy(0.0, (0.5,)), noisy(4.0, (0.7,), explicit={"noise": 4.0})]
    (table,) = build(records, Layout(labels={"toy (noise=4)": "noisy"}))
    assert [column.label for column in table.columns] == ["toy", "noisy"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_name_what_there_is(path):
    found, plugins = study.read(path), load_plugins()
    validated(found.boards, path.name)
    for block in found.blocks:
        for kind, names in (("method", block.method), ("evaluator", block.eval), ("network", block.network)):
            assert all(plugins.get(kind, name) for name in names)
        assert all(plugins.get("dataset", name) for name in block.dataset)


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if path.stem.startswith("reproduce-")], ids=lambda path: path.stem
)
def test_what_is_reproduced_is_in_the_registry_unshrunk(path):
    """As many networks as the study trains, and nothing below paper scale that the study does not set by hand."""
    records, problems = load(ROOT / "registry", without=("curves", "correct"))
    assert not problems
    for block in study.read(path).blocks:
        option = {scope: block.option.get(scope, {}) for scope in ("method", "eval")}
        by_hand = {f"{scope}.{key}" for scope, keys in option.items() for key in keys}
        by_hand |= {"method.network"} if block.method == ("rded",) else set()  # RDED's scripts name it by the student's
        if path.stem == "reproduce-matching" and block.preset == "cpu+official":  # what the board says of the preset
            by_hand |= {"method.iterations", "method.network", "method.batch_real"}
        for method, ipc, seed, dataset in itertools.product(block.method, block.ipc, block.seed or (0,), block.dataset):
            assert any(
                (cell.method.name, cell.ipc, cell.seed, cell.preset) == (method, ipc, seed, block.preset)
                and cell.dataset["name"] == dataset
                and (cell.evaluator.name,) == block.eval
                and block.network in ((), (cell.network,))
                and {"method": cell.method.explicit, "eval": cell.evaluator.explicit} == option
                and {name for name, _, _ in record.shrunk} <= by_hand
                and len(record.result.values) >= (block.repeats or 1)
                for record in records
                for cell in (record.cell,)
            ), (path.stem, method, ipc, seed)


def test_the_ablation_covers_every_part_on_the_digits():
    found = expanded(study.read(ROOT / "leaderboards" / "studies" / "vlcp-ablation.toml", {"seed": [0]}))
    names = {job.name for job in found.jobs}
    assert {"VLCP", "label text", "no fine-tuning", "LOF 0.1", "strength 0.3", "guidance 4.0", "k 5"} <= names
    assert ("no LOF", "VLCP") in found.same and ("strength 0.7", "VLCP") in found.same
    assert {job.cell.method.options["beta"] for job in found.jobs} == {0.3, 0.5, 0.7, 0.9}


@pytest.mark.slow
@pytest.mark.usefixtures("shared_teachers")
def test_a_study_of_real_digits(write, tmp_path):
    text = """
        method = ["random", "herding"]
        eval = "dc"
        ipc = 1
        network = ["convnet-1", "mlp"]
        repeats = 1
        option.eval.epochs = 3
        """
    result = invoke(write(text, shared=""))
    assert result.exit_code == 0, result.output
    found = sorted((tmp_path / "registry").glob("results/digits/*/*.json"))
    assert [path.parent.name for path in found] == ["herding"] * 2 + ["random"] * 2
    assert len({json.loads(path.read_text())["distilled"]["digest"] for path in found}) == 2
    assert len(list((tmp_path / "home").glob("distilled/*/step.json"))) == 2
    assert (tmp_path / "my-study" / "digits.md").exists()
