"""Captions that the user has, and the file format of all captions."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.captioners.from_file import FromFile, FromFileOptions
from ddbench_plugins.captioners.metadata import StoredTexts, read_metadata, write_metadata

import ddbench
from ddbench.options import Resolved


def split_of(*ids: str) -> ddbench.Split:
    images = np.zeros((len(ids), 8, 8, 1), np.uint8)
    return ddbench.Split(ddbench.ArrayImages(images), np.zeros(len(ids), np.int64), ids)


def captions(ctx, path, *ids):
    mine = replace(ctx, resolved=Resolved(FromFileOptions(path=str(path))))
    return FromFile().caption(mine, split_of(*ids), ["x"], 8)


def test_round_trip(tmp_path):
    path = tmp_path / "metadata.jsonl"
    write_metadata(path, ["a.png", "b.png"], ['a "quoted" dog', "ein grüner Fisch"])
    assert read_metadata(path) == [("a.png", 'a "quoted" dog'), ("b.png", "ein grüner Fisch")]


def test_what_is_no_caption_is_named_by_its_line(tmp_path):
    path = tmp_path / "metadata.jsonl"
    write_metadata(path, ["a", "b"], ["one", "two"])
    path.write_text(path.read_text()[:-5])
    with pytest.raises(ddbench.DataError, match=r"Line 2 of metadata\.jsonl"):
        read_metadata(path)


def test_stored_captions_are_read_one_by_one(tmp_path):
    path, texts = tmp_path / "metadata.jsonl", ["one", "zwölf\u2028Fische", "", "three"]
    write_metadata(path, ["a", "b", "c", "d"], (text for text in texts))
    stored = copy(StoredTexts(path))
    assert len(stored) == 4 and list(stored) == texts
    assert [stored[index] for index in (3, 1, np.int64(0), -1)] == ["three", texts[1], "one", "three"]
    assert stored[1:3] == texts[1:3]
    with pytest.raises(IndexError):
        stored[4]
    with pytest.raises(ValueError, match="shorter"):
        write_metadata(path, ["a", "b"], ["one"])
    assert list(stored) == texts  # the old file stays where the new one cannot be finished


def test_found_by_name_last_part_or_stem(ctx, tmp_path):
    write_metadata(tmp_path / "metadata.jsonl", ["n01/1.JPEG", "n02/2.JPEG", "00003"], ["one", "two", "three"])
    assert captions(ctx, tmp_path, "00003", "n01/1.JPEG", "2.JPEG", "elsewhere/2.png") == ["three", "one", "two", "two"]


def test_a_name_of_two_captions_is_no_match(ctx, tmp_path):
    write_metadata(tmp_path / "metadata.jsonl", ["n01/1.png", "n02/1.png"], ["one", "two"])
    assert captions(ctx, tmp_path, "n02/1.png") == ["two"]
    with pytest.raises(ddbench.DataError, match=r"'1.png' and 0 other"):
        captions(ctx, tmp_path, "1.png")


def test_missing_captions_are_counted_and_the_first_is_named(ctx, tmp_path):
    write_metadata(tmp_path / "metadata.jsonl", ["b"], ["x"])
    with pytest.raises(ddbench.DataError, match=r"no caption for 'a' and 1 other images of 3 .*'b'"):
        captions(ctx, tmp_path, "a", "b", "c")


def test_identity_is_the_content_not_the_path(ctx, tmp_path):
    found = []
    for name, text in (("one", "x"), ("two", "x"), ("three", "y")):
        path = tmp_path / f"{name}.jsonl"
        write_metadata(path, ["a"], [text])
        found.append(FromFile().identity(replace(ctx, resolved=Resolved(FromFileOptions(path=str(path))))))
    assert found[0] == found[1] != found[2]


def test_no_path_and_no_file(ctx, tmp_path):
    with pytest.raises(ddbench.UsageError, match="needs a path"):
        captions(ctx, "", "a")
    with pytest.raises(ddbench.DataError, match="no captions in"):
        captions(ctx, tmp_path, "a")
