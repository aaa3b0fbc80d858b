"""CIFAR, Fashion-MNIST, ImageNette: finding, order, errors; the real data where DDBENCH_DATA has it."""

import gzip
import os
import pickle

import numpy as np
import pytest
from ddbench_plugins.datasets import fashion
from ddbench_plugins.datasets.cifar import CIFAR10, CIFAR100
from ddbench_plugins.datasets.imagenette import ImageNette
from ddbench_plugins.datasets.names import synsets
from ddbench_plugins.datasets.places import roots
from PIL import Image

import ddbench
from ddbench.options import Preset, resolve

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


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenette"])
def test_a_missing_data_set_is_explained(load, tmp_path, name):
    with pytest.raises(ddbench.DataError, match=f"The data set {name} was not found") as caught:
        load(name, f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}")
    assert "https://" in caught.value.hint
    for place in ("one", "two"):
        assert str(tmp_path / place) in caught.value.hint


def test_class_lists():
    assert CIFAR10.ids[:2] == ("airplane", "automobile")
    assert len(set(CIFAR100.ids)) == 100
    assert list(CIFAR100.ids) == sorted(CIFAR100.ids)
    assert (CIFAR100.ids[1], CIFAR100.ids[99]) == ("aquarium_fish", "worm")
    nette = synsets()["imagenette"]
    assert list(nette) == sorted(nette)
    assert (nette["n01440764"], nette["n03888257"]) == ("tench", "parachute")
    assert [len(synsets()[name]) for name in ("imagenette", "imagewoof", "imagenet-100")] == [10, 10, 100]


def test_published_class_orders_are_not_those_of_folders():
    """The first labels of MinimaxDiffusion and IDC (misc/class_woof.txt, misc/class100.txt)."""
    woof, hundred = list(synsets()["imagewoof"]), list(synsets()["imagenet-100"])
    dogs = ("n02096294", "n02086240")
    assert [woof.index(name) for name in dogs] == [0, 4]
    assert [sorted(woof).index(name) for name in dogs] == [5, 0]
    assert hundred[0] == "n02869837" and synsets()["imagenet-100"][hundred[0]] == "bonnet"
    assert [sorted(hundred[:10]).index(name) for name in hundred[:10]] == [5, 0, 4, 3, 9, 2, 7, 8, 6, 1]
    assert (hundred.index("n02086240"), hundred[99]) == (58, "n02090622")


def test_the_data_folder_is_in_the_artifact_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("DDBENCH_DATA", raising=False)
    assert roots() == [tmp_path / "home" / "data"]


def write_nette(draw, root, folder="imagenette", drop=()):
    for split, count in (("train", 3), ("val", 2)):
        for name in synsets()["imagenette"]:
            for i in range(count):
                if (split, name) not in drop:
                    draw(root / folder / split / name / f"{name}_{i}.JPEG", i, (30, 24))


@pytest.mark.parametrize("folder", ["imagenette", "imagenette2-320", "imagenet"])
def test_imagenette(load, tmp_path, folder, draw):
    write_nette(draw, tmp_path, folder)
    if folder == "imagenet":
        draw(tmp_path / folder / "train" / "n15075141" / "x.JPEG", 0)
    data = load("imagenette", tmp_path)
    assert data.class_ids == tuple(sorted(synsets()["imagenette"]))
    assert data.class_names[0] == "tench"
    assert (len(data.train), len(data.test), data.image_size) == (30, 20, 64)
    assert load("imagenette", tmp_path, size=16).arrays("test")[0].shape == (20, 16, 16, 3)


def test_imagenette_lacking_a_class(load, tmp_path, draw):
    write_nette(draw, tmp_path, drop={("val", "n03445777")})
    with pytest.raises(ddbench.DataError, match=r"imagenette/val lacks the ImageNette class.* n03445777"):
        load("imagenette", tmp_path)


def test_imagenette_is_larger_at_paper_scale():
    paper = resolve(ImageNette, "dataset/imagenette", {}, Preset("paper"), {})
    assert paper.values.size == 224
    assert resolve(ImageNette, "dataset/imagenette", {}, Preset("cpu"), {}).shrunk == (("size", 224, 64),)


def test_damaged_fashion_files_are_refused(load, tmp_path):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for name in fashion.FILES:
        (folder / f"{name}.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x01\x05"))
    with pytest.raises(ddbench.DataError, match=r"train-images-idx3-ubyte.gz is damaged"):
        load("fashion-mnist", tmp_path)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"nonsense")
    with pytest.raises(ddbench.DataError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        load("fashion-mnist", tmp_path)


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
