"""What a killed command leaves of a folder it was to write, and that the same command then ends well."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from killed import kill_points, run
from records import make

import ddbench
from ddbench.errors import UsageError
from ddbench.files.folders import UNFINISHED, whole_folder
from ddbench.results import exchange

PLUGIN = Path(__file__).parents[1] / "toy_plugin.py"


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def held(work, place, made, *, home=None, step=1):
    """Kill at every change; each time the folder is whole or absent, and the same command makes the whole one."""
    foreign = place / "mine.txt"
    work()
    whole = content(made)
    kills = 0
    shutil.rmtree(made)
    foreign.write_text("mine")
    for _ in kill_points(work, place.parent, step):
        assert not made.exists() or content(made) == whole
        assert run(work, place) == 0
        assert content(made) == whole
        assert sorted(path.name for path in made.parent.iterdir()) == sorted({made.name, foreign.name})
        assert foreign.read_text() == "mine"
        shutil.rmtree(made)
        if home:
            shutil.rmtree(home)
        kills += 1
    return kills


@pytest.fixture
def place(tmp_path):
    """A folder for the result, beside which a user keeps a file."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


#: Every seventh call, or every call.
STEPS = [7, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("step", STEPS)
def test_distill(place, tmp_path, step):
    def work():
        ddbench.distill("toy", dataset="toy", ipc=2, plugins=[PLUGIN], out=place)

    assert held(work, place, place / "toy-toy-ipc2-seed0", home=tmp_path / "home", step=step) * step > 20


@pytest.mark.parametrize("step", STEPS)
def test_import(place, tmp_path, step):
    ddbench.load_dataset("digits")
    images = np.random.default_rng(0).random((10, 16, 16, 1)).astype(np.float32)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(10))

    def work():
        ddbench.import_set(tmp_path / "set.npz", "theirs", dataset="digits", out=place, space="pixel01")

    assert held(work, place, place / "digits-theirs-ipc1-seed0", home=tmp_path / "home", step=step) * step > 10


def test_export(place):
    found = [make("random"), make("vlcp")]
    assert held(lambda: exchange.to_folder(found, place), place, place / "results") > 5


def test_a_folder_being_written_is_left_alone(place):
    with whole_folder(place / "set") as mine:
        (mine / "a").write_text("1")
        assert run(lambda: _write(place / "set", "2"), place) == 0
        assert mine.exists()
        with pytest.raises(UsageError, match="exists already"), whole_folder(place / "set") as other:
            (other / "a").write_text("3")
        shutil.rmtree(place / "set")
    assert content(place) == {Path("set/a"): b"1"}


def test_an_error_leaves_nothing(place):
    with pytest.raises(ZeroDivisionError), whole_folder(place / "set") as mine:
        (mine / "a").write_text("1")
        raise ZeroDivisionError
    assert not list(place.iterdir())


def test_folders_of_others_are_not_cleared(place):
    (place / f"{UNFINISHED}mine").mkdir()
    _write(place / "set", "1")
    assert (place / f"{UNFINISHED}mine").is_dir()


def _write(folder, text):
    with whole_folder(folder) as partial:
        (partial / "a").write_text(text)
