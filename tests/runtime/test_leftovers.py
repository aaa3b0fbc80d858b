import os
import time

import pytest
from click.testing import CliRunner

from ddbench import cli
from ddbench.runtime import leftovers
from ddbench.runtime.store import Store

WEEK = 7 * leftovers.DAY


def _write(step):
    (step.dir / "weights").write_bytes(bytes(3_000_000))


def _stop(step):
    (step.dir / "half").write_bytes(bytes(2_000_000))
    raise KeyboardInterrupt


@pytest.fixture
def root(tmp_path, monkeypatch):
    root = tmp_path / "home"
    monkeypatch.setenv("DDBENCH_HOME", str(root))
    store = Store(root)
    store.build("teacher", {"n": 0}, _write)
    store.build("teacher", {"n": 0}, _write, force=True)
    with pytest.raises(KeyboardInterrupt):
        store.build("latents", {}, _stop)
    (root / "mine").mkdir()
    (root / "mine" / "thesis.old-1").mkdir()
    (root / "mine" / "notes.partial").write_text("not ddbench's")
    return root


def _age(path, seconds):
    for each in (path, *path.rglob("*")):
        os.utime(each, (time.time() - seconds, time.time() - seconds))


def invoke(*words):
    result = CliRunner().invoke(cli.group, ["cache", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_kinds_and_leftovers_are_told_apart(root):
    (kind,) = leftovers.kinds(root)
    assert (kind.name, kind.count) == ("teacher", 1) and 3_000_000 < kind.bytes < 3_010_000
    stopped, replaced = leftovers.leftovers(root)
    assert (stopped.path.parent.name, stopped.resumes, stopped.age < 60) == ("latents", True, True)
    assert (replaced.path.parent.name, replaced.resumes) == ("teacher", False)
    said = invoke()
    assert str(root) in said and "teacher" in said and "3 MB" in said and "2 leftover(s)" in said


def test_cleaning_keeps_what_may_go_on_and_what_is_not_ours(root):
    before = sorted(root.rglob("*"))
    assert "1 folder(s) would be freed" in invoke("clean", "--dry-run") and sorted(root.rglob("*")) == before
    said = invoke("clean")
    assert "kept" in said and "1 folder(s) freed" in said
    (stopped,) = leftovers.leftovers(root)
    _age(stopped.path, WEEK + 60)
    assert "1 folder(s) freed" in invoke("clean")
    assert leftovers.leftovers(root) == [] and (root / "mine" / "thesis.old-1").is_dir()
    assert (root / "mine" / "notes.partial").read_text() == "not ddbench's"
    assert Store(root).get("teacher", {"n": 0}) is not None


def test_what_a_process_is_building_is_no_leftover(root):
    def build(step):
        _age(step.dir, WEEK + 60)
        assert [each.path.name for each in leftovers.leftovers(root) if each.path == step.dir] == []

    Store(root).build("latents", {"other": 1}, build)


def test_an_empty_cache_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "none"))
    assert "no finished step yet" in invoke() and "0 folder(s) freed" in invoke("clean")
