"""A distilled set on disk whose description is not what it should be: always exit 8, with the field named."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.errors import RecordError
from ddbench.sets import folder as distilled
from ddbench.sets import importing
from ddbench.testing.toy import toy_dataset

DATA = toy_dataset()
METHOD = {"name": "first", "version": 1, "options": {}, "explicit": {}}


@pytest.fixture(params=["rgb_uint8", "unit"])
def folder(tmp_path, request):
    """A set of one image per class, in both ways of storing pixels, with everything a set may have."""
    rows = [int(DATA.train.of_class(label)[0]) for label in range(3)]
    images = DATA.train.images.batch(rows, DATA.image_size)
    content = ddbench.DistilledSet(
        images if request.param == "rgb_uint8" else (images / 255).astype(np.float32),
        DATA.train.labels[rows],
        space=request.param,
        prompts=("a", "b", "c"),
        source_ids=tuple(DATA.train.ids[row] for row in rows),
        soft_labels=np.full((3, 3), 1 / 3, np.float32),
        learning_rate=0.1,
    )
    distilled.save(tmp_path / "set", content, DATA, {"method": METHOD, "ipc": 1, "seed": 0, "shrunk": [["a", 2, 1]]})
    return tmp_path / "set"


def change(folder, *place, value=None, drop=False):
    about = json.loads((folder / distilled.FILE).read_text())
    table = about
    for key in place[:-1]:
        table = table[key]
    if drop:
        del table[place[-1]]
    else:
        table[place[-1]] = value
    (folder / distilled.FILE).write_text(json.dumps(about))


def refused(folder, words=None):
    for read in (distilled.load, lambda path: importing.read_set(path, DATA)):
        with pytest.raises(RecordError, match=words):
            read(folder)
    assert distilled.summary(folder) in ({}, {"method": "first", "ipc": 1, "seed": 0})
    assert distilled.dataset_name(folder) in ("", DATA.name)


def test_the_set_itself_is_good(folder):
    assert distilled.load(folder).about["method"] == METHOD
    assert importing.read_set(folder, DATA).shrunk == (("a", 2, 1),)


FIELDS = [
    "format", "digest", "dataset", "space", "shape", "labels", "files", "source_ids", "prompts", "learning_rate",
    "whole", "bytes", "extra", "method", "ipc", "seed",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(folder, field):
    change(folder, field, drop=True)
    refused(folder, field)


@pytest.mark.parametrize("value", [True, 7.5, -1, "text", {"a": 1}, [None], [["x"]], [1, 2]])
@pytest.mark.parametrize("field", [*FIELDS, "shrunk"])
def test_a_field_of_another_type_is_refused(folder, field, value):
    """Some values are of the right type; the set is then another one, or the same."""
    change(folder, field, value=value)
    fits = (field, type(value)) in {("extra", dict), ("seed", int), ("learning_rate", float)}
    if fits and field != "learning_rate":
        distilled.load(folder)
    else:
        refused(folder)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("dataset", "class_ids"), "abc", "dataset.class_ids"),
        (("dataset", "class_ids"), ["a", "a", "b"], "ids twice"),
        (("dataset", "class_names"), ["a"], "1 class names for 3 class ids"),
        (("dataset", "name"), None, "dataset.name"),
        (("method", "name"), 3, "method.name"),
        (("method", "options"), [], "method.options"),
        (("bytes", "images"), "many", "bytes"),
        (("shape",), [3, 8, 8], "shape"),
        (("shape",), [10**12, 8, 8, 1], "labels for 1000000000000 images"),
        (("shape",), [3, 10**6, 10**6, 1], "pixels instead of|instead of float32"),
        (("labels",), [0, 1], "2 labels for 3 images"),
        (("labels",), [0, 1, 2 * 10**9], "the label 2000000000, but 3 classes"),
        (("prompts",), ["a"], "1 prompts for 3 images"),
        (("source_ids",), [1, 2, 3], "source_ids"),
        (("ipc",), 2, "its IPC, 2"),
        (("learning_rate",), 0.0, "learning_rate"),
        (("seed",), 1.5, "seed"),
    ],
)
def test_what_cannot_be_is_named(folder, place, value, words):
    change(folder, *place, value=value)
    refused(folder, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("null", "NoneType"),
        ("[" * 100_000, "damaged"),
        ("version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ('{"format": 1, "extra": {"a": "\\ud83d"}}', "damaged"),
    ],
)
def test_what_is_no_description_is_refused(folder, text, words):
    (folder / distilled.FILE).write_text(text)
    refused(folder, words)


@pytest.mark.parametrize("name", ["distilled.json", "tensors.safetensors", "picture"])
def test_pipes_and_devices_are_refused_at_once(folder, name):
    path = next(folder.rglob("*.png"), None) if name == "picture" else folder / name
    if path is None:
        return  # floats are no pictures
    path.unlink()
    os.mkfifo(path)
    refused(folder, "pipe or a device")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(folder, "pipe or a device")


def test_real_valued_labels_are_declared_in_a_format_of_their_own(folder, tmp_path):
    plain = distilled.load(folder).distilled
    about = {"method": METHOD, "ipc": 1, "seed": 0, "shrunk": []}
    labels = np.array([[3, -1, 0], [0, 0, 0], [-0.1, 0.2, 9]], np.float32)
    content = replace(plain, soft_labels=labels, label_kind="centred")
    assert distilled.save(tmp_path / "real", content, DATA, about)["format"] == 2
    assert distilled.FORMAT == distilled.load(folder).about["format"] == 1
    loaded = distilled.load(tmp_path / "real").distilled
    assert loaded.label_kind == "centred"
    assert (loaded.soft_labels == labels).all()
    assert distilled.content_digest(content) != distilled.content_digest(replace(content, label_kind="probabilities"))
    assert importing.read_set(tmp_path / "real", DATA).content.label_kind == "centred"
    change(tmp_path / "real", "format", value=1)
    refused(tmp_path / "real", "format 1 with what format 2 holds")


def test_tensors_and_pictures_are_what_the_description_says(folder):
    from safetensors.numpy import load_file, save_file

    path = folder / "tensors.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "soft_labels": np.zeros((3, 2), np.float32)}, path)
    refused(folder, "soft labels")
    path.write_bytes(path.read_bytes()[:20])
    refused(folder, "cannot be read")
    save_file({"other": np.zeros(1)}, path)
    refused(folder)
