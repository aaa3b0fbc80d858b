"""Captions that the user has, and the file format of all captions."""

from __future__ import annotations

import os
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.captioners.from_file import FromFile, FromFileOptions
from ddbench_plugins.captioners.metadata import StoredTexts, read_metadata, write_metadata
from ddbench_plugins.diffusion.captions import caption_training_images

import ddbench
from ddbench.plugin.manager import Entry, Owner
from ddbench.plugin.options import Resolved
from ddbench.runtime.progress import Reporter


class Log(Reporter):
    def __init__(self):
        super().__init__()
        self.lines = []

    def log(self, message):
        self.lines.append(message)

    warn = log


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


def test_found_by_whole_name_or_by_a_file_name_that_one_image_has(ctx, tmp_path):
    write_metadata(
        tmp_path / "metadata.jsonl", ["n01/1.JPEG", "./n02/2", "00003", "4.png"], ["one", "two", "three", "4"]
    )
    ids = ("00003", "n01/1.JPEG", "n02/2.png", "elsewhere/4.png")
    log = Log()
    assert captions(replace(ctx, reporter=log), tmp_path, *ids) == ["three", "one", "two", "4"]
    assert (
        "2 by their whole name, 1 by their whole name without the extension, 1 by their file name alone" in log.lines[0]
    )


def test_a_caption_of_another_folder_is_never_taken(ctx, tmp_path):
    write_metadata(tmp_path / "metadata.jsonl", ["cat/0.png", "cat/1.png"], ["a kitten", "a tabby"])
    with pytest.raises(ddbench.DataError, match=r"no caption for 'dog/0.png' and 1 other"):
        captions(ctx, tmp_path, "cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
    with pytest.raises(ddbench.DataError, match=r"no caption for '0.png'"):
        captions(ctx, tmp_path, "0.png", "1.png")


@pytest.mark.parametrize("lines", [["0.png"], ["0"]])
def test_a_file_name_of_two_images_is_no_match(ctx, tmp_path, lines):
    write_metadata(tmp_path / "metadata.jsonl", lines, ["a kitten"])
    with pytest.raises(ddbench.DataError, match=r"no caption for 'cat/0.png' and 1 other"):
        captions(ctx, tmp_path, "cat/0.png", "dog/0.png")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"file_name": "a", "text": "nice \\ud83d thing"}\n', r"Line 1 of .* has half a character in its text"),
        (b'{"file_name": "a", "text": "x"}\n{"file_name": "\\ude00", "text": "x"}\n', r"Line 2 .* in its file_name"),
        (b'{"file_name": "a", "text": " "}\n', r"Line 1 of metadata\.jsonl has an empty caption"),
        (b'{"file_name": "", "text": "x"}\n', r"Line 1 .* empty file_name"),
        ('{"file_name": "a", "text": "schön"}'.encode("latin-1"), r"Line 1 .* is not a caption in UTF-8"),
        ('{"file_name": "a", "text": "x"}'.encode("utf-16"), r"UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>sign in</html>", "web page"),
        (b"", "is empty"),
        (b'{"file_name": "a", "text": ' + b"[" * 100_000, "Line 1"),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_captions(ctx, tmp_path, content, reason):
    (tmp_path / "metadata.jsonl").write_bytes(content)
    with pytest.raises(ddbench.DataError, match=reason):
        captions(ctx, tmp_path, "a")


def test_a_byte_order_mark_is_skipped(ctx, tmp_path):
    write_metadata(tmp_path / "metadata.jsonl", ["a", "b"], ["one", "two"])
    path = tmp_path / "metadata.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert captions(ctx, tmp_path, "a", "b") == ["one", "two"]
    assert list(StoredTexts(path)) == ["one", "two"] and StoredTexts(path)[0] == "one"


def test_a_pipe_is_refused_at_once(ctx, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ddbench.DataError, match="pipe or a device"):
        captions(ctx, tmp_path / "pipe", "a")


@pytest.mark.parametrize(
    ("texts", "message"),
    [(("a \ud83d", "b"), "Captioner says returned half a character .* image '00000'"), (("a",), "1 captions")],
)  # fmt: skip
def test_a_captioner_that_breaks_its_contract_is_named(ctx, digits, texts, message):
    with pytest.raises(ddbench.PluginError, match=message):
        said(ctx, digits, texts, 2)


def test_empty_captions_are_told(ctx, digits):
    log = Log()
    said(replace(ctx, reporter=log), digits, ("a", " ", ""), 3)
    assert any("nothing to say of 2 of 3 images, the first of which is '00001'" in line for line in log.lines)


def said(ctx, digits, words, count):
    """Caption the first images of digits with a captioner that returns these texts."""
    split = replace(digits.train, images=ddbench.ArrayImages(digits.arrays("train")[0][:count]))
    split = replace(split, labels=digits.train.labels[:count], ids=tuple(f"{i:05d}" for i in range(count)))

    class Says(ddbench.Captioner):
        def caption(self, ctx, split, class_names, size):
            return words

    entry = Entry(ddbench.CaptionerSpec("says", Says), Owner("test", "file"))
    plugins = replace(ctx.plugins, entries=ctx.plugins.entries | {"captioner": {"says": entry}})
    return caption_training_images(replace(ctx, plugins=plugins, _dataset=replace(digits, train=split)), "says")


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
