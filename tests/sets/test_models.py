"""Trained models handed on: the same bytes for the same model, found by runs, and refused where anything is wrong."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from ddbench_plugins.teachers import observers, recipes

from ddbench import cli
from ddbench.cli import completion
from ddbench.errors import DataError, UsageError
from ddbench.keys import digest
from ddbench.plugin.manager import load_plugins
from ddbench.runtime.store import Store
from ddbench.sets import models
from ddbench.testing.toy import toy_dataset

TOY = Path(__file__).parents[1] / "toy_plugin.py"
TEACHER = "ddbench_plugins.teachers.observers:teacher"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "mine")


@pytest.fixture
def done(store):
    """A finished step as that of a teacher, with little in it."""
    from safetensors.numpy import save_file

    def build(out):
        save_file({"weight": np.arange(6, dtype=np.float32)}, out.dir / "model.safetensors")
        np.save(out.dir / "correct.npy", np.array([True, False]))
        out.info["accuracy"] = 0.5
        out.about.update(dataset="Toy data", model="teacher")

    inputs = {"function": TEACHER, "version": 1, "run": {"numerics": {"device": "cpu", "precision": "bf16"}}}
    return store.build("teacher", inputs, build)


def take(tmp_path, path):
    return models.add(Store(tmp_path / "theirs"), load_plugins(), path)


def test_a_packed_model_is_found_under_the_same_inputs_and_packs_to_the_same_bytes(done, tmp_path):
    path = models.pack(done, tmp_path / "out")
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"toy-data-teacher-{sha[:12]}.zip"
    taken = take(tmp_path, path)
    assert (taken.reused, taken.key, taken.info["accuracy"]) == (False, done.key, 0.5)
    theirs = Store(tmp_path / "theirs")
    assert theirs.get("teacher", done.marker["inputs"]).marker == done.marker
    assert take(tmp_path, path).reused
    assert models.pack(taken, tmp_path / "again").read_bytes() == path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    assert models.add(Store(tmp_path / "third"), load_plugins(), tmp_path / "folder").key == done.key
    assert not list((tmp_path / "theirs").glob(".adding-*"))


def repacked(path, tmp_path, change, *, raw=None):
    """Write the archive again after ``change(files, manifest, marker)``; digests are those of the changed files."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest, marker = json.loads(files.pop("manifest.json")), json.loads(files.pop("step.json"))
    change(files, manifest, marker)
    marker.pop("digest", None)
    if "step.json" not in files:
        files["step.json"] = json.dumps(marker).encode()
    for name, content in files.items():
        if name in manifest["files"]:
            manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if raw:
        raw(files, manifest)
    files.setdefault("manifest.json", json.dumps(manifest).encode())
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(changed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return changed


def add_file(name, content):
    def change(files, manifest, marker):
        files[name] = content
        manifest["files"][name] = {}
        marker["files"][name] = []

    return change


def setting(where, value):
    def change(files, manifest, marker):
        table = {"manifest": manifest, "marker": marker, "inputs": marker["inputs"], "about": marker["about"]}
        what, _, key = where.partition(".")
        table[what][key] = value
        if what == "inputs":
            marker["key"] = manifest["key"] = digest(marker["inputs"])

    return change


def object_array():
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return out.getvalue()


BAD = {
    "path above": (add_file("../outside.json", b"{}"), "no place below it"),
    "absolute path": (add_file("/tmp/outside.json", b"{}"), "no place below it"),
    "backslash": (add_file("a\\b.json", b"{}"), "no place below it"),
    "pickle": (add_file("model.pt", b"x"), "models are handed on as"),
    "code": (add_file("evil.py", b"print(1)"), "models are handed on as"),
    "array of objects": (add_file("more.npy", object_array()), "no array of numbers"),
    "damaged weights": (add_file("more.safetensors", b"not weights at all"), "more.safetensors cannot be read"),
    "damaged table": (add_file("more.json", b"{"), "more.json cannot be read"),
    "later format": (setting("manifest.version", 2), "version 2 of the format"),
    "other format": (setting("manifest.format", "zip"), "manifest.json of changed.zip is wrong"),
    "unknown field": (setting("manifest.run", "rm"), "manifest.json of changed.zip is wrong"),
    "step that leads elsewhere": (setting("manifest.step", "../x"), "manifest.json of changed.zip is wrong"),
    "another key": (setting("manifest.key", "0" * 64), "not the step that its step.json describes"),
    "other step version": (setting("inputs.version", 99), "version 99 of the step teacher; that of this ddbench is 1"),
    "step of nobody": (setting("inputs.function", "os:system"), "no model in any installed plugin"),
    "step that is no model": (
        setting("inputs.function", "ddbench_plugins.diffusion.captions:captions"),
        "no model in any installed plugin",
    ),
    "not called a model": (setting("about.model", "student"), "no model in any installed plugin"),
    "marker without inputs": (
        lambda files, manifest, marker: marker.pop("inputs"),
        "step.json of changed.zip cannot be",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_model_is_refused_and_leaves_nothing(name, done, tmp_path):
    change, named = BAD[name]
    path = repacked(models.pack(done, tmp_path / "out"), tmp_path, change)
    with pytest.raises(DataError, match=named) as caught:
        take(tmp_path, path)
    assert caught.value.hint or "no place" in named
    assert not [path for path in (tmp_path / "theirs").rglob("*") if path.is_file() and path.suffix != ".lease"]


def test_files_that_are_not_those_of_the_manifest_are_refused(done, tmp_path):
    path = models.pack(done, tmp_path / "out")

    def refused(named, raw):
        with pytest.raises(DataError, match=named):
            take(tmp_path, repacked(path, tmp_path, lambda *_: None, raw=raw))

    refused("correct.npy in changed.zip is not what was packed", lambda files, _: files.update({"correct.npy": b"x"}))
    refused("do not hold the same files: correct.npy", lambda files, _: files.pop("correct.npy"))
    refused("do not hold the same files: more.json", lambda files, _: files.update({"more.json": b"{}"}))
    refused("has no step.json", lambda files, manifest: (files.pop("step.json"), manifest["files"].pop("step.json")))
    refused(
        "manifest.json of changed.zip cannot be read", lambda files, _: files.update({"manifest.json": b"[" * 9999})
    )

    def larger(files, manifest):
        manifest["files"]["correct.npy"]["bytes"] = 2**60

    refused("is wrong: files.correct.npy.bytes", larger)


def test_archives_that_are_none_are_refused(done, tmp_path):
    path = models.pack(done, tmp_path / "out")
    bad = tmp_path / "bad.zip"

    def refused(named):
        with pytest.raises(DataError, match=named):
            take(tmp_path, bad)

    bad.write_bytes(path.read_bytes()[:-200])
    refused("bad.zip is no archive of a model")
    bad.write_bytes(b"<!doctype html>")
    refused("is a web page")
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * 2**20)
    refused("is compressed or encrypted")
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("other.json", b"{}")
    refused("no artefact of `ddbench models pack`")
    link = zipfile.ZipInfo("manifest.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr(link, b"/etc/passwd")
    refused("a link or a device")
    with zipfile.ZipFile(bad, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("manifest.json", b"{}")
        archive.writestr("manifest.json", b"{}")
    refused("two files of one name")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "manifest.json").symlink_to(path)
    with pytest.raises(DataError, match="a link or a device"):
        take(tmp_path, folder)


def test_from_an_address_only_by_its_digest(done, tmp_path):
    path = models.pack(done, tmp_path / "out")
    content = path.read_bytes()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address, sha = f"http://127.0.0.1:{server.server_port}/model.zip", hashlib.sha256(content).hexdigest()
    try:
        with models.fetched(f"{address}#sha256={sha}") as file:
            assert take(tmp_path, file).key == done.key
        with pytest.raises(DataError, match="another file than was meant"), models.fetched(address, "0" * 64):
            pass
    finally:
        server.shutdown()
        server.server_close()
    for source, sha256, named in ((address, "", "needs the digest"), (str(path), "abc", "no SHA-256")):
        with pytest.raises(UsageError, match=named), models.fetched(source, sha256):
            pass
    with pytest.raises(DataError, match="another file"), models.fetched(str(path), "0" * 64):
        pass
    with pytest.raises(DataError, match="cannot be fetched"), models.fetched(address, sha):
        pass


def test_a_teacher_of_another_machine_is_used_as_if_it_had_been_trained_here(ctx, tmp_path, monkeypatch):
    monkeypatch.setattr(observers, "recipe_for", lambda *_: replace(recipes.GENERIC, epochs=1))
    there = replace(ctx, store=Store(tmp_path / "mine"), _dataset=toy_dataset())
    trained = observers.get_teacher(there, "convnet-1").done
    here = replace(there, store=Store(tmp_path / "theirs"), ledger=[])
    models.add(here.store, here.plugins, models.pack(trained, tmp_path / "out"))
    assert here.store.get("teacher", trained.marker["inputs"])
    used = observers.get_teacher(here, "convnet-1").done
    assert used.reused and used.marker == trained.marker
    name = f"teacher/{trained.key[:12]}"
    listed = models.models(here.store, here.plugins)
    assert [(one.what, one.dataset) for one in listed if one.name == name] == [("teacher", "toy")]
    shipped = {(one.what, one.dataset) for one in listed if not one.name}
    assert shipped == {("teacher", "cifar10"), ("diffusion model", "digits")}


def test_the_command_lists_packs_and_adds(done, tmp_path, monkeypatch):
    def call(*words, code=0):
        ended = CliRunner().invoke(cli.group, ["models", *words])
        assert ended.exit_code == code, ended.output
        return ended.stdout

    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "mine"))
    assert f"teacher/{done.key[:12]}" in call("list") and "cpu, bf16" in call("list")
    asked = (SimpleNamespace(params={}), None)
    offered = {text: [item.value for item in completion.models(*asked, text)] for text in ("", "teacher/", "x")}
    assert offered[""] == offered["teacher/"] == [f"teacher/{done.key[:12]}"] and not offered["x"]
    path, _, sha = call("pack", done.key[:12], "--out", str(tmp_path / "out")).strip().partition("  sha256=")
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "theirs"))
    assert call("add", path, "--sha256", sha).startswith("added  teacher of Toy data")
    assert call("add", path).startswith("there already")
    names = [one["name"] for one in json.loads(call("list", "--json"))]
    assert f"teacher/{done.key[:12]}" in names
    with pytest.raises(UsageError, match="No trained models are called 'nothing'"):
        models.named(Store(tmp_path / "theirs"), "nothing")


PLUGIN = """
import numpy as np
import ddbench


class Mine(ddbench.Distiller):
    @ddbench.step(model="average")
    def average(self, ctx, out):
        images, labels = ctx.dataset.arrays("train")
        means = [images[labels == label].mean(0) for label in range(ctx.dataset.num_classes)]
        np.save(out.dir / "means.npy", np.stack(means))

    def distill(self, ctx):
        means = np.load(self.average(ctx).dir / "means.npy").round().astype(np.uint8)
        return ddbench.DistilledSet(images=means, labels=np.arange(len(means)))


@ddbench.hookimpl
def ddbench_methods():
    return [ddbench.MethodSpec("mine", Mine, "averages")]
"""


def test_build_makes_what_runs_need_and_nothing_after_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.py").write_text(PLUGIN)
    words = ["-e", "nearest-mean", "--ipc", "1", "--plugin", str(tmp_path / "mine.py"), "--plugin", str(TOY)]

    def build(method):
        ended = CliRunner().invoke(cli.group, ["models", "build", "-m", method, *words])
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    assert "need no trained model" in build("random")
    for _ in range(2):
        (line,) = build("mine").splitlines()
        assert line.split()[0] == "average" and line.split()[1].startswith("average/")
    made = {path.name for path in (tmp_path / "home").iterdir() if path.name[0] != "."}
    assert made == {"average", "network"}  # that the network can be built is looked at before anything
    store = Store(tmp_path / "home")
    (done,) = store.finished("average")
    with pytest.raises(DataError, match="no model in any installed plugin"):  # its code is a file of the author's
        take(tmp_path, models.pack(done, tmp_path / "out"))
