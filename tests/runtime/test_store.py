from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import pickle
import subprocess
import threading
from pathlib import Path

import pytest

from ddbench.errors import DataError, StorageError
from ddbench.files import locks
from ddbench.files import writing as writing_module
from ddbench.files.writing import check_writable, explained, write_atomic
from ddbench.runtime import store as store_module
from ddbench.runtime import uses
from ddbench.runtime.store import MARKER, Store


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
    assert not list(done.dir.glob("checkpoint*"))


def _damage(path, place):
    content = bytearray(path.read_bytes())
    if place == "empty":
        content.clear()
    elif place == "cut":
        del content[len(content) // 2 :]
    elif place == "longer":
        content += b"0"
    elif place == "page of zeros":
        content[len(content) // 2 : len(content) // 2 + 512] = bytes(512)
    else:
        content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("place", ["empty", "cut", "longer", "page of zeros", *(n / 16 for n in range(17))])
def test_no_damaged_checkpoint_is_resumed(tmp_path, place):
    torch = pytest.importorskip("torch")
    told, loaded = [], []

    def build(step):
        loaded.append(step.load())
        if len(loaded) == 1:
            step.save({"epoch": 3, "weights": torch.arange(1000.0)})
            _damage(step.checkpoints()[0][2], place)
            raise KeyboardInterrupt

    store = Store(tmp_path, told.append)
    with pytest.raises(KeyboardInterrupt):
        store.build("train", {}, build)
    store.build("train", {}, build)
    assert loaded == [None, None]
    assert len(told) == 1 and "checkpoint of train" in told[0] and "damaged" in told[0]


def test_the_last_of_two_good_checkpoints_counts(tmp_path):
    pytest.importorskip("torch")

    def build(step):
        step.save({"epoch": 1})
        first = step.checkpoints()[0][2]
        kept = first.read_bytes()
        step.save({"epoch": 2})
        first.write_bytes(kept)  # killed before it was removed
        assert step.load()["epoch"] == 2
        _damage(step.checkpoints()[0][2], "cut")
        assert step.load()["epoch"] == 1
        (step.dir / "checkpoint.tmp").write_bytes(b"killed while it was written")
        step.save({"epoch": 4})
        assert [number for number, _, _ in step.checkpoints()] == [3] and step.load()["epoch"] == 4

    assert [path.name for path in Store(tmp_path).build("train", {}, build).dir.iterdir()] == [MARKER]


def test_a_checkpoint_with_foreign_objects_is_refused(tmp_path):
    torch = pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    def build(step):
        torch.save({"state": Evil()}, step.dir / "x")
        name = hashlib.sha256((step.dir / "x").read_bytes()).hexdigest()
        (step.dir / "x").rename(step.dir / f"checkpoint-1-{name}.pt")
        with pytest.raises(pickle.UnpicklingError):
            step.load()

    Store(tmp_path).build("train", {}, build)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("place", ["empty", "cut", "longer", 0.0, 1.0])
def test_a_damaged_file_of_a_finished_step_is_named(tmp_path, monkeypatch, place, large):
    if large:
        monkeypatch.setattr(store_module, "WHOLE", 100)
        monkeypatch.setattr(store_module, "ENDS", 50)

    def build(step):
        (step.dir / "sub").mkdir()
        (step.dir / "sub" / "weights").write_bytes(bytes(range(200)))

    done = Store(tmp_path).build("a", {}, build)
    assert Store(tmp_path).get("a", {}).key == done.key
    _damage(done.dir / "sub" / "weights", place)
    for again in (lambda store: store.get("a", {}), lambda store: store.build("a", {}, build)):
        with pytest.raises(DataError, match=r"sub/weights is damaged"):
            again(Store(tmp_path))
    (done.dir / "sub" / "weights").unlink()
    with pytest.raises(DataError, match=r"sub/weights is damaged"):
        Store(tmp_path).get("a", {})


def test_whoever_waits_for_a_step_is_told_for_whom(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    told, begun = [], threading.Event()
    wait = threading.Event()

    def slow(step):
        begun.set()
        wait.wait(30)

    def tell(message):
        told.append(message)
        wait.set()

    worker = threading.Thread(target=lambda: Store(tmp_path).build("a", {}, slow))
    worker.start()
    begun.wait(30)
    Store(tmp_path, tell).build("a", {}, lambda step: pytest.fail("built twice"))
    worker.join()
    assert f"step a: process {os.getpid()} on " in told[0] and "waiting" in told[0]


@pytest.mark.parametrize("failing", ["write", "fsync", "close"])
def test_a_full_disk_is_explained_whenever_it_shows(tmp_path, monkeypatch, failing):
    path = tmp_path / "small.json"
    path.write_text("old")
    full = OSError(errno.ENOSPC, "No space left on device")

    class Full(io.FileIO):
        def write(self, data):
            if failing == "write":
                raise full
            return super().write(data)

    def fsync(handle):
        if failing == "fsync":
            raise full

    def close(self):
        io.FileIO.close(self)
        if failing == "close":
            raise full

    monkeypatch.setattr(writing_module.os, "fdopen", lambda handle, mode, buffering: Full(handle, mode))
    monkeypatch.setattr(writing_module.os, "fsync", fsync)
    monkeypatch.setattr(Full, "close", close, raising=False)
    with pytest.raises(StorageError, match="the disk is full"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and [each.name for each in tmp_path.iterdir()] == ["small.json"]


@pytest.mark.parametrize("room", [0, 500, 1000, 5000, 60_000, 79_000])
def test_a_disk_that_fills_within_a_checkpoint_is_explained_and_the_last_one_stays(tmp_path, monkeypatch, room):
    torch = pytest.importorskip("torch")
    state = {"weights": torch.arange(20_000.0)}

    class Short:
        def __init__(self, file):
            self.file, self.left, self.flush = file, room, file.flush

        def write(self, data):
            self.left -= memoryview(data).nbytes
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    def build(step):
        step.save({"epoch": 1})
        begin = store_module._Digesting.__init__
        with monkeypatch.context() as full:
            full.setattr(store_module._Digesting, "__init__", lambda self, file: begin(self, Short(file)))
            with pytest.raises(StorageError, match="the disk is full"):
                step.save(state)
        assert step.load() == {"epoch": 1} and not (step.dir / "checkpoint.tmp").exists()
        (step.dir / "checkpoint.pt").write_bytes(b"of a former release")

    assert [path.name for path in Store(tmp_path).build("train", {}, build).dir.iterdir()] == [MARKER]


def test_a_read_only_folder_is_found_before_any_work(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "registry")
    assert list(tmp_path.iterdir()) == []  # nothing is made before there is something to write
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="part of that path is a file"):
        check_writable(tmp_path / "file" / "registry")
    monkeypatch.chdir(tmp_path)

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "registry" / ".x"))

    monkeypatch.setattr(writing_module.tempfile, "mkstemp", refuse)
    with pytest.raises(StorageError, match="read-only"):
        check_writable(Path("registry"))


def test_a_damaged_marker_is_named(tmp_path):
    store = Store(tmp_path)
    done = store.build("a", {}, _count)
    (done.dir / MARKER).write_text("{")
    with pytest.raises(DataError, match=MARKER):
        store.get("a", {})


def test_a_marker_with_other_figures_is_not_believed(tmp_path):
    def build(step):
        step.info.update(accuracy=0.5, curve={1: 0.5, 10: 0.25, 2: float("inf")}, name="ä")

    done = Store(tmp_path).build("a", {}, build)
    assert Store(tmp_path).get("a", {}).info == done.info and done.info["accuracy"] == 0.5
    (done.dir / MARKER).write_text((done.dir / MARKER).read_text().replace("0.25", "0.75"))
    with pytest.raises(DataError, match=rf"{MARKER} is damaged: it is not what was written"):
        Store(tmp_path).get("a", {})
    assert not list(Store(tmp_path).finished("a"))


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
    uses.end()
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
