import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from ddbench import cli
from ddbench.errors import UsageError
from ddbench.files import locks
from ddbench.runtime import leftovers, uses
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
    (step,) = leftovers.finished(root)
    assert (step.kind, step.ours, step.dataset) == ("teacher", True, "") and 3_000_000 < step.bytes < 3_010_000
    stopped, replaced = leftovers.leftovers(root)
    assert (stopped.path.parent.name, stopped.resumes, stopped.age < 60) == ("latents", True, True)
    assert (replaced.path.parent.name, replaced.resumes) == ("teacher", False)
    said = invoke()
    assert str(root) in said and "teacher" in said and "3 MB" in said and "2 leftover(s)" in said


def test_a_file_that_steps_share_counts_once(root):
    (step,) = leftovers.finished(root)
    Store(root).build("latents", {"n": 1}, lambda new: os.link(step.path / "weights", new.dir / "weights"))
    both = leftovers.finished(root)
    assert len(both) == 2 and 3_000_000 < leftovers.together(both) < 3_010_000
    assert "all      2  3 MB" in invoke()


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_a_file_with_another_name_is_freed_with_the_last_one(root, dry_run):
    (step,) = leftovers.finished(root)
    new = Store(root).build("latents", {"n": 1}, lambda new: os.link(step.path / "weights", new.dir / "weights"))
    uses.end()
    backup = root / "backup"
    os.link(step.path / "weights", backup)
    words = ["prune", "--step", "teacher,latents", *dry_run]
    assert "under 1 MB in 1 folder(s)" in invoke("prune", "--step", "latents", "--dry-run")
    assert "under 1 MB in 2 folder(s)" in invoke(*words, "--dry-run")
    backup.unlink()
    assert "3 MB in 2 folder(s)" in invoke(*words) and bool(dry_run) == new.dir.exists()


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


def _name(dataset):
    def build(step):
        step.about["dataset"] = dataset
        _write(step)

    return build


USES = """
import sys
from pathlib import Path
from ddbench.runtime.store import Store
assert Store(Path(sys.argv[1])).get("teacher", {"n": 0})
print("used", flush=True)
sys.stdin.read()
"""


def test_pruning_goes_by_last_use_kind_and_data_set(root):
    store = Store(root)
    for number, name in enumerate(("digits", "cifar10")):
        store.build("student", {"n": number}, _name(name))
    digits, cifar = (store.get("student", {"n": number}).dir for number in (0, 1))
    (teacher,) = [step for step in leftovers.finished(root) if step.kind == "teacher"]
    uses.end()
    said = invoke()
    assert "cifar10" in said and "of none, or not known" in said
    os.utime(teacher.path, (time.time() - WEEK, time.time() - WEEK))
    assert "1 folder(s) would be freed" in invoke("prune", "--older-than", "6", "--dry-run")
    assert Store(root).get("teacher", {"n": 0}) is not None  # which uses it
    uses.end()
    assert "0 folder(s) freed" in invoke("prune", "--older-than", "6")
    assert "0 folder(s) freed" in invoke("prune", "-d", "cifar10", "--step", "teacher")
    assert "1 folder(s) freed" in invoke("prune", "-d", "cifar10") and not cifar.exists()
    assert "1 folder(s) freed" in invoke("prune", "--step", "teacher") and not teacher.path.exists()
    assert digits.exists()
    for words, message in ((["-d", "cifar1O"], "Unknown data set in the cache"), ([], "Nothing says what to remove")):
        with pytest.raises(UsageError, match=message):
            invoke("prune", *words)


def test_nothing_is_pruned_that_a_process_uses_or_somebody_else_wrote(root):
    uses.end()
    reader = subprocess.Popen([sys.executable, "-c", USES, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert reader.stdout.readline() == b"used\n"
        (step,) = leftovers.finished(root)
        assert not leftovers.prune(root, step) and step.path.exists()
        assert "a running process uses it" in invoke("prune", "--older-than", "0")
        reader.kill()
        reader.wait()
        (step.path / "notes.txt").write_text("mine")
        assert "files that ddbench did not write" in invoke("prune", "--older-than", "0") and step.path.exists()
        (step.path / "notes.txt").unlink()
        assert "1 folder(s) freed" in invoke("prune", "--older-than", "0")
        assert list((root / ".in-use").iterdir()) == []  # the killed process's list is gone, too
    finally:
        reader.kill()
        reader.communicate()


def test_runs_of_workers_are_cleaned_when_old_and_unused(root):
    for name in ("ended", "old", "held"):
        folder = root / "runs" / name
        (folder / "claims").mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    (root / "runs" / "mine").mkdir()
    _age(root / "runs" / "old", WEEK + 60)
    with locks.leased(root / "runs" / "held" / "claims" / "000001.lease"):
        _age(root / "runs" / "held", WEEK + 60)
        said = invoke("clean")
    assert "kept" in said and {path.name for path in (root / "runs").iterdir()} == {"ended", "held", "mine"}
