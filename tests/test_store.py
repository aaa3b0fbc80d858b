from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import subprocess
from pathlib import Path

import pytest

from ddbench.errors import DataError, StorageError
from ddbench.store import MARKER, Store, explained, write_atomic


def _count(step):
    log = step.dir.parent / "log"
    log.write_text(log.read_text() + "x" if log.exists() else "x")
    (step.dir / "out.txt").write_text("result")
    step.info["n"] = 3


def test_a_step_is_built_once(tmp_path):
    store = Store(tmp_path)
    first = store.build("captions", {"seed": 0}, _count)
    again = store.build("captions", {"seed": 0}, _count)
    assert (first.reused, again.reused) == (False, True)
    assert again.info == {"n": 3}
    assert (again.dir / "out.txt").read_text() == "result"
    assert (tmp_path / "captions" / "log").read_text() == "x"


def test_other_inputs_are_another_step(tmp_path):
    store = Store(tmp_path)
    assert store.build("a", {"seed": 0}, _count).dir != store.build("a", {"seed": 1}, _count).dir


def test_force_builds_again_and_keeps_the_old_folder(tmp_path):
    store = Store(tmp_path)
    done = store.build("a", {}, _count)
    store.build("a", {}, _count, force=True)
    assert (tmp_path / "a" / "log").read_text() == "xx"
    assert list(done.dir.parent.glob(f"{done.dir.name}.old-*/out.txt"))


def test_an_interrupted_step_goes_on_from_its_checkpoint(tmp_path):
    torch = pytest.importorskip("torch")
    store = Store(tmp_path)
    seen = []

    def build(step):
        state = step.load() or {"epoch": 0, "weights": torch.zeros(2)}
        for epoch in range(state["epoch"], 5):
            seen.append(epoch)
            step.save({"epoch": epoch + 1, "weights": state["weights"] + epoch + 1})
            if len(seen) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build("train", {}, build)
    assert store.started("train", {})
    assert store.get("train", {}) is None
    done = store.build("train", {}, build)
    assert seen == [0, 1, 2, 3, 4]
    assert not (done.dir / "checkpoint.pt").exists()


def test_a_broken_checkpoint_counts_as_none(tmp_path):
    def build(step):
        (step.dir / "checkpoint.pt").write_bytes(b"half a file")
        assert step.load() is None

    Store(tmp_path).build("train", {}, build)


def test_a_checkpoint_with_foreign_objects_is_refused(tmp_path):
    torch = pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    def build(step):
        torch.save({"state": Evil()}, step.dir / "checkpoint.pt")
        with pytest.raises(pickle.UnpicklingError):
            step.load()

    Store(tmp_path).build("train", {}, build)
    assert not (tmp_path / "owned").exists()


def test_a_damaged_marker_is_named(tmp_path):
    store = Store(tmp_path)
    done = store.build("a", {}, _count)
    (done.dir / MARKER).write_text("{")
    with pytest.raises(DataError, match=MARKER):
        store.get("a", {})


def _build_in_process(root):
    Store(Path(root)).build("a", {"x": 1}, _count)


def test_two_processes_build_a_step_once(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_build_in_process, args=(str(tmp_path),)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert (tmp_path / "a" / "log").read_text() == "x"


def test_atomic_write_leaves_no_temporary_file(tmp_path):
    write_atomic(tmp_path / "deep" / "file.json", "text")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file.json"]


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
def test_storage_errors_are_explained(tmp_path, number, words):
    with pytest.raises(StorageError, match=words), explained(tmp_path):
        raise OSError(number, os.strerror(number))


def test_what_is_in_the_way_of_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for path, words in (
        ("file/below", "a file of that name is in the way|part of that path is a file"),
        ("file/further/below", "part of that path is a file"),
        ("folder", "it is a folder"),
        (f"{'x' * 300}/file", "the name is too long"),
    ):
        with pytest.raises(StorageError, match=words):
            write_atomic(tmp_path / path, "text")
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_file_in_the_place_of_the_artifact_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="part of that path is a file"):
        Store(tmp_path / "file").build("a", {}, _count)


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(PermissionError), explained(tmp_path):
        raise PermissionError(errno.EACCES, "denied", "/somewhere/else.jpg")


@pytest.fixture
def small_disk(tmp_path):
    """A 1 MB file system."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.decode().strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_is_explained_and_finished_steps_stay(small_disk):
    store = Store(small_disk)
    store.build("a", {}, _count)

    def fill(step):
        (step.dir / "big").write_bytes(b"x" * 5_000_000)

    with pytest.raises(StorageError, match="disk is full"):
        store.build("b", {}, fill)
    assert store.get("a", {}) is not None
    assert store.get("b", {}) is None


def test_a_read_only_folder_is_explained(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="read-only"):
        Store(small_disk).build("a", {}, _count)
    with pytest.raises(StorageError, match="read-only"):
        Store(small_disk / "a" / "new" / "home").build("a", {}, _count)
    with pytest.raises(StorageError, match="read-only"):
        write_atomic(small_disk / "record.json", "{}")
