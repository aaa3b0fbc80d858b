"""CIFAR, Fashion-MNIST, ImageNette: finding, order, errors; the real data where DDBENCH_DATA has it."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from functools import partial

import numpy as np
import pytest
from ddbench_plugins.datasets import archives, places
from ddbench_plugins.datasets.cifar import CIFAR10
from ddbench_plugins.datasets.mnist import MNIST, FashionMNIST
from ddbench_plugins.datasets.places import roots
from PIL import Image

import ddbench

DATA = os.environ.get("DDBENCH_DATA", "")


def cifar_arrays(seed, n=20):
    images = np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)
    return images, np.random.default_rng(seed + 1).permutation(np.arange(n) % 10)


@pytest.fixture
def as_npz(tmp_path):
    folder = tmp_path / "npz"
    folder.mkdir()
    for seed, split in enumerate(("train", "test")):
        images, labels = cifar_arrays(seed)
        np.savez(folder / f"cifar10_{split}.npz", images=images, labels=labels)
    return folder


def write_tree(root, names):
    for seed, split in enumerate(("train", "test")):
        images, labels = cifar_arrays(seed)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = root / "cifar10" / split / names[label] / f"{i:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


@pytest.mark.parametrize("names", [CIFAR10.ids, [f"{i:05d}" for i in range(10)]])
def test_cifar_is_the_same_from_arrays_and_from_folders(load, as_npz, tmp_path, names):
    write_tree(tmp_path / "png", names)
    arrays, folders = load("cifar10", as_npz), load("cifar10", tmp_path / "png")
    assert arrays.fingerprint == folders.fingerprint
    assert arrays.train.ids == folders.train.ids
    assert (arrays.arrays("test")[0] == folders.arrays("test")[0]).all()
    assert (arrays.train.labels == folders.train.labels).all()
    assert folders.mean == (0.4914, 0.4822, 0.4465)
    assert load("cifar10", tmp_path / "png").fingerprint == folders.fingerprint


def test_cifar_arrays_in_another_class_order_are_relabelled(load, as_npz):
    base = load("cifar10", as_npz)
    for seed, split in enumerate(("train", "test")):
        images, labels = cifar_arrays(seed)
        path = as_npz / f"cifar10_{split}.npz"
        np.savez(path, images=images, labels=9 - labels, class_names=CIFAR10.ids[::-1])
    assert load("cifar10", as_npz).fingerprint == base.fingerprint
    np.savez(path, images=images, labels=labels, class_names=["lorry", *CIFAR10.ids[1:]])
    with pytest.raises(ddbench.DataError, match="other classes than it should: airplane, lorry"):
        load("cifar10", as_npz)


def test_the_first_data_folder_wins(load, as_npz, tmp_path):
    write_tree(tmp_path / "png", CIFAR10.ids)
    assert "arrays" in load("cifar10", f"{as_npz}{os.pathsep}{tmp_path / 'png'}").origin
    assert "class folders" in load("cifar10", f"{tmp_path / 'png'}{os.pathsep}{as_npz}").origin


def test_cifar_folders_that_are_not_cifars(load, tmp_path):
    write_tree(tmp_path, [*CIFAR10.ids[:-1], "lorry"])
    with pytest.raises(ddbench.DataError, match="cifar10/train has other classes than it should: lorry, truck"):
        load("cifar10", tmp_path)


def test_altered_batches_are_never_unpickled(load, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ddbench.DataError, match="cifar-10-batches-py is incomplete or damaged"):
        load("cifar10", tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "imagenette", "imageidc", "imagenet-1k"])
def test_a_missing_data_set_is_explained(load, tmp_path, name):
    with pytest.raises(ddbench.DataError, match=f"The data set {name} was not found") as caught:
        load(name, f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}")
    assert "://" in caught.value.hint
    for place in ("one", "two"):
        assert str(tmp_path / place) in caught.value.hint


def test_the_data_folder_is_in_the_artifact_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("DDBENCH_DATA", raising=False)
    assert roots() == [tmp_path / "home" / "data"]


@pytest.mark.parametrize("kind", [FashionMNIST, MNIST])
def test_damaged_idx_files_are_refused(load, tmp_path, kind):
    folder = tmp_path / kind.name
    folder.mkdir()
    for name in kind.checksums:
        (folder / f"{name}.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x01\x05"))
    with pytest.raises(ddbench.DataError, match=r"train-images-idx3-ubyte.gz is damaged"):
        load(kind.name, tmp_path)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ddbench.DataError, match=r"train-images-idx3-ubyte.gz cannot be read: it is a Git LFS pointer"):
        load(kind.name, tmp_path)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"nonsense")
    with pytest.raises(ddbench.DataError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        load(kind.name, tmp_path)


def test_mnist_from_idx_files(load, tmp_path, monkeypatch):
    folder = tmp_path / "MNIST" / "raw"  # as torchvision leaves them
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    sums = {}
    for name in MNIST.checksums:
        shape = (20, 28, 28) if "images" in name else (20,)
        values = rng.integers(0, 256, shape, np.uint8) if len(shape) == 3 else np.arange(20, dtype=np.uint8) % 10
        raw = bytes([0, 0, 8, len(shape)]) + b"".join(side.to_bytes(4, "big") for side in shape) + values.tobytes()
        (folder / name).write_bytes(raw)
        sums[name] = hashlib.sha256(raw).hexdigest()
        if name == "train-images-idx3-ubyte":
            first = values[0]
    monkeypatch.setattr(MNIST, "checksums", sums)
    data = load("mnist", tmp_path)
    assert (data.train.images.load(0, 28)[..., 0] == first).all()
    assert (data.class_names[7], data.mean, data.flip) == ("seven", (0.1307,), False)


def test_svhn_from_its_published_files(load, tmp_path, monkeypatch):
    """Label 10 is the digit 0; images are stored with the number last. torchvision checks md5 sums."""
    from scipy.io import savemat
    from torchvision.datasets import SVHN as Opener

    rng = np.random.default_rng(0)
    listed = dict(Opener.split_list)
    for split in ("train", "test"):
        pixels = rng.integers(0, 256, (32, 32, 3, 20), np.uint8)
        path = tmp_path / f"{split}_32x32.mat"
        savemat(path, {"X": pixels, "y": (np.arange(20) % 10 + 1)[:, None]})
        listed[split] = [listed[split][0], path.name, hashlib.md5(path.read_bytes()).hexdigest()]
        if split == "train":
            first = pixels[..., 9]
    monkeypatch.setattr(Opener, "split_list", listed)
    data = load("svhn", tmp_path)
    assert data.train.labels.tolist()[8:11] == [9, 0, 1]
    assert (data.train.images.load(9, 32) == first).all()
    assert (data.class_names[0], data.flip, data.std) == ("zero", False, (0.1980, 0.2010, 0.1970))
    (tmp_path / "test_32x32.mat").write_bytes(b"cut")
    with pytest.raises(ddbench.DataError, match=r"train_32x32.mat is incomplete or damaged"):
        load("svhn", tmp_path)


@pytest.mark.data
def test_real_cifar10(load):
    if not DATA:
        pytest.skip("DDBENCH_DATA is not set")
    try:
        data = load("cifar10", DATA)
    except ddbench.DataError as error:
        pytest.skip(str(error))
    assert data.train.counts(10) == [5000] * 10
    assert data.test.counts(10) == [1000] * 10
    assert data.train.labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert data.fingerprint[:16] == "b38abd396302430a"


@pytest.mark.data
def test_real_imagenette(load):
    if not DATA:
        pytest.skip("DDBENCH_DATA is not set")
    try:
        data = load("imagenette", DATA)
    except ddbench.DataError as error:
        pytest.skip(str(error))
    assert data.num_classes == 10
    assert min(data.train.counts(10)) > 0
    if len(data.train) == 2500:
        assert data.fingerprint[:8] == "8b0201df"  # what the records have
    images, _ = data.arrays("test")
    assert images.shape[1:] == (64, 64, 3)
    assert 80 < images.mean() < 150


@pytest.mark.data
def test_real_fashion_mnist(load):
    try:
        data = load("fashion-mnist", DATA or None)
    except ddbench.DataError as error:
        pytest.skip(str(error))
    assert data.train.counts(10) == [6000] * 10
    images, _ = data.arrays("train")
    assert abs(images.mean() / 255 - data.mean[0]) < 1e-4


def test_what_is_downloaded_has_its_name_when_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_DATA", str(tmp_path))
    (tmp_path / "toy/raw").mkdir(parents=True)
    (tmp_path / "toy/raw/first").write_text("kept from before")

    def fetch(folder, *, whole):
        (folder / "raw").mkdir()
        (folder / "raw/second").write_text("new")
        assert not (tmp_path / "toy/raw/second").exists()
        if not whole:
            raise OSError("connection lost")

    with pytest.raises(ddbench.DataError, match="connection lost"):
        places.download("toy", partial(fetch, whole=False), "", (), offline=False)
    assert sorted(path.name for path in (tmp_path / "toy").rglob("*")) == ["first", "raw"]
    places.download("toy", partial(fetch, whole=True), "", (), offline=False)
    assert sorted(path.name for path in (tmp_path / "toy").rglob("*")) == ["first", "raw", "second"]


@pytest.mark.parametrize("ending", ["zip", "tgz"])
def test_archives_that_would_fill_the_disk_are_not_unpacked(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(archives, "LARGE", 1000)
    path = tmp_path / f"toy.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("zeros", bytes(10**6))
    else:
        with tarfile.open(path, "w:gz") as packed:
            member = tarfile.TarInfo("zeros")
            member.size = 10**6
            packed.addfile(member, io.BytesIO(bytes(10**6)))
    with pytest.raises(ddbench.DataError, match=rf"toy.{ending} cannot be unpacked: it unpacks to more than"):
        archives.unpack(path, {"url": "https://example.org/toy"})
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_cifar_of_another_size_is_not_scaled(load, tmp_path):
    write_tree(tmp_path, CIFAR10.ids)
    Image.new("RGB", (64, 64)).save(tmp_path / "cifar10/train" / CIFAR10.ids[0] / "99999.png")
    with pytest.raises(ddbench.DataError, match="images of 64×64 instead of 32×32"):
        load("cifar10", tmp_path)


def test_one_array_file_is_not_both_splits_of_cifar(load, tmp_path):
    images, labels = cifar_arrays(0)
    np.savez(tmp_path / "cifar10.npz", images=images, labels=labels)
    with pytest.raises(ddbench.DataError, match=r"cifar10.npz has images and labels of no split"):
        load("cifar10", tmp_path)
