"""What `ddbench push` publishes: read by the library datasets, by mlcroissant's vocabulary, and by ddbench again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from repositories import images

import ddbench
from ddbench.cli import main
from ddbench.errors import DataError, RecordError, UsageError
from ddbench.sets import card, folder
from ddbench.sets.pushing import writing

pytest.importorskip("pyarrow")
TOY = Path(__file__).parents[1] / "toy_plugin.py"
REPO, LICENCE = "hf:me/toy-sets", "cc-by-4.0"


@pytest.fixture
def sets(tmp_path):
    """Two sets of the toy method, with a record of one."""
    made = ddbench.distill("toy", dataset="toy", ipc=[1, 2], plugins=[TOY], out=tmp_path / "sets")
    ddbench.evaluate(made[1].path, "nearest-mean", dataset="toy", plugins=[TOY], registry=tmp_path / "registry")
    return made


@pytest.fixture
def push(tmp_path):
    def call(sets, **how):
        paths = [one.path for one in sets]
        return ddbench.push(paths, REPO, licence=LICENCE, registry=tmp_path / "registry", plugins=[TOY], **how)

    return call


def rich(path, space="unit"):
    """Write a set with all that travels: prompts, soft labels, floats beyond [0, 1], a learned rate."""
    data = ddbench.load_dataset("toy", plugins=[TOY])
    pixels = images(6)
    made = ddbench.DistilledSet(
        pixels if space == "rgb_uint8" else (pixels / 200 - 0.1).astype(np.float32),
        np.repeat(np.arange(3), 2),
        space=space,
        prompts=tuple(f"a photo, number {number}" for number in range(6)),
        soft_labels=np.random.default_rng(0).dirichlet(np.ones(3), 6).astype(np.float32),
        learning_rate=0.02,
    )
    method = {"name": "rich", "version": 1, "options": {"note": "<b>&|"}, "explicit": {}}
    folder.save(path, made, data, {"method": method, "ipc": 2, "seed": 0, "shrunk": []})
    return ddbench.load(path)


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


def test_a_folder_ready_for_the_hub_comes_back_byte_for_byte(sets, push, tmp_path):
    done = push(sets, out=tmp_path / "up")
    names = {name for name, _ in done.files}
    assert done.configs == ("ipc1-seed0", "ipc2-seed0") and not done.commit
    for config in done.configs:
        assert {f"{config}/train-00000-of-00001.parquet", f"{config}/distilled.json", f"{config}/preview.png"} <= names
    assert {"README.md", "croissant.json"} <= names
    assert [name for name in names if "/records/" in name and name.startswith("ipc2-seed0")] != []
    back = ddbench.pull(str(tmp_path / "up"), out=tmp_path / "back")
    for one, again in zip(sets, back, strict=True):
        assert files(one.path) == files(again.path)
    single = ddbench.pull(f"{tmp_path / 'up'}:ipc2-seed0", out=tmp_path / "one", registry=tmp_path / "theirs")
    assert [one.about["ipc"] for one in single] == [2]
    ours, theirs = (ddbench.records(tmp_path / name) for name in ("registry", "theirs"))
    assert [record.digest for record in ours] == [record.digest for record in theirs] and len(ours) == 1


@pytest.mark.parametrize("space", ["rgb_uint8", "unit"])
def test_the_library_datasets_reads_the_same(space, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    one = rich(tmp_path / "set", space)
    ddbench.push(one.path, REPO, licence=LICENCE, out=tmp_path / "up", registry=tmp_path / "none")
    datasets.disable_progress_bars()
    rows = datasets.load_dataset(str(tmp_path / "up"), "ipc2-seed0", split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.features["label"].names == list(one.class_names)
    assert rows["label"] == one.labels.tolist() and rows["prompt"] == list(one.prompts)
    np.testing.assert_array_equal(np.asarray(rows["soft_label"], np.float32), one.distilled.soft_labels)
    if space == "unit":
        np.testing.assert_array_equal(np.asarray(rows["pixels"], np.float32), one.images)
    else:
        np.testing.assert_array_equal([np.asarray(image)[..., None] for image in rows["image"]], one.images)
    (again,) = ddbench.pull(str(tmp_path / "up"), out=tmp_path / "back")
    assert again.about == one.about and files(again.path) == files(one.path)


def test_up_to_a_hub_and_back(sets, push, hub, tmp_path, monkeypatch):
    done = push(sets)
    assert done.commit == hub.commit("dataset", "me/toy-sets")
    assert hub.repos["dataset", "me/toy-sets"][-1].keys() == {name for name, _ in done.files}
    back = ddbench.pull(REPO, out=tmp_path / "back")
    assert [files(one.path) for one in back] == [files(one.path) for one in sets]
    measured = {}
    for source, registry in ((sets[1].path, "registry"), (f"{REPO}:ipc2-seed0", "again")):
        (record,) = ddbench.evaluate(source, "nearest-mean", dataset="toy", plugins=[TOY], registry=tmp_path / registry)
        measured[registry] = record
    assert measured["again"].digest == measured["registry"].digest and measured["again"].key == measured["registry"].key
    assert measured["again"].environment["origin"] == f"{REPO}@{done.commit}:ipc2-seed0"
    assert "origin" not in measured["registry"].environment
    # The same sets again change nothing; fewer would leave the card without one that is there.
    assert push(sets).commit
    with pytest.raises(UsageError, match="holds ipc1-seed0 as well"):
        push(sets[1:])


def test_a_hub_that_refuses_is_explained(sets, push, hub, monkeypatch):
    monkeypatch.setattr(hub, "respond", lambda call: hub.error(call, 401, ""))
    with pytest.raises((UsageError, DataError)) as error:
        push(sets)
    assert "hf auth login" in error.value.hint
    with pytest.raises(UsageError, match="is no repository on the hub"):
        ddbench.push(sets[0].path, "me/set", licence=LICENCE)


def test_the_card_says_what_is_known(sets, push, tmp_path):
    push(sets, out=tmp_path / "up")
    text = (tmp_path / "up" / "README.md").read_text("utf-8")
    about = card.read(tmp_path / "up" / "README.md")
    assert about.class_names["ipc2-seed0"] == sets[0].class_names
    assert about.configs["ipc1-seed0"] == ("ipc1-seed0/train-*.parquet",)
    (record,) = ddbench.records(tmp_path / "registry")
    for said in (
        'load_dataset("me/toy-sets", "ipc1-seed0", split="train")',
        "ddbench evaluate hf:me/toy-sets:ipc1-seed0 --eval nearest-mean --dataset toy",
        "![contact sheet of ipc2-seed0](ipc2-seed0/preview.png)",
        f"| ipc2-seed0 | nearest-mean (scaled down) | convnet-3 | hard | {record.accuracy} | 2 | {record.digest[:8]} |",
        "license: cc-by-4.0",
        "- dataset-distillation",
        "- ipc-2",
    ):
        assert said in text, said
    rich_set = rich(tmp_path / "set")
    ddbench.push(rich_set.path, REPO, licence=LICENCE, out=tmp_path / "rich", registry=tmp_path / "none")
    text = (tmp_path / "rich" / "README.md").read_text("utf-8")
    assert "No record of these sets was at hand" in text
    assert "\\<b\\>&" not in text and "<b>" not in text.partition("---\n\n")[2]


def test_croissant_has_the_core_and_what_responsible_use_needs(sets, push, tmp_path):
    push(sets, out=tmp_path / "up")
    about = json.loads((tmp_path / "up" / "croissant.json").read_text("utf-8"))
    assert about["conformsTo"] == ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
    stated = {name for name in about if name.startswith("rai:")}
    assert {"rai:dataCollection", "rai:dataBiases", "rai:dataLimitations", "rai:dataUseCases"} <= stated
    assert [part["@id"] for part in about["recordSet"]] == ["ipc1-seed0", "ipc2-seed0"]
    patterns = [part["includes"] for part in about["distribution"] if part["@type"] == "cr:FileSet"]
    assert all(list((tmp_path / "up").glob(pattern)) for pattern in patterns)


def test_croissant_is_valid(sets, push, tmp_path):
    validator = pytest.importorskip("mlcroissant")
    push(sets, out=tmp_path / "up")
    assert not validator.Dataset(jsonld=str(tmp_path / "up" / "croissant.json")).metadata.issues.errors


def test_large_sets_are_cut_into_parts(sets, push, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD", 300)
    push(sets[1:], out=tmp_path / "up")
    parts = sorted((tmp_path / "up" / "ipc2-seed0").glob("*.parquet"))
    assert len(parts) > 1 and parts[0].name == f"train-00000-of-{len(parts):05d}.parquet"
    (again,) = ddbench.pull(str(tmp_path / "up"), out=tmp_path / "back")
    assert files(again.path) == files(sets[1].path)
    parts[-1].unlink()
    with pytest.raises(RecordError, match="fewer pictures"):
        ddbench.pull(str(tmp_path / "up"), out=tmp_path / "cut")


def test_what_does_not_belong_together_is_refused(sets, push, tmp_path):
    other = rich(tmp_path / "rich")
    with pytest.raises(UsageError, match="several methods or data sets: rich on toy, toy on toy"):
        push([sets[0], other], out=tmp_path / "up")
    with pytest.raises(UsageError, match="both of IPC 2, seed 0"):
        push([sets[1], other], out=tmp_path / "up")
    (sets[0].path / "distilled.json").write_text("{}")
    with pytest.raises(RecordError):
        push(sets, out=tmp_path / "up")
    assert not (tmp_path / "up").exists()


def test_changed_pictures_are_refused_when_they_are_read(sets, push, tmp_path):
    import pyarrow.parquet as pq

    push(sets, out=tmp_path / "up")
    one, other = (tmp_path / "up" / config / "train-00000-of-00001.parquet" for config in ("ipc1-seed0", "ipc2-seed0"))
    rows = pq.read_table(other).slice(1, 3)
    pq.write_table(rows, one)
    with pytest.raises(RecordError, match="were changed"):
        ddbench.pull(f"{tmp_path / 'up'}:ipc1-seed0", out=tmp_path / "back")
    assert not list((tmp_path / "back").glob("*"))


def test_commands(sets, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = str(sets[0].path)
    common = ["push", path, "--to", REPO, "--licence", LICENCE, "--plugin", str(TOY)]

    def run(*words):
        with pytest.raises(SystemExit) as stop:
            main([*words])
        captured = capsys.readouterr()
        assert stop.value.code == 0, captured.err
        return captured.out

    dry = run(*common, "--dry-run")
    assert "README.md" in dry and f"would go to {REPO}" in dry and not (tmp_path / "up").exists()
    assert json.loads(run(*common, "--dry-run", "--json"))["configs"] == ["ipc1-seed0"]
    assert "hf upload me/toy-sets up --repo-type dataset" in run(*common, "--out", "up")
    assert "back/toy-toy-ipc1-seed0" in run("pull", "up", "--out", "back")
    assert "back/toy-toy-ipc1-seed0" in run("pull", "up:ipc1-seed0", "--out", "back")  # left as it is
    with pytest.raises(UsageError, match="is no repository that ddbench wrote"):
        ddbench.pull(str(tmp_path / "sets"), out=tmp_path / "none")


def test_two_classes_of_one_name_are_told_apart_by_id(sets):
    from ddbench.sets.pushing.publication import Publication

    cranes = replace(sets[0], class_names=("crane", "crane", "dog"))
    assert Publication("me/x", {"ipc1-seed0": cranes}, (), LICENCE).labels == sets[0].class_ids


def test_what_else_a_set_holds_goes_with_it(push, tmp_path):
    one = rich(tmp_path / "plain")
    schedule = ddbench.Schedule(((0, 3), (5,)), ((0, 0.1), (1, 0.2)), "mlp", "xavier normal")
    data = ddbench.load_dataset("toy", plugins=[TOY])
    about = {name: one.about[name] for name in ("method", "ipc", "seed", "shrunk")}
    folder.save(tmp_path / "more", replace(one.distilled, schedule=schedule), data, about)
    push([ddbench.load(tmp_path / "more")], out=tmp_path / "up")
    (back,) = ddbench.pull(str(tmp_path / "up"), out=tmp_path / "back")
    assert back.distilled.schedule == schedule and back.about["digest"] != one.about["digest"]
    assert "also has schedule: batches 2, steps 2, network mlp" in (tmp_path / "up" / "README.md").read_text("utf-8")
