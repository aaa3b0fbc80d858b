"""Sets of others, written here as their authors' code writes them: found, understood, refused, evaluated."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import ddbench
from ddbench.cli import main
from ddbench.errors import DataError, UsageError
from ddbench.results import exchange
from ddbench.runtime.progress import Reporter
from ddbench.sets.declared import Declared
from ddbench.tables import describe

torch = pytest.importorskip("torch")
TOY = Path(__file__).parents[1] / "toy_plugin.py"
MEAN, STD = 0.4, 0.3  # the toy data set's


class Log(Reporter):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture
def bring(tmp_path):
    def call(source, name="theirs", **said):
        return ddbench.import_set(source, name, dataset="toy", plugins=[TOY], **said)

    return call


@pytest.fixture
def tensors():
    """Images [6, 1, 8, 8] normalised, some beyond [0, 1] when turned back, with labels in class order."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 1, 8, 8, generator=generator) * 1.5, torch.arange(3).repeat_interleave(2)


def _back(images):
    return images.numpy().transpose(0, 2, 3, 1) * np.float32(STD) + np.float32(MEAN)


def _res(path, sets):
    """As main.py of DatasetCondensation: accuracies are NumPy numbers, sets are lists of two tensors."""
    torch.save({"data": [list(each) for each in sets], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}, path)
    return path


def _grey(path, shade=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), shade, np.uint8)).save(path)


# Tensors ----------------------------------------------------------------------------------------------------------


def test_mtt_with_its_learned_rate(bring, tensors, tmp_path):
    images, labels = tensors
    shuffled = torch.tensor([5, 0, 3, 1, 4, 2])
    torch.save(images[shuffled], tmp_path / "images_best.pt")
    torch.save(labels[shuffled], tmp_path / "labels_best.pt")
    torch.save(torch.tensor(0.02), tmp_path / "lr_best.pt")
    made = bring(tmp_path, space="normalised")
    assert made.about["ipc"] == 2 and made.labels.tolist() == [0, 0, 1, 1, 2, 2]
    order = [1, 3, 2, 5, 0, 4]  # by class, else as in the file
    np.testing.assert_allclose(made.images, _back(images[shuffled][order]), atol=1e-6)
    assert made.images.min() < 0 and made.images.max() > 1  # kept, not clamped
    assert made.distilled.space == "unit"
    assert made.about["learning_rate"] == pytest.approx(0.02)
    origin = made.about["extra"]["imported"]
    assert origin["files"] == ["images_best.pt", "labels_best.pt", "lr_best.pt"]
    assert origin["mean"] == [MEAN] and origin["std"] == [STD] and origin["outside"] > 0
    assert made.about["method"] == {
        "name": "theirs", "version": 1, "explicit": {"space": "normalised"},
        "options": {"imported": origin["sha256"][:16], "space": "normalised", "mean": [MEAN], "std": [STD]},
    }  # fmt: skip
    assert bring(tmp_path / "images_best.pt", space="normalised", learning_rate=0.5).about["learning_rate"] == 0.5


def test_given_constants_and_unit_pixels(bring, tensors, tmp_path):
    images, labels = tensors
    torch.save({"images": images, "labels": labels}, tmp_path / "set.pt")
    made = bring(tmp_path / "set.pt", space="normalised", mean=(0.5,), std=(0.25,))
    np.testing.assert_allclose(made.images[..., 0], images[:, 0].numpy() * 0.25 + 0.5, atol=1e-6)
    log = Log()
    as_told = bring(tmp_path / "set.pt", space="pixel01", reporter=log)
    np.testing.assert_array_equal(as_told.images[..., 0], images[:, 0].numpy())
    assert "are they --space normalised?" in log.warnings[0]


def test_the_runs_of_dc(bring, tensors, tmp_path):
    images, labels = tensors
    path = _res(tmp_path / "res_DC_toy_ConvNet_2ipc.pt", [(images + k, labels) for k in range(3)])
    with pytest.raises(UsageError, match="holds 3 sets") as error:
        bring(path, space="normalised")
    assert "--run 0 … 2" in error.value.hint
    for run, number in ((1, 1), (-1, 2)):
        made = bring(path, space="normalised", run=run)
        np.testing.assert_allclose(made.images, _back(images + number), atol=1e-6)
        assert made.about["seed"] == number and made.about["extra"]["imported"]["runs"] == 3
    with pytest.raises(UsageError, match="no run 3"):
        bring(path, space="normalised", run=3)
    single = _res(tmp_path / "res_DM_toy_ConvNet_2ipc.pt", [tensors])
    assert bring(single, space="normalised").about["seed"] == 0
    torch.save(images, tmp_path / "images_x.pt")
    with pytest.raises(UsageError, match="holds one set"):
        bring(tmp_path / "images_x.pt", space="normalised", run=0)


def test_numpy_1_wrote_the_released_files(bring, tensors, tmp_path):
    """Their accuracies name ``numpy.core``, which NumPy 2 calls ``numpy._core``."""
    import io
    import zipfile

    path = _res(tmp_path / "new.pt", [tensors])
    text = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(text, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"cnumpy._core.multiarray\n" in content
                content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            new.writestr(entry, content)
    (tmp_path / "res_DSA.pt").write_bytes(text.getvalue())
    assert len(bring(tmp_path / "res_DSA.pt", space="normalised").labels) == 6


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_npz(bring, tensors, tmp_path, layout):
    images = (np.arange(6 * 64).reshape(6, 8, 8, 1) % 256).astype(np.uint8)
    stored = images if layout == "NHWC" else images.transpose(0, 3, 1, 2)
    np.savez(tmp_path / "set.npz", images=stored, labels=np.repeat(np.arange(3), 2), learning_rate=0.1)
    made = bring(tmp_path / "set.npz")
    np.testing.assert_array_equal(made.images, images)
    assert made.distilled.space == "rgb_uint8" and made.about["learning_rate"] == 0.1
    with pytest.raises(UsageError, match="ordinary pixels, not normalised"):
        bring(tmp_path / "set.npz", space="normalised")


def test_soft_labels_come_along(bring, tensors, tmp_path):
    images, labels = tensors
    soft = torch.nn.functional.one_hot(labels) * 0.8 + 0.2 / 3
    torch.save({"images": images, "labels": soft}, tmp_path / "set.pt")
    made = bring(tmp_path / "set.pt", space="normalised", classes=("light", "dark", "grey"))
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (made.distilled.soft_labels.argmax(1) == made.labels).all()
    np.testing.assert_allclose(made.images, _back(images[[2, 3, 4, 5, 0, 1]]), atol=1e-6)
    torch.save({"images": images, "labels": soft * 3}, tmp_path / "set.pt")
    with pytest.raises(DataError, match="no probabilities"):
        bring(tmp_path / "set.pt", space="normalised")


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_nothing_is_unpickled(bring, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"images": Evil()}, tmp_path / "images_best.pt")
    np.savez(tmp_path / "set.npz", images=np.array([Evil()], object), labels=np.zeros(1))
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"images": Evil()}, protocol=2))
    for name in ("images_best.pt", "set.npz", "plain.pt"):
        with pytest.raises(DataError, match="could run any code") as error:
            bring(tmp_path / name, space="normalised")
        assert "load it yourself" in error.value.hint
    assert not Path("executed").exists()


def test_what_cannot_be_known_must_be_said(bring, tensors, tmp_path):
    images, labels = tensors
    torch.save(images, tmp_path / "images_best.pt")
    with pytest.raises(DataError, match=r"no labels\. labels_best\.pt is not beside it"):
        bring(tmp_path, space="normalised")
    torch.save(labels, tmp_path / "labels_best.pt")
    with pytest.raises(
        UsageError, match=r"does not state its pixel space; its values range from -\d\.\d\d to \d\.\d\d"
    ) as error:
        bring(tmp_path)
    assert "--space normalised" in error.value.hint
    with pytest.raises(UsageError, match="without their recipe") as error:
        bring(tmp_path, space="zca")
    assert "zca:mtt (MTT, FTD, DATM)" in error.value.hint
    with pytest.raises(UsageError, match=r"Unknown pixel space 'normalized'\. Did you mean 'normalised'"):
        bring(tmp_path, space="normalized")
    with pytest.raises(UsageError, match="above zero, not 0"):
        bring(tmp_path, space="normalised", learning_rate=0)
    with pytest.raises(UsageError, match="must be given together"):
        bring(tmp_path, space="normalised", mean=(0.5,))
    torch.save(images, tmp_path / "images_100.pt")
    with pytest.raises(UsageError, match="several sets") as error:
        bring(tmp_path, space="normalised")
    assert "images_100.pt, images_best.pt" in error.value.hint
    torch.save(torch.full((6, 3), -0.1) + torch.eye(3).repeat_interleave(2, 0), tmp_path / "labels_best.pt")
    with pytest.raises(DataError, match="no probabilities") as error:
        bring(tmp_path / "images_best.pt", space="normalised")
    assert "--labels centred" in error.value.hint
    made = bring(tmp_path / "images_best.pt", space="normalised", labels="centred")
    assert made.distilled.label_kind == "centred"
    assert made.distilled.soft_labels[3].tolist() == pytest.approx([-0.1, 0.9, -0.1])
    with pytest.raises(UsageError, match=r"Unknown kind of labels 'centered'\. Did you mean 'centred'"):
        bring(tmp_path / "images_best.pt", space="normalised", labels="centered")
    with pytest.raises(UsageError, match="'toy' is a method of ddbench"):
        bring(tmp_path / "images_best.pt", "toy", space="normalised")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y + 1), r"label numbers 1 … 3, but toy has 3 classes \(0 … 2\)"),
        (lambda x, y: (x[1:], y[1:]), "1 to 2 images per class: 2 of most, but dark 1"),
        (lambda x, y: (x[:4], y[:4]), "0 to 2 images per class: 2 of most, but light 0"),
        (lambda x, y: (x, y[1:]), "6 images, but 5 labels"),
        (lambda x, y: (x.repeat(1, 3, 1, 1), y), r"\[6, 3, 8, 8\] instead of square ones with 1 channel"),
        (lambda x, y: (x / 0, y), "NaN"),
        (lambda x, y: (x.double() + 1e300, y), "NaN or infinite"),  # a float64 that float32 cannot hold
        (lambda x, y: (x, y + 0.5), "instead of one number per image"),
        (lambda x, y: (x[:0], y[:0]), "no labels"),
        (lambda x, y: (x[..., :0, :0], y), "no pixels"),
        (lambda x, y: (x, torch.full((6, 3), torch.nan)), "no probabilities"),
        (lambda x, y: (torch.zeros(1, 1, 1, 1).expand(10**9, 1, 8, 8), y), "no ordinary tensor"),  # 256 GB in 4 bytes
        (lambda x, y: (x.to_sparse(), y), "no ordinary tensor"),
        (lambda x, y: (x.to("meta"), y), "no ordinary tensor"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(bring, tensors, tmp_path, change, message):
    images, labels = change(*tensors)
    torch.save({"images": images, "labels": labels}, tmp_path / "set.pt")
    with pytest.raises(DataError, match=message):
        bring(tmp_path / "set.pt", space="normalised")


def _members(path, images, entry="images.npy"):
    """An .npz whose images are these bytes."""
    import io
    import zipfile

    labels = io.BytesIO()
    np.save(labels, np.arange(3))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(entry, images)
        made.writestr("labels.npy", labels.getvalue())


def _header(shape):
    import struct

    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_forged_npz_files_are_refused(bring, tmp_path):
    path = tmp_path / "set.npz"
    for shape in ("(1000000000000, 8, 8, 1)", "(3, 8, 8, 1)", "(-3, 8, 8, 1)", "((((("):
        _members(path, _header(shape) + bytes(100))
        with pytest.raises(DataError, match="cannot be read"):
            bring(path, space="pixel01")
    _members(path, _header("(3, 8, 8, 1)") + np.random.default_rng(0).random(192, np.float32).tobytes())
    content = bytearray(path.read_bytes())
    for place in range(100, 400):
        content[place] ^= 0x5A
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        bring(path, space="pixel01")
    np.save(tmp_path / "bare.npy", np.zeros((3, 8, 8, 1), np.float32))
    (tmp_path / "bare.npy").rename(path)
    with pytest.raises(DataError, match=r"no \.npz file"):
        bring(path, space="pixel01")


def test_forged_torch_files_are_refused(bring, tensors, tmp_path):
    path = tmp_path / "set.pt"
    for content in (b"", b"\x80\x02R.", b"\x80\x02h\x05.", b"\x80\x02\x8b\xff\xff\xff\x7f.", b"\x80\x02}q\x00("):
        path.write_bytes(content)
        with pytest.raises(DataError):
            bring(path, space="pixel01")
    for runs in ([3], [{"a": 1}], [[tensors[0]]], [[None, None]]):
        torch.save({"data": runs}, path)
        with pytest.raises(DataError):
            bring(path, space="pixel01")


def test_undecoded_images_of_idc_are_asked_for(bring, tensors, tmp_path):
    torch.save(list(tensors), tmp_path / "data.pt")
    with pytest.raises(DataError, match="without names") as error:
        bring(tmp_path / "data.pt", space="pixel01")
    assert "--factor 2" in error.value.hint


def test_images_of_another_size_keep_it(bring, tmp_path):
    torch.save({"images": torch.rand(3, 1, 16, 16), "labels": torch.arange(3)}, tmp_path / "set.pt")
    assert bring(tmp_path / "set.pt", space="pixel01").images.shape == (3, 16, 16, 1)


def test_pixels_of_another_scale_are_refused(bring, tensors, tmp_path):
    pixels = (torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 255).round()
    torch.save({"images": pixels, "labels": tensors[1]}, tmp_path / "set.pt")
    for said in ({"space": "pixel01"}, {"space": "normalised"}, {}):
        with pytest.raises(DataError, match="no pixels in") as error:
            bring(tmp_path / "set.pt", **said)
        assert "from 0 to 255: save them as uint8" in error.value.hint
    torch.save({"images": (pixels / 256).to(torch.uint8), "labels": tensors[1]}, tmp_path / "set.pt")
    log = Log()
    bring(tmp_path / "set.pt", reporter=log)  # all black
    torch.save({"images": (pixels / 255).round().to(torch.uint8), "labels": tensors[1]}, tmp_path / "set.pt")
    with pytest.raises(DataError, match="only 0 and 1"):
        bring(tmp_path / "set.pt")


def test_pixels_normalised_twice_are_told(bring, tensors, tmp_path):
    twice = ((tensors[0] / 1.5) - MEAN) / STD
    torch.save({"images": twice, "labels": tensors[1]}, tmp_path / "set.pt")
    log = Log()
    bring(tmp_path / "set.pt", space="normalised", reporter=log)
    assert "leave [0, 1] by 0." in log.warnings[0]


@pytest.mark.parametrize("name", ["images_best.pt", "set.npz", "lr_best.pt", "labels_best.pt"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12345\n", "is a Git LFS pointer"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html>quota</html>", "is a web page"),
        (b"", "is empty"),
    ],
)
def test_what_stands_in_for_a_file_is_named(bring, tensors, tmp_path, name, content, words):
    torch.save(tensors[0], tmp_path / "images_best.pt")
    torch.save(tensors[1], tmp_path / "labels_best.pt")
    (tmp_path / name).write_bytes(content)
    source = name if name == "set.npz" else "images_best.pt"
    with pytest.raises(DataError, match=f"{name} cannot be read: it {words}") as error:
        bring(tmp_path / source, space="normalised")
    assert "load it yourself" not in error.value.hint


@pytest.mark.parametrize("name", ["set.pt", "set.npz"])
def test_pipes_and_devices_are_refused_at_once(bring, tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="pipe or a device"):
        bring(tmp_path / name, space="pixel01")
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(DataError, match="pipe or a device"):
        bring(tmp_path / name, space="pixel01")


def test_an_archive_that_would_fill_memory_is_refused(bring, tmp_path):
    import zipfile

    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as file:
        file.write(_header((1 << 16, 128, 128, 1)))
        for _ in range(1 << 6):
            file.write(bytes(1 << 24))
    assert path.stat().st_size < 10_000_000
    for name in ("set.npz", "set.pt"):
        path.rename(tmp_path / name)
        with pytest.raises(DataError, match=r"would unpack to 1\.\d GB from \d\.\d MB"):
            bring(tmp_path / name, space="pixel01")
        path = tmp_path / name


def test_keys_and_unnamed_pairs_are_described(bring, tensors, tmp_path):
    torch.save(tuple(tensors), tmp_path / "pair.pt")
    with pytest.raises(DataError, match=r"a tuple of 2 without names \(\[6, 1, 8, 8\], \[6\]\)\.") as error:
        bring(tmp_path / "pair.pt", space="pixel01")
    assert "{'images': …, 'labels': …}" in error.value.hint
    torch.save([*tensors, 1], tmp_path / "three.pt")
    with pytest.raises(DataError, match="a list of 3 without names") as error:
        bring(tmp_path / "three.pt", space="pixel01", factor=1)
    assert "--factor" not in error.value.hint
    torch.save({"image_syn": tensors[0], "label_syn": tensors[1]}, tmp_path / "keys.pt")
    np.savez(tmp_path / "keys.npz", image_syn=tensors[0], label_syn=tensors[1])
    for name in ("keys.pt", "keys.npz"):
        with pytest.raises(DataError, match=r"holds no images. It has the keys 'image_syn', 'label_syn'"):
            bring(tmp_path / name, space="pixel01")
    torch.save({f"key {i}": tensors[0] for i in range(50)}, tmp_path / "many.pt")
    with pytest.raises(DataError, match="'key 19' …"):
        bring(tmp_path / "many.pt", space="pixel01")


# Pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["{0:05d}/class{0:05d}_id{1:05d}.png", "new{0:03d}/class{0:03d}_id{1:03d}.png",
                                  "class{0:05d}_id{1:05d}.png"])  # fmt: skip
def test_numbered_pictures(bring, tmp_path, name):
    """RDED, SRe2L, and all in one folder."""
    for label in range(3):
        for i in range(2):
            _grey(tmp_path / "syn_data" / name.format(label, i), 10 * label + i)
    made = bring(tmp_path / "syn_data")
    assert made.images[:, 0, 0, 0].tolist() == [0, 1, 10, 11, 20, 21]
    assert made.about["extra"]["imported"]["classes"] == "numbered as in the data set"
    assert made.about["extra"]["imported"]["files"] == 6 and "source" not in str(made.about["extra"])
    turned = bring(tmp_path / "syn_data", classes=("c", "dark", "b"))
    assert turned.images[:, 0, 0, 0].tolist() == [10, 11, 20, 21, 0, 1]
    assert turned.about["extra"]["imported"]["classes"] == "numbered as listed"
    with pytest.raises(UsageError, match="has no class 'd'"):
        bring(tmp_path / "syn_data", classes=("a", "b", "d"))
    with pytest.raises(UsageError, match="each of the 3 classes"):
        bring(tmp_path / "syn_data", classes=("a", "a", "b"))
    with pytest.raises(UsageError, match="Pictures are ordinary pixels"):
        bring(tmp_path / "syn_data", space="zca:mtt")


def test_numbers_must_agree_and_be_classes(bring, tmp_path):
    for label in range(3):
        _grey(tmp_path / "set" / f"{label:05d}" / f"class{2 - label:05d}_id00000.png")
    with pytest.raises(DataError, match="named by class 2, but lies in the folder of class 0"):
        bring(tmp_path / "set")
    for label in range(4):
        _grey(tmp_path / "four" / f"{label:05d}" / "0.png")
    with pytest.raises(DataError, match="label numbers 0 … 3"):
        bring(tmp_path / "four")
    for label in range(3):
        _grey(tmp_path / "huge" / f"{10**30 + label}" / "0.png")
    with pytest.raises(DataError, match="are no classes"):
        bring(tmp_path / "huge")


def test_a_picture_that_would_fill_memory_is_refused(bring, tmp_path):
    import struct
    import zlib

    def part(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 10**5, 10**5, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(bytes(99))) + part(b"IEND", b"")
    for label in range(3):
        (tmp_path / f"{label:05d}").mkdir()
        (tmp_path / f"{label:05d}" / "0.png").write_bytes(bomb)
    with pytest.raises(DataError, match="cannot be read"):
        bring(tmp_path)


def test_every_unmatched_folder_is_named(bring, tmp_path):
    for name in ("a", "greyish", "00002", "other"):
        _grey(tmp_path / "set" / name / "0.png")
    with pytest.raises(DataError, match=r"'00002', 'greyish', 'other' are no classes of toy"):
        bring(tmp_path / "set")


# What becomes of it -----------------------------------------------------------------------------------------------


def test_the_command_says_what_it_understood_and_the_set_is_an_ordinary_one(tensors, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _res(tmp_path / "res_DM_toy_ConvNet_2ipc.pt", [tensors, tensors])
    words = ["import", "res_DM_toy_ConvNet_2ipc.pt", "--as", "dm-authors", "-d", "toy", "--plugin", str(TOY)]
    words += ["--space", "normalised", "--run", "-1", "--out", "sets"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    said = capsys.readouterr()
    assert stop.value.code == 0, said.err
    assert "run 1 of 0 … 1" in said.out and "6 of 8×8, IPC 2" in said.out
    assert "0 dark, 1 grey, 2 light" in said.out and "by mean 0.4 and std 0.3" in said.out
    folder = tmp_path / "sets" / "toy-dm-authors-ipc2-seed1"
    assert said.out.rstrip().endswith("sets/toy-dm-authors-ipc2-seed1")
    settings = {"dataset": "toy", "plugins": [TOY], "registry": "registry"}
    (record,) = ddbench.evaluate(folder, "nearest-mean", **settings)
    direct = {"space": "normalised", "run": 1, "name": "dm-authors"}
    (again,) = ddbench.evaluate("res_DM_toy_ConvNet_2ipc.pt", "nearest-mean", **settings, **direct)
    assert again.digest == record.digest and again.key == record.key
    assert record.costs.distill_seconds is None is again.costs.distill_seconds  # nothing here says what it took
    path = tmp_path / "registry" / "results" / record.relative_path()
    content = json.loads(path.read_text())
    assert content["distilled"]["extra"]["imported"]["files"] == ["res_DM_toy_ConvNet_2ipc.pt"]
    assert content["cell"]["method"]["name"] == "dm-authors" and str(tmp_path) not in path.read_text()
    with pytest.raises(SystemExit) as stop:
        main(["registry", "verify", "--registry", "registry"])
    assert stop.value.code == 0
    assert "not known how long to distil" in "\n".join(describe.summary(record))
    line = next(csv.DictReader(exchange.to_csv([record]).splitlines()))
    assert line["distill_seconds"] == "" and float(line["evaluate_seconds"]) >= 0
    with pytest.raises(SystemExit) as stop:
        main(["gallery", str(folder), "--out", "sheet.png"])
    assert stop.value.code == 0 and (tmp_path / "sheet.png").exists()
    with pytest.raises(UsageError, match="already states this"):
        ddbench.evaluate(folder, "nearest-mean", **settings, space="pixel01")
    with pytest.raises(UsageError, match="must not bear its name"):
        ddbench.evaluate(folder, "nearest-mean", **settings, name="toy")


def test_a_set_of_ddbench_is_imported_with_all_that_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (made,) = ddbench.distill("toy", dataset="toy", ipc=2, plugins=[TOY], out="sets")
    about = json.loads((made.path / "distilled.json").read_text("utf-8"))
    (made.path / "distilled.json").write_text(json.dumps({**about, "shrunk": [["epochs", 9, 1]]}), "utf-8")
    words = ["import", str(made.path), "--as", "theirs", "-d", "toy", "--plugin", str(TOY), "--out", "others"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    said = capsys.readouterr()
    assert stop.value.code == 0, said.err
    assert "a set that ddbench wrote" in said.out and "6 of 8×8, IPC 2" in said.out
    again = ddbench.load("others/toy-theirs-ipc2-seed0").about
    assert again["shrunk"] == [["epochs", 9, 1]] and again["digest"] == about["digest"]


def _pictures(folder, size=(8, 8), mode="L", ending="png"):
    """Two pictures for each class of toy, of noise."""
    random = np.random.default_rng(0)
    for name in "abc":
        (folder / name).mkdir(parents=True)
        for number in range(2):
            pixels = random.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{number}.{ending}")
    return folder


def test_pictures_are_kept_as_they_are_or_refused(bring, tmp_path):
    assert bring(_pictures(tmp_path / "good", (24, 24))).images.shape == (6, 24, 24, 1)
    with pytest.raises(DataError, match="16×8 pixels instead of square ones"):
        bring(_pictures(tmp_path / "wide", (16, 8)))
    mixed = _pictures(tmp_path / "mixed", (24, 24))
    _grey(mixed / "a" / "0.png")
    with pytest.raises(DataError, match=r"2 sizes: 1 of 8×8, 5 of 24×24 \(such as a/0.png\)"):
        bring(mixed)
    with pytest.raises(DataError, match=r"a/0.png is in colour, but the data set is grey"):
        bring(_pictures(tmp_path / "colour", mode="RGB"))
    grey = _pictures(tmp_path / "grey", mode="L")
    before = bring(grey).images
    for path in grey.glob("*/*.png"):
        Image.open(path).convert("RGB").save(path)
    np.testing.assert_array_equal(bring(grey).images, before)  # colour in name only
    clear = _pictures(tmp_path / "clear", mode="LA")
    Image.new("LA", (8, 8), (200, 0)).save(clear / "b" / "1.png")
    with pytest.raises(DataError, match=r"b/1.png is transparent"):
        bring(clear)


def test_no_picture_is_left_out_without_a_word(bring, tmp_path):
    folder = _pictures(tmp_path / "set")
    (folder / "a" / "notes.txt").write_text("mine")
    _grey(folder / "overview.png")
    log = Log()
    assert len(bring(folder, reporter=log).labels) == 6
    assert "overview.png" in log.warnings[0]
    Image.new("L", (8, 8)).save(folder / "b" / "2.tif")
    with pytest.raises(DataError, match=r"1 entries of class folders would be skipped, such as b/2\.tif"):
        bring(folder)
    (folder / "b" / "2.tif").unlink()
    _grey(folder / "c" / "more" / "2.png")
    with pytest.raises(DataError, match="such as c/more"):
        bring(folder)
    shutil.rmtree(folder / "c" / "more")
    np.savez(folder / "set.npz", images=np.zeros(1))
    with pytest.raises(UsageError, match=r"holds both set.npz and folders of pictures"):
        bring(folder)


def test_grey_pictures_among_colour_ones_are_told(tmp_path):
    from ddbench.sets import trees as folders

    _pictures(tmp_path / "set", mode="RGB")
    _grey(tmp_path / "set" / "a" / "0.png")
    data = SimpleNamespace(name="x", class_ids=("a", "b", "c"), class_names=("a", "b", "c"), channels=3)
    heard: list[str] = []
    found = folders.read(tmp_path / "set", data, heard.append)
    assert found.images.shape == (6, 8, 8, 3) and heard == [
        "1 of 6 pictures are grey; their three channels will be equal."
    ]


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<html>"])
def test_pictures_that_stand_in_for_others_are_named(bring, tmp_path, content):
    folder = _pictures(tmp_path / "set")
    (folder / "b" / "0.png").write_bytes(content)
    with pytest.raises(DataError, match=r"0\.png cannot be read: it is (empty|a Git LFS pointer|a web page)"):
        bring(folder)


@pytest.mark.parametrize(
    ("ids", "known"),
    [
        (("a", "b", "c"), True),
        (("0", "1", "2"), True),
        (("n02", "n01", "n03"), False),
        (("dog", "cat", "emu"), False),
        (("0", "2", "1"), False),
        (tuple(map(str, range(12))), True),  # the numbers themselves, though not in the order of text
        (("1", "10", "2"), False),  # in the order of text, not of numbers
    ],
)
def test_numbered_pictures_need_an_order_that_is_known(tmp_path, ids, known):
    from ddbench.sets import importing
    from ddbench.testing.toy import toy_dataset

    toy = toy_dataset()
    rows = np.arange(len(ids)) % len(toy.train)
    split = replace(toy.train, images=ddbench.ArrayImages(toy.arrays("train")[0][rows]), labels=np.arange(len(ids)))
    split = replace(split, ids=tuple(f"{i}" for i in range(len(ids))))
    data = replace(toy, class_ids=ids, class_names=ids, train=split, test=split)
    for number in range(len(ids)):
        _grey(tmp_path / "syn" / f"{number:05d}" / f"class{number:05d}_id00000.png", number)
    if not known:
        with pytest.raises(UsageError, match="are ambiguous") as error:
            importing.read_set(tmp_path / "syn", data, "theirs")
        assert "--classes" in error.value.hint and ", ".join(ids) in error.value.hint
        listed = Declared(classes=tuple(sorted(ids)))
        made = importing.read_set(tmp_path / "syn", data, "theirs", listed)
        assert [sorted(ids).index(ids[label]) for label in range(len(ids))] == made.content.images[:, 0, 0, 0].tolist()
        return
    assert importing.read_set(tmp_path / "syn", data, "theirs").content.images[:, 0, 0, 0].tolist() == list(
        range(len(ids))
    )


def test_a_name_of_two_classes_is_refused():
    """ImageNet has two cranes, which only their ids tell apart."""
    from ddbench.sets.trees import match_class

    ids = ("n02012849", "n03126707", "n02106030")
    data = SimpleNamespace(name="birds", class_ids=ids, class_names=("crane", "crane", "collie"))
    assert match_class("n03126707", data) == 1
    assert match_class("collie", data) == 2
    assert match_class("heron", data) is None
    with pytest.raises(DataError, match="several classes") as error:
        match_class("crane", data)
    assert "n02012849, n03126707" in error.value.hint


def test_a_set_made_from_other_images_is_said(tmp_path):
    from ddbench.sets import folder as distilled
    from ddbench.sets import importing
    from ddbench.testing.toy import toy_dataset

    data, other = toy_dataset(), toy_dataset(seed=1)
    rows = [int(data.train.of_class(label)[0]) for label in range(3)]
    content = ddbench.DistilledSet(data.train.images.batch(rows, data.image_size), data.train.labels[rows])
    method = {"name": "first", "version": 1, "options": {}, "explicit": {}}
    distilled.save(tmp_path / "set", content, data, {"method": method, "ipc": 1, "seed": 0})
    heard: list[str] = []
    importing.read_set(tmp_path / "set", data, warn=heard.append)
    assert not heard
    with pytest.raises(UsageError, match=r"is a folder of 1 distilled set\(s\)"):
        importing.read_set(tmp_path, data)
    importing.read_set(tmp_path / "set", other, warn=heard.append)
    assert len(heard) == 1 and other.fingerprint[:8] in heard[0] and data.fingerprint[:8] in heard[0]
