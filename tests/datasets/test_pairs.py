"""Images with captions as users have them: lists of Karpathy, BLIP and COCO, and folders with metadata.jsonl."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.captioners.from_file import FromFile, FromFileOptions
from ddbench_plugins.datasets.captioned import Row, read_pairs
from PIL import Image

import ddbench
from ddbench.experiment.pipeline import load_dataset
from ddbench.plugin.options import Resolved
from ddbench.testing.conformance import check_dataset

NAMES = {"train": ["a.png", "b.png"], "test": ["c.png", "d.png"]}


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name in NAMES["train"] + NAMES["test"]:
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def _write(path, content):
    path.write_text(json.dumps(content))
    return path


def karpathy(folder):
    sentences = [{"raw": "A Dog.\n", "tokens": ["a", "dog"]}, {"raw": "A cat, too."}]
    split = {"a.png": "train", "b.png": "restval", "c.png": "test", "d.png": "test", "e.png": "val"}
    rows = [{"filename": name, "split": part, "sentences": sentences} for name, part in split.items()]
    return _write(folder / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": rows})


def blip(folder):
    rows = [
        {"image": name, "caption": text, "image_id": 1} for name in NAMES["train"] for text in ("A Dog.", "A cat, too.")
    ]
    _write(
        folder / "flickr30k_test.json",
        [{"image": name, "caption": ["A Dog.", "A cat, too."]} for name in NAMES["test"]],
    )
    return _write(folder / "flickr30k_train.json", rows)


def coco(folder):
    for part, other in (("train", "train"), ("test", "val")):
        listed = [{"id": 7 + place, "file_name": name} for place, name in enumerate(NAMES[part])]
        said = [{"image_id": each["id"], "caption": text} for each in listed for text in ("A Dog.", "A cat, too.")]
        _write(folder / f"captions_{other}2014.json", {"images": listed, "annotations": said})
    return folder / "captions_train2014.json"


@pytest.mark.parametrize("make", [karpathy, blip, coco])
def test_lists_of_all_kinds_are_the_same_data_set_and_captions(ctx, images, make):
    path = make(images)
    rows = [row for row in read_pairs(path) if row.split in NAMES]
    assert rows == [Row(part, name, ("A Dog.", "A cat, too.")) for part, names in NAMES.items() for name in names]
    data = load_dataset(replace(ctx, explicit={"dataset": {"size": "8"}}), f"pairs:{path}")
    assert (data.num_classes, data.train.ids, data.test.ids) == (1, ("a.png", "b.png"), ("c.png", "d.png"))
    mine = replace(ctx, resolved=Resolved(FromFileOptions(path=str(path))))
    assert FromFile().caption(mine, data.test, ["image"], 8) == ["A Dog.\nA cat, too."] * 2
    assert FromFile().identity(mine)["path"] == ddbench.digest([list(row) for row in read_pairs(path)])


def test_folders_with_metadata_may_use_a_name_twice(ctx, images):
    for part, names in NAMES.items():
        (images / part).mkdir()
        lines = []
        for place, name in enumerate(names):
            (images / name).rename(images / part / f"{place}.png")
            lines.append(json.dumps({"file_name": f"{place}.png", "text": f"{part} {place}"}))
        (images / part / "metadata.jsonl").write_text("\n".join(lines))
    data = load_dataset(ctx, f"pairs:{images}")
    assert data.train.ids == ("train/0.png", "train/1.png") and data.test.ids == ("test/0.png", "test/1.png")
    mine = replace(ctx, resolved=Resolved(FromFileOptions(path=str(images))))
    assert FromFile().caption(mine, data.test, ["image"], 8) == ["test 0", "test 1"]


def test_it_keeps_the_contract_of_data_sets(ctx, images):
    spec = ddbench.DatasetSpec("pairs:", "ddbench_plugins.datasets.pairs:Pairs")
    assert check_dataset(spec, str(karpathy(images)), options={"size": 8}).name == "pairs:dataset_flickr30k"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [{"filename": "../a.png", "split": "train", "sentences": [{"raw": "x"}]}]}, "lists the image"),
        ({"images": [{"filename": "a.png", "split": "train", "sentences": [{"raw": " "}]}]}, "lists the image"),
        ({"images": [{"filename": "a.png"}]}, "no list of images with captions"),
        ({"images": [{"filename": "a.png", "split": "train", "sentences": [{"raw": "x"}]}]}, "has no test images"),
        ([{"image": "z.png", "caption": "x"}], "the image z.png is not there"),
        ([], "lists no image"),
    ],
)
def test_what_is_no_list_is_named(ctx, images, content, message):
    with pytest.raises(ddbench.DataError, match=message):
        load_dataset(ctx, f"pairs:{_write(images / 'list.json', content)}")
