"""What a notebook gets: records as a frame, comparisons and boards from Python, and tables that escape everything."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
from records import dataset_facts, make

import ddbench
from ddbench.results import schema
from ddbench.sets import folder as disk
from ddbench.testing.toy import toy_dataset

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def registry(tmp_path):
    for record in (
        *(make("vlcp", (0.7, 0.8), seed=seed, explicit={"strength": 0.6}) for seed in (0, 1)),
        make("random", (0.5, 0.6)),
        make("random", (0.25,), ipc=1),
        make("full", (0.9,), ipc=None),
        make("random", (0.5,), dataset=dataset_facts("cifar10")),
    ):
        schema.write(record, tmp_path)
    (tmp_path / "boards.toml").touch()
    return tmp_path


def test_filters_choose_records_and_the_frame_has_a_row_per_network(registry):
    records = ddbench.records(registry, dataset="digits", method="vlcp,random", ipc=[10])
    assert [(r.cell.method.name, r.cell.seed) for r in records] == [("random", 0), ("vlcp", 0), ("vlcp", 1)]
    assert repr(records) == "<3 records of 1 data set, 2 methods, 1 evaluator>"
    frame = records.to_frame()
    assert frame["value"].tolist() == [0.5, 0.6, 0.7, 0.8, 0.7, 0.8]
    assert frame["repeat"].tolist() == [0, 1] * 3
    means = frame.groupby("variant")["value"].mean()
    assert means.round(6).to_dict() == {"random": 0.55, "vlcp (strength=0.6)": 0.75}


def test_the_whole_training_set_has_no_ipc_in_the_frame(registry):
    frame = ddbench.records(registry, method=["full", "random"], dataset="digits").to_frame()
    assert frame.loc[frame["method"] == "full", "ipc"].isna().all()
    assert sorted(frame["ipc"].dropna()) == [1, 10, 10]


def test_no_records_are_an_empty_frame_with_the_same_columns(registry):
    empty = ddbench.records(registry / "nowhere")
    assert repr(empty) == "<0 records of 0 data sets, 0 methods, 0 evaluators>"
    full = ddbench.records(registry).to_frame()
    assert list(empty.to_frame().columns) == list(full.columns)
    assert empty.to_frame().dtypes["ipc"] == full.dtypes["ipc"]


def test_a_damaged_record_is_left_out_and_named(registry):
    path = registry / "results" / make("random").relative_path()
    content = json.loads(path.read_text("utf-8"))
    content["result"]["values"] = [0.99, 0.99]
    path.write_text(json.dumps(content), "utf-8")
    with pytest.warns(UserWarning, match=f"left out results/{path.relative_to(registry / 'results')}"):
        records = ddbench.records(registry, ipc=10, dataset="digits")
    assert {record.cell.method.name for record in records} == {"vlcp"}


def test_filters_are_read_as_everywhere_else(registry):
    with pytest.raises(ddbench.UsageError, match="ipc must be a whole number"):
        ddbench.records(registry, ipc="ten")
    with pytest.raises(ddbench.UsageError, match="dataset must be"):
        ddbench.records(registry, dataset=3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ddbench.compare(3, "random"),
        lambda: ddbench.compare("random", "random"),
        lambda: ddbench.leaderboard(board=3),
        lambda: ddbench.leaderboard(registry=3),
        lambda: ddbench.plan("random", "rded", ipc="ten"),
        lambda: ddbench.plan("random", "rded", seed=-1),
    ],
)
def test_wrong_arguments_are_explained(call):
    with pytest.raises(ddbench.UsageError):
        call()


def test_compare_gives_effects_and_the_text_of_the_command(registry, capsys):
    from ddbench import cli

    comparison = ddbench.compare("vlcp", "random", registry, dataset="digits")
    (setting,) = comparison.settings
    assert setting.over_runs.effect == pytest.approx(0.2)
    assert comparison.corrected == (setting.over_runs.p_value,)
    assert repr(comparison) == "<Comparison of vlcp with random in 1 setting>"
    with pytest.raises(SystemExit):
        cli.main(["compare", "vlcp", "random", "--registry", str(registry), "-d", "digits"])
    assert capsys.readouterr().out == f"{comparison}\n"
    with pytest.raises(ddbench.UsageError, match="were not measured under one protocol"):
        ddbench.compare("vlcp", "full", registry)
    with pytest.raises(ddbench.UsageError, match=r"No record in .* matches these filters"):
        ddbench.compare("vlcp", "random", registry, dataset="svhn")


def test_leaderboard_gives_boards_in_every_format(registry):
    boards = ddbench.leaderboard(registry, folder=registry)
    assert [board.name for board in boards] == ["cifar10", "digits"]
    assert repr(boards) == "<Boards: cifar10, digits>"
    (only,) = ddbench.leaderboard(registry, board="digits", folder=registry)
    assert only == boards[1]
    assert "75.0±5.0" in boards.to("markdown") and boards.to("csv").startswith("dataset,")
    assert boards._repr_html_() == boards.to("html")
    with pytest.raises(ddbench.UsageError, match="Did you mean 'markdown'"):
        boards.to("markdwn")
    with pytest.raises(ddbench.UsageError, match="Unknown board"):
        ddbench.leaderboard(registry, board="digit", folder=registry)
    with pytest.raises(ddbench.UsageError, match="another digits"):
        ddbench.leaderboard(registry, board="digits", folder=registry, classes=True)


def test_a_plan_says_what_the_command_says_and_runs_nothing(tmp_path, monkeypatch, capsys):
    from ddbench import cli

    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    plan = ddbench.plan("random", "minimax", ipc=[1, 2], repeats=1, registry=tmp_path)
    assert plan.states == ["to do", "to do"] and plan.missing == []
    assert repr(plan).startswith("<Plan: 2 cells (2 to do); 4 to do; ")
    assert "HF_HUB_OFFLINE" not in os.environ  # what runs later may fetch
    assert not (tmp_path / "results").exists()
    with pytest.raises(SystemExit):
        cli.main(
            ["plan", "-m", "random", "-e", "minimax", "--ipc", "1,2", "--repeats", "1", "--registry", str(tmp_path)]
        )
    assert capsys.readouterr().out == f"{plan}\n"
    with pytest.raises(ddbench.UsageError, match="Did you mean 'random'"):
        ddbench.plan("randm", "minimax")


def test_names_are_never_markup_in_a_notebook(tmp_path):
    record = make(HOSTILE, (0.5,), dataset=dataset_facts(HOSTILE), explicit={HOSTILE: HOSTILE})
    schema.write(record, tmp_path)
    for shown in (
        record._repr_html_(),
        ddbench.Records([record])._repr_html_(),
        ddbench.leaderboard(tmp_path, folder=tmp_path)._repr_html_(),
    ):
        assert "&lt;script&gt;" in shown and "<script" not in shown


def test_a_long_list_of_records_is_cut():
    shown = ddbench.Records(make("random", seed=seed) for seed in range(25))._repr_html_()
    assert shown.count("<tr>") == 21 and shown.endswith("<p>… and 5 more</p>")


@pytest.fixture
def loaded(tmp_path):
    data = toy_dataset()
    images, labels = data.arrays("train")
    chosen = np.sort(np.unique(labels, return_index=True)[1])
    distilled = ddbench.DistilledSet(images[chosen], labels[chosen])
    about = {"method": {"name": HOSTILE}, "ipc": 1, "seed": 0, "shrunk": []}
    disk.save(tmp_path / "set", distilled, data, about, preview=b"\x89PNG picture")
    return ddbench.load(tmp_path / "set")


def test_a_set_shows_its_contact_sheet(loaded):
    shown = loaded._repr_html_()
    assert "&lt;script&gt;" in shown and "<script" not in shown
    assert 'src="data:image/png;base64,iVBORyBwaWN0dXJl"' in shown
    (loaded.path / "preview.png").unlink()
    assert "<img" not in loaded._repr_html_() and "<table>" in loaded._repr_html_()
    assert repr(loaded.distilled).endswith("in space rgb_uint8>") and "array" not in repr(loaded.distilled)


def test_a_torch_dataset_applies_a_transform_to_every_image(loaded):
    plain = loaded.torch_dataset()
    image, label = plain[0]
    height, width, channels = loaded.images.shape[1:]
    assert image.shape == (channels, height, width) and int(label) == loaded.labels[0]
    assert float(image.max()) == pytest.approx(loaded.images[0].max() / 255)
    flipped = pickle.loads(pickle.dumps(loaded.torch_dataset(flip)))  # noqa: S301 – as a loader's worker gets it
    assert len(flipped) == len(plain)
    assert (flipped[1][0] == plain[1][0].flip(-1)).all() and flipped[1][1] == plain[1][1]


def flip(image):
    return image.flip(-1)
