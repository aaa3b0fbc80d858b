"""The main way with a toy plugin: cells, records, reuse, extension, seeds, import of folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddbench
from ddbench.errors import DataError, PluginError, RecordError, StorageError, UsageError
from ddbench.results import schema as records
from ddbench.runtime.progress import Reporter

PLUGIN = Path(__file__).parents[1] / "toy_plugin.py"


class Log(Reporter):
    def __init__(self):
        self.lines = []
        self.warnings = []

    def log(self, message):
        self.lines.append(message)

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture
def run(tmp_path):
    def call(method="toy", evaluator="nearest-mean", **arguments):
        settings = {"dataset": "toy", "ipc": 2, "plugins": [PLUGIN], "registry": tmp_path / "registry"} | arguments
        return ddbench.run(method, evaluator, **settings)

    return call


def test_a_cell_becomes_a_complete_record(run, tmp_path):
    (record,) = run(options={"method": {"noise": "2"}})
    path = tmp_path / "registry" / "results" / record.relative_path()
    assert records.read(path) == record
    assert record.computed_digest() == record.digest
    assert record.cell.method.options == {"noise": 2.0, "fail": False}
    assert record.shrunk == [("method.noise", 4.0, 2.0)]
    assert len(record.result.values) == 2
    assert record.result.values == record.result.last
    assert record.result.correct_bits(1).mean() == pytest.approx(record.result.last[1])
    assert record.cell.dataset["class_names"] == ["dark", "grey", "light"]
    assert record.distilled.count == 6
    assert record.costs.bytes_images > 0
    assert str(tmp_path) not in path.read_text()


def test_the_same_command_gives_the_same_digest_and_reuses_everything(run, monkeypatch, tmp_path):
    (first,) = run()
    log = Log()
    (again,) = run(reporter=log)
    assert again.digest == first.digest
    assert log.lines[0].startswith("[1/1] toy on toy, IPC 2, seed 0")
    assert log.lines[-1] == f"[1/1] accuracy {again.accuracy} %"
    assert all("reused" in line for line in log.lines[1:-1])
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "other"))
    (elsewhere,) = run(registry=tmp_path / "registry2")
    assert elsewhere.digest == first.digest


def test_more_repeats_extend_a_record_and_fewer_do_not_shorten_it(run):
    (two,) = run(repeats=2)
    (four,) = run(repeats=4)
    (one,) = run(repeats=1)
    assert four.result.values[:2] == two.result.values
    assert one.result.values == four.result.values
    assert four.key == two.key


def test_several_evaluators_and_networks_share_one_distilled_set(run):
    found = run(network="convnet-3,mlp", seed=[0, 1])
    assert len(found) == 4
    assert len({record.distilled.digest for record in found}) == 2
    assert len({record.key for record in found}) == 4


def test_seeds_are_two_axes(run):
    (a,) = run(seed=0)
    (b,) = run(seed=1)
    (c,) = run(seed=0, evaluation_seed=7)
    assert a.distilled.digest != b.distilled.digest
    assert a.distilled.digest == c.distilled.digest
    assert a.result.values != c.result.values


def test_force_works_again(run):
    (first,) = run()
    log = Log()
    (second,) = run(force=True, reporter=log)
    assert second.digest == first.digest
    assert not any("reused" in line for line in log.lines)


def test_another_result_of_the_same_cell_is_kept_beside_the_first(run, tmp_path):
    (record,) = run()
    path = tmp_path / "registry" / "results" / record.relative_path()
    content = json.loads(path.read_text())
    content["result"]["last"][0] = content["result"]["values"][0] = 0.5
    path.write_text(json.dumps(content))
    log = Log()
    run(reporter=log)
    assert "another result of the same cell" in log.warnings[0]
    assert json.loads(path.read_text()) == content
    (beside,) = path.parent.glob(f"{path.stem}_*.json")
    assert records.read(beside) == record


#: A method that paints, and an evaluator that scores, what a file tells that no option names.
WEIGHTED = """
from pathlib import Path

import numpy as np

import ddbench

WEIGHTS = Path(__file__).with_name("weights.txt")


class Painter(ddbench.Distiller):
    def identity(self, ctx):
        return {"weights": ctx.content_digest(WEIGHTS)}

    def distill(self, ctx):
        labels = np.repeat(np.arange(ctx.dataset.num_classes), ctx.ipc)
        return ddbench.DistilledSet(np.full((len(labels), 8, 8, 1), int(WEIGHTS.read_text()), np.uint8), labels)


class Judge(ddbench.Evaluator):
    default_network, default_repeats = "convnet-3", 1

    def identity(self, ctx):
        return {"weights": ctx.content_digest(WEIGHTS)}

    def protocol(self, ctx, distilled):
        return ddbench.Protocol({"network": ctx.network, "label_type": "hard", "selection": "last"})

    def evaluate(self, ctx, distilled, repeat):
        correct = np.arange(60) < int(WEIGHTS.read_text())
        return ddbench.Score(last=float(correct.mean()), correct=correct)


@ddbench.hookimpl
def ddbench_methods():
    return [ddbench.MethodSpec("painter", Painter, "")]


@ddbench.hookimpl
def ddbench_evaluators():
    return [ddbench.EvaluatorSpec("judge", Judge, "")]
"""


def test_changed_weights_make_another_set(tmp_path):
    """What a plugin reads besides its options is in the key by ``identity``."""
    plugin, weights = tmp_path / "weighted.py", tmp_path / "weights.txt"
    plugin.write_text(WEIGHTED)
    keys = []
    for number in (30, 40, 30):
        weights.write_text(str(number))
        (made,) = ddbench.distill("painter", dataset="toy", ipc=1, plugins=[PLUGIN, plugin])
        assert np.unique(made.images).tolist() == [number]
        keys.append(made.path)
    assert keys[0] == keys[2] != keys[1]


def test_changed_weights_make_another_accuracy(run, tmp_path):
    plugin, weights = tmp_path / "weighted.py", tmp_path / "weights.txt"
    plugin.write_text(WEIGHTED)
    for number in (30, 45, 30):
        weights.write_text(str(number))
        (record,) = run(evaluator="judge", plugins=[PLUGIN, plugin], registry=tmp_path / f"registry {number}")
        assert record.result.values == [number / 60]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "toi"}, "Did you mean 'toy'"),
        ({"evaluator": "nearest"}, "Unknown evaluator"),
        ({"dataset": "toys"}, "Did you mean 'toy'"),
        ({"network": "convnet-33"}, "Unknown network"),
        ({"ipc": 21}, "IPC 21 is larger than class 'dark'"),
        ({"ipc": 0}, "at least 1"),
        ({"repeats": 0}, "repeat"),
        ({"options": {"method": {"nois": "1"}}}, "Did you mean 'noise'"),
        ({"options": {"methd": {"noise": "1"}}}, "Did you mean 'method'"),
        ({"preset": "papre"}, "Did you mean 'paper'"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
    ],
)
def test_mistakes_are_found_before_anything_runs(run, arguments, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        run(**arguments)
    assert not (tmp_path / "registry").exists()
    assert not list((tmp_path / "home").glob("distilled/*"))


def test_options_can_be_set_by_plugin_name(run):
    (record,) = run(options={"method/toy": {"noise": "3"}, "nearest-mean": {"pixels": "0.5"}})
    assert record.cell.method.explicit == {"noise": 3.0}
    assert record.cell.evaluator.explicit == {"pixels": 0.5}
    with pytest.raises(UsageError, match="could be several"):
        run(options={"toy": {"noise": "3"}})


def test_a_failing_method_is_named_and_can_be_run_again(run):
    with pytest.raises(PluginError, match=r"method 'toy'.*ZeroDivisionError: on purpose"):
        run(options={"method": {"fail": "true"}})
    assert run()[0].result.values


@pytest.mark.parametrize("place", ["file", "file/further"])
def test_a_file_in_the_place_of_the_registry_is_said(run, tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"is a file|is in the way"):
        run(registry=tmp_path / place)


def test_records_of_another_schema_are_refused(run, tmp_path):
    (record,) = run()
    path = tmp_path / "registry" / "results" / record.relative_path()
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(RecordError, match="version 99"):
        records.read(path)


def test_a_distilled_set_can_be_read_without_its_maker(tmp_path):
    (made,) = ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path / "sets")
    loaded = ddbench.load(made.path)
    assert loaded.images.shape == (6, 8, 8, 1)
    assert loaded.class_ids == ("a", "b", "c")
    assert len(loaded.torch_dataset()) == 6
    assert sorted(p.name for p in made.path.iterdir()) == ["distilled.json", "images", "preview.png"]
    assert len(list((made.path / "images" / "0001_b").glob("*.png"))) == 2
    before = {path: path.stat().st_mtime_ns for path in made.path.rglob("*")}
    ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path / "sets")  # the same is there already
    assert {path: path.stat().st_mtime_ns for path in made.path.rglob("*")} == before
    (made.path / "preview.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists already"):
        ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path / "sets")
    assert (made.path / "preview.png").read_bytes() == b"mine"


def test_a_changed_image_is_noticed(tmp_path):
    (made,) = ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(next(made.path.glob("images/*/*.png")))
    with pytest.raises(RecordError, match="changed after"):
        ddbench.load(made.path)


@pytest.mark.parametrize("name", ["../other.png", "/other.png"])
def test_a_set_reads_nothing_outside_its_folder(name, tmp_path):
    (made,) = ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path)
    path = made.path / "distilled.json"
    about = json.loads(path.read_text())
    (made.path / about["files"][0]).rename(tmp_path / "other.png")
    about["files"][0] = name.replace("/other", f"{tmp_path}/other") if name.startswith("/") else name
    path.write_text(json.dumps(about))
    with pytest.raises(RecordError, match="outside its folder"):
        ddbench.load(made.path)


def test_unreadable_tensors_are_named(tmp_path):
    (made,) = ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path)
    (made.path / "tensors.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(RecordError, match=r"tensors\.safetensors cannot be read"):
        ddbench.load(made.path)


def _evaluate(folder, tmp_path, **arguments):
    settings = {"dataset": "toy", "plugins": [PLUGIN], "registry": tmp_path / "registry"} | arguments
    return ddbench.evaluate(folder, "nearest-mean", **settings)


@pytest.mark.parametrize(
    "change",
    [list, lambda about: {k: v for k, v in about.items() if k != "labels"}, lambda about: about | {"dataset": 3}],
)
def test_a_damaged_description_is_named(change, tmp_path):
    (made,) = ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path)
    path = made.path / "distilled.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RecordError, match=r"distilled\.json is damaged"):
        ddbench.load(made.path)
    with pytest.raises((RecordError, DataError)):
        _evaluate(made.path, tmp_path, dataset="")


def test_evaluating_a_saved_set_equals_the_run(run, tmp_path):
    (record,) = run()
    (made,) = ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path / "sets")
    (again,) = _evaluate(made.path, tmp_path)
    assert again.result.values == record.result.values
    assert again.distilled.digest == record.distilled.digest
    assert again.cell.method.name == "toy"


def test_a_foreign_class_tree_is_matched_by_name_and_not_by_position(run, tmp_path):
    (record,) = run()
    (made,) = ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path / "sets")
    tree = tmp_path / "tree"
    for image, label in zip(made.images, made.labels, strict=True):
        folder = tree / {0: "dark", 1: "grey", 2: "light"}[int(label)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{len(list(folder.iterdir()))}.png")
    (foreign,) = _evaluate(tree, tmp_path, name="theirs")
    assert foreign.cell.method.name == "theirs"
    assert foreign.result.values == record.result.values
    (tree / "grey").rename(tree / "gray")
    with pytest.raises(DataError, match=r"'gray' is no class of toy.*Did you mean 'grey'"):
        _evaluate(tree, tmp_path)


def test_a_tree_is_named_by_its_folder_and_hidden_files_do_not_count(tmp_path, monkeypatch):
    for name in ("a", "b", "c", ".git"):
        (tmp_path / "theirs" / name).mkdir(parents=True)
        for file in ("0.png", ".0.png"):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "theirs" / name / file)
    monkeypatch.chdir(tmp_path / "theirs")
    (record,) = _evaluate(Path(), tmp_path)
    assert record.cell.method.name == "theirs" and record.cell.ipc == 1
    with pytest.raises(UsageError, match="cannot be a name in a record"):
        _evaluate(Path(), tmp_path, name="x" * 81)


def test_an_unbalanced_tree_is_refused(tmp_path):
    for name, count in (("a", 1), ("b", 2), ("c", 1)):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "tree" / name / f"{i}.png")
    with pytest.raises(DataError, match="1 to 2 images per class"):
        _evaluate(tmp_path / "tree", tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither"):
        _evaluate(tmp_path / "empty", tmp_path)


MEANS = '''
import numpy as np
import ddbench


class MeanOptions(ddbench.Options):
    unused: int = 0


class Means(ddbench.Distiller):
    """The mean image of each class, whatever the seed and the option."""

    Options = MeanOptions

    def distill(self, ctx):
        images, labels = ctx.dataset.arrays("train")
        means = [images[labels == label].mean(0) for label in range(ctx.dataset.num_classes)]
        return ddbench.DistilledSet(np.stack(means).astype(np.uint8), np.arange(len(means), dtype=np.int64))


@ddbench.hookimpl
def ddbench_methods():
    return [ddbench.MethodSpec("means", Means, "class means")]
'''


def test_seeds_and_options_that_come_to_the_same_images_are_said_at_once_and_verify(run, tmp_path):
    from ddbench.results import registry
    from ddbench.tables import leaderboard

    plugin = tmp_path / "means.py"
    plugin.write_text(MEANS)
    log = Log()
    shared = {"ipc": 1, "plugins": [PLUGIN, plugin], "reporter": log}
    found = run("means", seed=(0, 1, 2), **shared)
    said = "their networks are the same and count once"
    assert log.warnings == [
        f"means, IPC 1, seed {n} has the same images as means, IPC 1, seed 0: {said}." for n in (1, 2)
    ]
    found += run("means", options={"method": {"unused": 1}}, **shared)
    checked = registry.check(tmp_path / "registry")
    assert checked.records == 4 and not checked.problems and len(checked.notes) == 3
    (table,) = leaderboard.build(found)
    assert [cell.runs for cell in table.rows[0].cells] == ["1×2", "1×2"]


def test_a_set_evaluated_again_under_its_corrected_name_verifies(run, tmp_path):
    from ddbench.results import registry

    (made,) = ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path / "sets")
    for name in ("typo-autors", "typo-authors"):
        ddbench.evaluate(
            made.path, "nearest-mean", dataset="toy", name=name, plugins=[PLUGIN], registry=tmp_path / "registry"
        )
    checked = registry.check(tmp_path / "registry")
    assert checked.records == 2 and checked.problems == checked.notes == ()


@pytest.mark.parametrize("seeds", [{"seed": -1}, {"evaluation_seed": -1}, {"seed": 2**63}])
def test_a_seed_that_no_record_can_have_is_refused_before_anything_runs(run, seeds):
    with pytest.raises(UsageError, match="is not a valid seed"):
        run(**seeds)


def test_a_result_that_contradicts_itself_is_refused_and_not_recorded(run, tmp_path):
    plugin = tmp_path / "odd.py"
    text = PLUGIN.read_text().replace('"selection": "last"}', '"selection": "last", "epochs": 3}')
    assert "curve" not in text
    plugin.write_text(text.replace("correct=correct)", "correct=correct, curve=[(4, float(correct.mean()))])"))
    with pytest.raises(PluginError, match="ends at epoch 4 of 3"):
        run(plugins=[plugin])
    assert not (tmp_path / "registry" / "results").exists()


def test_an_evaluator_that_draws_nothing_is_told(run, tmp_path):
    plugin = tmp_path / "fixed.py"
    text = PLUGIN.read_text()
    changed = text.replace('ctx.rng("student", repeat)', "np.random.default_rng(0)").replace('"toy", 1', '"toy", 2')
    changed = changed.replace("60 + 40 * labels", "60 + 4 * labels").replace(
        ".repeat(np.arange(3), 20)", ".repeat(np.arange(3), 100)"
    )
    plugin.write_text(changed.replace("(60, 8, 8, 1)", "(300, 8, 8, 1)").replace("range(60)", "range(300)"))
    log = Log()
    (record,) = run(plugins=[plugin], reporter=log, repeats=3)
    assert len(set(record.result.correct)) == 1
    assert log.warnings == [
        "nearest-mean gave networks that are right on exactly the same test images: they count once."
    ]
