"""Repositories, cards, parquet files, archives that are not what they seem: one clear line, nothing else touched."""

from __future__ import annotations

import functools
import io
import json
import random
import struct
import tempfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from repositories import NUMBERS, archive, encoded, images, parquet, table, tree

import ddbench
from ddbench.errors import DDBenchError
from ddbench.sets import archives, repository
from ddbench.sets import parquet as parquets

pa = pytest.importorskip("pyarrow")
LABELS = np.repeat(np.arange(10), 2)
PICTURES = images(20)


def picture(mode="L", size=(8, 8), kind="PNG"):
    data = io.BytesIO()
    Image.new(mode, size).save(data, kind)
    return data.getvalue()


def png_of(width, height):
    """A PNG that claims a size and holds nothing."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def first(value, rest=PICTURES):
    """The pictures with another first one."""
    return [value, *rest[1:]]


def rows(*arguments, **how):
    return lambda folder: parquet(folder / "set.parquet", *arguments, **how)


def good(**how):
    return table(PICTURES, LABELS, **{"names": NUMBERS, **how})


def metadata(text):
    return rows(good().replace_schema_metadata({"huggingface": text}))


def raw(data, name="set.parquet"):
    def write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data())
        return folder / name

    return write


def cut(share):
    def write(folder):
        path = parquet(folder / "set.parquet", good())
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        return path

    return write


def flipped(folder):
    """One byte of the footer changed."""
    path = parquet(folder / "set.parquet", good())
    data = bytearray(path.read_bytes())
    data[-40] ^= 0xFF
    data[-60] ^= 0xFF
    path.write_bytes(bytes(data))
    return path


def claimed_rows(folder):
    """A few bytes that claim three million images."""
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3_000_000, np.int32)), pa.array([picture()]))
    labels = pa.array(np.zeros(3_000_000, np.int8))
    return parquet(folder / "set.parquet", pa.table({"image": one, "label": labels}))


def several(*tables, names=("0000.parquet", "0001.parquet")):
    def write(folder):
        for name, one in zip(names, tables, strict=True):
            parquet(folder / name, one)
        return folder

    return write


def pixels(values, **how):
    return rows(pa.table({"pixels": pa.array(values), "label": pa.array(LABELS[: len(values)])}), **how)


PARQUET = {
    "empty": (raw(b""), "is empty"),
    "no parquet": (raw(b"PAR1 nothing of the kind PAR1"), "is no readable parquet file"),
    "noise": (raw(b"PAR1" + bytes(range(256)) * 8 + b"PAR1"), "is no readable parquet file"),
    "web page": (raw(b"<!DOCTYPE html><html>Sign in</html>"), "is a web page"),
    "pointer": (raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), "is a Git LFS pointer"),
    "cut in half": (cut(0.5), "is no readable parquet file"),
    "cut at the end": (cut(0.99), "is no readable parquet file"),
    "damaged footer": (flipped, "is no readable parquet file"),
    "no rows": (rows(good().slice(0, 0)), "has 0 rows"),
    "too many rows": (claimed_rows, "has 3,000,000 rows"),
    "no image": (rows(good().drop_columns(["image"])), "has no columns of images"),
    "no label": (rows(good().drop_columns(["label"])), "has no columns of labels"),
    "two images": (rows(good(names=None, img=[picture()] * 20)), "has 2 columns of images"),
    "two labels": (rows(good(names=None, class_id=LABELS)), "has 2 columns of labels"),
    "one name twice": (rows(good().append_column("label", pa.array(LABELS))), "has two columns 'label'"),
    "fractions": (rows(PICTURES, LABELS + 0.5), "has labels of type float"),
    "truth values": (rows(PICTURES, LABELS > 4), "has labels of type bool"),
    "missing labels": (rows(PICTURES, [None, *LABELS[1:].tolist()]), "has labels of type NoneType, int"),
    "mixed labels": (rows(PICTURES, [[label] for label in LABELS]), "has labels of type list"),
    "label −1": (rows(PICTURES, [-1, *LABELS[1:]], names=NUMBERS), "has the label number"),
    "label beyond the names": (rows(PICTURES, LABELS + 3, names=NUMBERS), "has the label number"),
    "label beyond the classes": (rows(PICTURES, LABELS + 3), "has the label numbers 3 … 12"),
    "endless label": (rows(PICTURES, [1 << 40, *LABELS[1:]]), "has a label number"),
    "unequal classes": (rows(PICTURES[:19], LABELS[:19], names=NUMBERS), "has 1 to 2 images per class"),
    "a class of none": (rows(PICTURES[2:], LABELS[2:], names=NUMBERS), "has 0 to 2 images per class"),
    "two names of one class": (rows(PICTURES, [10, *LABELS[1:]], names=[*NUMBERS, "0000_1"]), "two names of one class"),
    "names alike": (rows(PICTURES, LABELS, names=[*NUMBERS[:9], "1"]), "names two classes alike"),
    "foreign names": (rows(PICTURES, LABELS, names=[*NUMBERS[:9], "dog"]), "has not: dog"),
    "foreign texts": (rows(PICTURES, [f"class of {label}" for label in LABELS]), "none of which is a class"),
    "a picture of none": (rows(first({"bytes": None, "path": None}), LABELS), "Image 0 of set.parquet is missing"),
    "an empty picture": (rows(first(b""), LABELS), "Image 0 of set.parquet is missing"),
    "a file in place of it": (rows(first({"bytes": None, "path": "/etc/passwd"}), LABELS), "names a file in place"),
    "no picture": (rows(first(b"not a picture"), LABELS), "Image 0 of set.parquet cannot be read"),
    "half a picture": (rows(first(picture("RGB", (64, 64))[:60]), LABELS), "Image 0 of set.parquet cannot be read"),
    "a GIF": (rows(first(picture(kind="GIF")), LABELS), "Image 0 of set.parquet cannot be read"),
    "a TIFF": (rows(first(picture(kind="TIFF")), LABELS), "Image 0 of set.parquet cannot be read"),
    "not square": (rows(first(picture(size=(8, 9))), LABELS), "has 8×9 pixels instead of square"),
    "huge": (rows(first(png_of(4000, 4000)), LABELS), "has 4000×4000 pixels"),
    "a bomb of pixels": (rows(first(png_of(60_000, 60_000)), LABELS), "Image 0 of set.parquet"),
    "another size": (rows([*PICTURES[:19], picture(size=(9, 9))], LABELS), "images of 8×8 and of 9×9 pixels"),
    "16 bits": (rows(first(picture("I;16")), LABELS), "more than 8 bits"),
    "transparent": (rows(first(picture("RGBA")), LABELS), "is transparent in places"),
    "colour": (rows(first(encoded(images(1, channels=3)[0])), LABELS), "is in colour"),
    "whole numbers as pictures": (
        rows(pa.table({"image": LABELS, "label": LABELS})),
        "Image 0 of set.parquet is missing",
    ),
    "metadata of no JSON": (metadata("{"), "metadata of the hub that is damaged"),
    "metadata without features": (metadata("{}"), "metadata of the hub that is damaged"),
    "metadata nested without end": (metadata("[" * 100_000), "metadata of the hub that is damaged"),
    "names that are no texts": (
        metadata(json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": [None]}}}})),
        "names of its classes are no texts",
    ),
    "no probabilities": (rows(good(soft_label=[[2.0] * 10] * 20)), "that are no probabilities"),
    "ragged soft labels": (rows(good(soft_label=[[1.0], *[[0.1] * 10] * 19])), "soft_label that is no row of numbers"),
    "soft labels of others": (rows(good(soft_label=[[0.5, 0.5]] * 20)), "has soft labels of 2 classes"),
    "prompts of none": (rows(good(prompt=[None, *["a"] * 19])), "a prompt that is no text"),
    "ragged pixels": (pixels([[[[1]], [[1], [2]]]] * 20), "is no array of numbers"),
    "pixels of one row": (pixels([[[[0.5], [0.5]]]] * 20), "instead of square ones"),
    "whole pixels beyond": (pixels([[[[300]]]] * 20), "whole numbers from 300 to 300"),
    "pixels of no space": (pixels([[[[0.5]]]] * 20), "does not state its pixel space"),
    "pixels of NaN": (pixels([[[[float("nan")]]]] * 20), "has NaN or infinite pixels"),
    "other columns in a part": (several(good(), good(names=None)), "has other columns than"),
    "a part missing": (
        several(good(), names=("train-00000-of-00002.parquet",)),
        "that are not the parts 0 … 1 of one set",
    ),
    "parts of two sets": (
        several(good(), good(), names=("train-00000-of-00002.parquet", "train-00001-of-00003.parquet")),
        "that are not the parts",
    ),
}


def entries(names=None):
    names = names or [f"{NUMBERS[label]}/{number}.png" for number, label in enumerate(LABELS)]
    return [(name, encoded(image)) for name, image in zip(names, PICTURES, strict=False)]


def packed(*more, **how):
    return lambda folder: archive(folder / "set.zip", [*entries(), *more], **how)


def link(kind, target="/etc/passwd"):
    info = zipfile.ZipInfo("1/link.png")
    info.external_attr = (kind | 0o777) << 16
    return info, target


def damaged(change):
    def write(folder):
        path = packed()(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return write


def marked(data, offset, value):
    """Change the flags or the method of the first entry, in the archive's list and before the entry itself."""
    changed = bytearray(data)
    for signature, place in ((b"PK\x03\x04", offset), (b"PK\x01\x02", offset + 2)):
        changed[data.index(signature) + place] = value
    return bytes(changed)


ARCHIVES = {
    "no archive": (raw(b"nothing", "set.zip"), "cannot be unpacked"),
    "empty archive": (raw(lambda: archive_bytes([]), "set.zip"), "holds no pictures"),
    "cut": (damaged(lambda data: data[: len(data) // 2]), "cannot be unpacked"),
    "damaged": (damaged(lambda data: data[:60] + b"\0" * 30 + data[90:]), "cannot be unpacked"),
    "above": (packed(("../evil.png", picture())), "is no place below it"),
    "above, further in": (packed(("1/../../evil.png", picture())), "is no place below it"),
    "absolute": (packed(("/tmp/evil.png", picture())), "is no place below it"),
    "backslashes": (packed(("1\\..\\evil.png", picture())), "is no place below it"),
    "a drive": (packed(("C:\\evil.png", picture())), "is no place below it"),
    "a name too long": (packed((f"1/{'x' * 300}.png", picture())), "is no place below it"),
    "control characters": (packed(("1/\x1b[2J.png", picture())), "is no place below it"),
    "a link": (packed(link(0o120000)), "has a link or a device"),
    "a device": (packed(link(0o020000)), "has a link or a device"),
    "a pipe": (packed(link(0o010000)), "has a link or a device"),
    "encrypted": (damaged(lambda data: marked(data, 6, 1)), "is encrypted"),
    "a compression nobody knows": (damaged(lambda data: marked(data, 8, 99)), "cannot be unpacked"),
    "one file twice": (packed(("1/0.png", picture())), "has two files 1/0.png"),
    "a file that is a folder": (packed(("1", picture()), ("1.png/x.png", picture()), ("1.png", picture())), None),
    "no pictures": (lambda folder: archive(folder / "set.zip", [("1/x.txt", b"x")]), "holds no pictures"),
    "text as picture": (packed(("1/99.png", b"no picture")), "cannot be read"),
    "a class too large": (packed(("1/99.png", picture())), "images per class"),
    "no class": (packed(("dog/0.png", picture()), ("dog/1.png", picture())), "folder 'dog' is no class"),
    "folders in classes": (packed(("1/more/0.png", picture())), "would be skipped"),
}


def archive_bytes(content):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as written:
        for name, text in content:
            written.writestr(name, text)
    return data.getvalue()


def carded(head, **how):
    """A repository with a set and a card."""

    def write(folder):
        parquet(folder / "data" / "train-00000-of-00001.parquet", good(**how))
        (folder / "README.md").write_bytes(head if isinstance(head, bytes) else f"---\n{head}\n---\nText.\n".encode())
        return folder

    return write


def labelled(names):
    return f"dataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names: {names}"


BOMB = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)
CARDS = {
    "no YAML": (carded("tags: [unclosed"), "a head that is no YAML"),
    "tabs": (carded("configs:\n\t- x"), "a head that is no YAML"),
    "an object": (carded("x: !!python/object/apply:os.system ['touch evil']"), "a head that is no YAML"),
    "a list": (carded("- one\n- two"), "a head that is no YAML"),
    "not UTF-8": (carded(b"---\nx: \xff\xfe\n---\n"), "is not UTF-8 text"),
    "nested without end": (carded("x: " + "[" * 1000), "a head that is no YAML"),
    "configurations of text": (carded("configs: all"), "is no card of a data set: configs"),
    "a configuration of a number": (carded("configs:\n- config_name: 7"), "is no card of a data set: configs.0"),
    "files of a number": (carded("configs:\n- config_name: x\n  data_files: 7"), "is no card of a data set: configs.0"),
    "one configuration twice": (carded("configs:\n- config_name: x\n- config_name: x"), "has two configurations 'x'"),
    "no training split": (
        carded("configs:\n- config_name: x\n  data_files:\n  - split: a\n    path: a\n  - split: b\n    path: b"),
        "has no split 'train'",
    ),
    "truth values as names": (carded(labelled("{'0': no, '1': yes}"), names=None), "names of its classes are no texts"),
    "names from 1": (carded(labelled("{'1': a, '2': b}"), names=None), "other than 0 … 1"),
    "a gap in the names": (carded(labelled("{'0': a, '2': b}"), names=None), "other than 0 … 1"),
    "names of a number": (carded(labelled("10"), names=None), "names of its classes are no texts"),
    "other names than the file": (carded(labelled(list("abcdefghij"))), "name the classes differently"),
    "too few names": (carded(labelled(["a", "b"]), names=None), "has the label number"),
    "references without end": (carded(BOMB + "configs: *m"), "is no card of a data set"),
    "a head without end": (carded(b"---\n" + b"x" * (1 << 23)), "more than 2,097,152 characters"),
}


@functools.cache
def _one_image_per_digit():
    (made,) = ddbench.distill("random", ipc=1, out=tempfile.mkdtemp())
    return made.path


def pushed(change):
    """A repository as `ddbench push` writes it, and something changed."""

    def write(folder):
        ddbench.push(_one_image_per_digit(), "hf:me/x", licence="mit", out=folder / "up", registry=folder / "none")
        place = folder / "up" / "ipc1-seed0"
        about = json.loads((place / "distilled.json").read_text())
        change(place, about)
        return place

    return write


def rewritten(**changes):
    return lambda place, about: (place / "distilled.json").write_text(json.dumps({**about, **changes}))


def listed(*names):
    return lambda place, about: rewritten(files=[*names, *about["files"][len(names) :]])(place, about)


def without(*columns):
    def change(place, about):
        import pyarrow.parquet as pq

        (file,) = place.glob("*.parquet")
        pq.write_table(pq.read_table(file).drop_columns(columns), file)

    return change


def replaced(image):
    def change(place, about):
        (file,) = place.glob("*.parquet")
        names = about["dataset"]["class_names"]
        parquet(file, [image, *images(len(names) - 1, side=16)], range(len(names)), names=names)

    return change


PUSHED = {
    "above its folder": (pushed(listed("../../evil.png")), "is no place below it"),
    "an absolute place": (pushed(listed("/tmp/evil.png")), "is no place below it"),
    "another digest": (pushed(rewritten(digest="0" * 64)), "were changed"),
    "no description": (pushed(lambda place, about: (place / "distilled.json").write_text("[]")), "is damaged"),
    "no pictures of its own": (pushed(without("image")), "has no column 'image'"),
    "other pictures": (pushed(replaced(encoded(images(1, side=16)[0]))), "were changed"),
    "no picture in a row": (pushed(replaced({"bytes": None, "path": "x"})), "has a row without a picture"),
    "larger pictures": (
        pushed(replaced(picture(size=(9, 9)))),
        "^ipc1-seed0/images/0000_0/0000.png cannot be read: it has 9×9 pixels",
    ),
}


def objects(folder):
    folder.mkdir(exist_ok=True)
    np.save(folder / "images.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(folder / "labels.npy", LABELS)
    return folder


def claimed(folder):
    folder.mkdir(exist_ok=True)
    with (folder / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 8, 8, 1)}
        )
    np.save(folder / "labels.npy", LABELS)
    return folder


ARRAYS = {
    "objects": (objects, "cannot be read"),
    "a claim of terabytes": (claimed, "cannot be read"),
    "no labels": (lambda folder: np.save(raw(b"", "images.npy")(folder), PICTURES) or folder, "holds no labels"),
}

LOCAL = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("parquet", PARQUET),
        ("archive", ARCHIVES),
        ("card", CARDS),
        ("pushed", PUSHED),
        ("arrays", ARRAYS),
    )
    for name, case in cases.items()
}


def everything(*roots):
    """Return all that lies below some folders."""
    return {path for root in roots for path in root.rglob("*")}


@pytest.fixture
def refused(bring, tmp_path, monkeypatch):
    """Read a source, which must be refused in one line, and see that nothing else changed."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "temporary")

    def call(source, words, **declared):
        before = everything(tmp_path)
        with pytest.raises(DDBenchError, match=words) as error:
            bring(source, **declared)
        text = str(error.value)
        assert "\n" not in text and len(text) < 500 and text.isprintable(), text
        left = {path for path in everything(tmp_path) - before if "home" not in path.parts and "hub" not in path.parts}
        assert not left
        assert not (tmp_path / "home" / "imported").exists()

    return call


@pytest.mark.filterwarnings("ignore:Duplicate name")  # of an archive that is written here
@pytest.mark.parametrize("case", LOCAL)
def test_a_local_copy_is_refused(case, refused, digits, tmp_path):
    write, words = LOCAL[case]
    declared = {"dataset": digits} if case.startswith("pushed") else {}
    refused(write(tmp_path / "set"), words, **declared)


REMOTE = {
    "a name above": ({"../../evil.png": b"x"}, {}, "is no place below it"),
    "an absolute name": ({"/evil.png": b"x"}, {}, "is no place below it"),
    "an empty part": ({"a//b.png": b"x"}, {}, "is no place below it"),
    "backslashes": ({"..\\evil.png": b"x"}, {}, "is no place below it"),
    "nothing": ({}, {}, "holds no distilled set"),
    "code alone": ({"train.py": b"x", "README.md": b"# Code"}, {}, "holds no distilled set"),
    "a picture alone": ({"teaser.png": b"x", "imgs/a.png": b"x"}, {}, "holds no distilled set"),
    "no commit": ({"a/0.png": b"x"}, {"sha": "../../../evil"}, "which is no commit"),
    "a broken card": ({"README.md": b"---\nx: [\n---\n", "a.zip": b"x"}, {}, "a head that is no YAML"),
    "no archive": ({"a.zip": b"x"}, {}, "cannot be unpacked"),
    "a missing part": ({"data/train-00000-of-00002.parquet": b"x"}, {}, "are not the parts"),
}


@pytest.mark.parametrize("case", REMOTE)
def test_a_repository_on_the_hub_is_refused(case, refused, hub, tmp_path):
    content, claims, words = REMOTE[case]
    hub.add("me/bad", content)
    hub.sha = claims.get("sha", "")
    refused("hf:me/bad", words)


def test_too_much_is_refused(refused, hub, tmp_path, monkeypatch):
    hub.add("me/many", {f"a/{number}.png": b"x" for number in range(4)})
    monkeypatch.setattr(repository, "MOST_FILES", 3)
    refused("hf:me/many", "has more than 3 files")
    monkeypatch.undo()


def test_limits_of_size(refused, tmp_path, monkeypatch):
    path = packed()(tmp_path / "set")
    monkeypatch.setattr(archives, "LARGE", 10)
    monkeypatch.setattr(archives, "RATIO", 0.1)
    refused(path, "would unpack to")
    path = rows(good())(tmp_path / "set")
    monkeypatch.setattr(parquets, "memory", lambda: 100)
    refused(path, "of memory")
    monkeypatch.setattr(parquets, "LARGE", 10)
    monkeypatch.setattr(parquets, "EXPANDS", 0.1)
    refused(path, "would unpack to")


def test_there_are_many_of_them():
    assert len(LOCAL) + len(REMOTE) >= 60


def test_good_ones_pass(bring, tmp_path):
    """What the cases above are made from is read."""
    assert bring(rows(good())(tmp_path / "a")).ipc == 2
    assert bring(packed()(tmp_path / "b")).ipc == 2
    assert bring(carded("license: mit")(tmp_path / "c")).ipc == 2
    place = pushed(lambda place, about: None)(tmp_path / "d")
    assert ddbench.pull(str(place), out=tmp_path / "e")[0].about["ipc"] == 1
    tree(tmp_path / "f", PICTURES, [name for name, _ in entries()])
    assert bring(tmp_path / "f").ipc == 2


@pytest.mark.parametrize("name", ["set.parquet", "set.zip"])
def test_damage_anywhere_is_refused_in_one_line_or_harmless(name, bring, tmp_path):
    """Some bytes changed, lost or added, most of them where a file says of itself what it holds."""
    path = (rows(good()) if name.endswith("parquet") else packed())(tmp_path)
    whole, rng = path.read_bytes(), random.Random(0)
    refusals = 0
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            place = len(data) - rng.randint(1, min(len(data), 1500))
            data[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        path.write_bytes(data)
        try:
            assert bring(path).content.images.shape == (20, 8, 8, 1)
        except DDBenchError as error:
            refusals += 1
            assert str(error).isprintable()
    assert refusals > 20
