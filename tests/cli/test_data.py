"""`ddbench data`: list, check, prepare; with a plugin that says nothing of its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ddbench.cli import group

SHAPES = Path(__file__).parents[2] / "docs" / "examples" / "shapes.py"


@pytest.fixture
def call(monkeypatch, tmp_path):
    monkeypatch.setenv("DDBENCH_DATA", str(tmp_path / "data"))

    def call(*arguments):
        done = CliRunner().invoke(group, ["data", *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return call


@pytest.fixture
def pets(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for number in range(5):
            path = tmp_path / "data" / "pets" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return "folder:pets"


def test_list_says_what_is_there_and_loads_nothing(call, tmp_path):
    for split, count in (("train", 20), ("test", 10)):
        (tmp_path / "data").mkdir(exist_ok=True)
        images = np.zeros((count, 32, 32, 3), np.uint8)
        np.savez(tmp_path / "data" / f"cifar10_{split}.npz", images=images, labels=np.arange(count) % 10)
    shown = call("list", "--plugin", str(SHAPES)).stdout
    lines = {line.split()[0]: line for line in shown.splitlines()}
    assert "there" in lines["cifar10"] and "cifar10_train.npz" in lines["cifar10"]
    assert "there" in lines["digits"]
    assert lines["imagenet-1k"].split() == ["imagenet-1k", "missing"]
    assert shown.count("data check") == 1
    assert "?" in lines["shapes"]
    assert not [name for name in lines if name.endswith(":")]


def test_check_says_how_to_get_what_is_missing(call, tmp_path):
    done = call("check", "imagewoof", "digits")
    assert done.exit_code == 4
    assert "imagewoof2-320.tgz" in done.stdout and str(tmp_path / "data" / "imagenet") in done.stdout
    assert "1,437 images" in done.stdout  # the others are still checked
    assert max(map(len, done.stdout.split("Looked in:")[0].splitlines())) < 300  # lines, not a paragraph


def test_check_describes_what_is_there(call, pets):
    done = call("check", pets, "-o", "data.test_fraction=0.4")
    assert done.exit_code == 0, done.output
    assert "2, in this order: cat (cat), dog (dog)" in done.stdout
    assert "6 images, 3 per class" in done.stdout and "8×8×3" in done.stdout
    assert "shapes" in call("check", "shapes", "--plugin", str(SHAPES)).stdout


def test_a_broken_one_does_not_hide_the_others(call, pets, tmp_path):
    (tmp_path / "data" / "pets" / "dog" / "3.png").write_bytes(b"no picture")
    done = call("check", pets, "digits")
    assert done.exit_code == 4
    assert "broken       folder:pets" in done.stdout and "3.png" in done.stdout
    assert "1,437 images" in done.stdout


def test_prepare_decodes_once(call, pets, tmp_path, monkeypatch):
    shown = call("prepare", pets, "--size", "8,16").stdout
    assert "10 images at 16×16: 0.0 MB in" in shown and "ready after" in shown
    assert len(list((tmp_path / "home" / "images").glob("*/images.npy"))) == 4  # two splits at two sizes
    monkeypatch.setattr("ddbench.FileImages.load", lambda *a: pytest.fail("decoded again"))
    call("prepare", pets, "--size", "16")
    assert "nothing to decode" in call("prepare", "digits").stdout


def test_a_side_of_nothing_is_refused(call, pets):
    for sides in ("8,0", "8,2049", "1000000000"):
        assert "--size" in call("prepare", pets, "--size", sides).output


def test_a_disk_without_room_is_said_before(call, pets, monkeypatch):
    from ddbench_plugins.datasets import trees

    from ddbench.errors import StorageError

    call("check", pets)
    monkeypatch.setattr(trees.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    monkeypatch.setattr(trees, "ARRAY_LIMIT", 1)
    with pytest.raises(StorageError, match=r"takes 0.0 GB; 0.0 GB are free"):
        call("prepare", pets, "--size", "16")
