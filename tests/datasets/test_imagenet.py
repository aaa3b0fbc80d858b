"""ImageNet-like trees: where they are found, which class is which label, flat test folders, archives, large trees."""

import hashlib
import io
import os
import random
import tarfile
import zipfile

import numpy as np
import pytest
from ddbench_plugins.datasets import imagenet, names, trees
from ddbench_plugins.datasets.flat import DEVKIT
from ddbench_plugins.datasets.imagenet import ImageNette, ImageWoof, TinyImageNet
from PIL import Image

import ddbench
from ddbench.plugin.options import Preset, resolve

WOOF = list(names.class_list("imagewoof"))


@pytest.fixture(scope="session")
def jpeg():
    """A tiny JPEG of one grey level per number."""

    def make(number=0, mode="L"):
        file = io.BytesIO()
        Image.new(mode, (12, 8), {"L": number, "RGB": (number,) * 3, "CMYK": (number, 0, 0, 0)}[mode]).save(
            file, "jpeg"
        )
        return file.getvalue()

    return make


@pytest.fixture
def plant(jpeg):
    """Write a tree of class folders; the grey level tells the class's place among the ids."""

    def plant(root, ids, train=2, test=1, folders=None, test_name="val"):
        for split, count in (("train", train), (test_name, test)):
            for place, (synset, folder) in enumerate(zip(ids, folders or ids, strict=True)):
                target = root / split / folder
                target.mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    (target / f"{synset}_{number}.JPEG").write_bytes(jpeg(place * 10 % 250))
        return root

    return plant


def levels(data, split="train"):
    """The grey level of the first image of each class."""
    images, labels = data.arrays(split)
    return [int(images[labels == label][0, 0, 0, 0]) for label in range(data.num_classes)]


@pytest.mark.parametrize("folder", ["imagenette", "imagenette2-320", "imagenet"])
def test_imagenette(load, tmp_path, folder, plant):
    nette = list(names.class_list("imagenette"))
    plant(tmp_path / folder, nette + (["n15075141"] if folder == "imagenet" else []), train=3, test=2)
    data = load("imagenette", tmp_path)
    assert data.class_ids == tuple(nette)
    assert data.class_names[0] == "tench"
    assert (len(data.train), len(data.test), data.image_size) == (30, 20, 64)
    assert data.train.ids[0] == "n01440764/n01440764_0.JPEG"
    assert load("imagenette", tmp_path, size=16).arrays("test")[0].shape == (20, 16, 16, 3)


def test_a_tree_lacking_a_class(load, tmp_path, plant):
    nette = list(names.class_list("imagenette"))
    plant(tmp_path / "imagenette", nette)
    (tmp_path / "imagenette/val/n03445777/n03445777_0.JPEG").unlink()
    (tmp_path / "imagenette/val/n03445777").rmdir()
    with pytest.raises(ddbench.DataError, match=r"imagenette/val lacks the ImageNette class.* n03445777"):
        load("imagenette", tmp_path)


def test_sizes_by_scale():
    for kind in (ImageNette, ImageWoof):
        name = f"dataset/{kind.name}"
        assert resolve(kind, name, {}, Preset("paper"), {}).values.size == 224
        assert resolve(kind, name, {}, Preset("cpu"), {}).shrunk == (("size", 224, 64),)
    tiny = resolve(TinyImageNet, "dataset/tiny-imagenet", {}, Preset("paper"), {})
    assert tiny.values.size == 64 and not tiny.shrunk


def test_labels_follow_the_published_list_however_folders_are_listed(load, tmp_path, plant, monkeypatch):
    plant(tmp_path / "imagewoof", WOOF)
    first = load("imagewoof", tmp_path, size=8)
    assert levels(first) == [place * 10 for place in range(10)]
    original = os.scandir

    class Shuffled(list):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def scandir(path):
        with original(path) as entries:
            listed = list(entries)
        random.Random(1).shuffle(listed)
        return Shuffled(listed)

    monkeypatch.setattr(os, "scandir", scandir)
    again = load("imagewoof", tmp_path, size=8)
    assert again.train.ids == first.train.ids
    assert (again.train.labels == first.train.labels).all()
    assert again.fingerprint == first.fingerprint


def test_a_subset_is_taken_out_of_imagenet_and_differs_from_the_release(load, tmp_path, plant):
    """Minimax's issue 4: fast.ai's ImageWoof has other splits than ImageNet's."""
    plant(tmp_path / "one/imagenet", [*sorted(WOOF), "n15075141"], train=3)
    plant(tmp_path / "two/imagewoof2-320", WOOF)
    ours, theirs = (load("imagewoof", tmp_path / place, size=8) for place in ("one", "two"))
    assert ours.class_ids == theirs.class_ids == tuple(WOOF)
    assert ours.fingerprint != theirs.fingerprint
    assert "imagenet/{train,val}: 30 training and 10 test images" in ours.origin
    assert "imagewoof2-320/{train,val}: 20 training" in theirs.origin and "9,025 and 3,929" in theirs.origin
    with pytest.raises(ddbench.DataError, match="The data set imagemeow was not found, but imagenet/train lacks"):
        load("imagemeow", tmp_path / "one")


def test_numbered_folders_only_where_their_order_is_known(load, tmp_path, plant):
    nette = list(names.class_list("imagenette"))
    numbers = [f"{label:05d}" for label in range(10)]
    plant(tmp_path / "a/imagenette", nette)
    plant(tmp_path / "b/imagenette", nette, folders=numbers)
    plain, numbered = (load("imagenette", tmp_path / place, size=8) for place in "ab")
    assert plain.fingerprint == numbered.fingerprint and plain.train.ids == numbered.train.ids
    plant(tmp_path / "b/imagewoof", WOOF, folders=numbers)
    with pytest.raises(ddbench.DataError, match="imagewoof/train has numbered class folders, whose order nobody knows"):
        load("imagewoof", tmp_path / "b")


def devkit(folder, order):
    """Write a development kit whose class numbers are not the sorted order; the last row is no leaf."""
    from scipy.io import savemat

    rows = [(number, synset) for number, synset in enumerate([*order, "n00000001"], 1)]
    table = np.array(rows, dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")])
    (folder / "data").mkdir(parents=True)
    savemat(folder / "data/meta.mat", {"synsets": table.reshape(-1, 1)})
    (folder / "data/ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{n}\n" for n, _ in rows[:-1]))


def flat_imagenet(root, plant, jpeg, ids, order):
    """A tree whose validation image number n shows class ``order[n - 1]``."""
    plant(root, ids, test=0)
    for folder in (root / "val").iterdir():
        folder.rmdir()
    for number, synset in enumerate(order, 1):
        (root / f"val/ILSVRC2012_val_{number:08d}.JPEG").write_bytes(jpeg(ids.index(synset) * 10))


@pytest.mark.parametrize("kind", ["devkit", "packed", "kaggle", "synsets"])
def test_flat_validation_images_are_labelled_by_a_file(load, tmp_path, plant, jpeg, kind):
    order = random.Random(2).sample(WOOF, 10)
    root = tmp_path / "imagenet"
    flat_imagenet(root, plant, jpeg, WOOF, order)
    names_of = [f"ILSVRC2012_val_{number:08d}" for number in range(1, 11)]
    with pytest.raises(ddbench.DataError, match="imagenet/val has no class folders and no file of labels beside it"):
        load("imagewoof", tmp_path, size=8)
    if kind in ("devkit", "packed"):
        devkit(root / DEVKIT if kind == "devkit" else tmp_path / "x" / DEVKIT, order)
        if kind == "packed":
            with tarfile.open(tmp_path / f"{DEVKIT}.tar.gz", "w:gz") as archive:
                archive.add(tmp_path / "x" / DEVKIT, DEVKIT)
    elif kind == "kaggle":
        rows = [f"{name},{synset} 1 2 3 4 {synset} 5 6 7 8" for name, synset in zip(names_of, order, strict=True)]
        (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]))
    else:
        (root / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(order))
    data = load("imagewoof", tmp_path, size=8)
    assert levels(data, "test") == [place * 10 for place in range(10)]
    assert data.test.ids[0] == f"{WOOF[0]}/ILSVRC2012_val_{order.index(WOOF[0]) + 1:08d}.JPEG"
    assert data.origin.startswith("class folders imagenet/{train,val}: 20 training and 10 test")


def test_wrong_label_files_are_explained(load, tmp_path, plant, jpeg):
    root = tmp_path / "imagenet"
    flat_imagenet(root, plant, jpeg, WOOF, WOOF)
    (root / DEVKIT / "data").mkdir(parents=True)
    with pytest.raises(ddbench.DataError, match=f"The labels in {DEVKIT} cannot be read"):
        load("imagewoof", tmp_path)
    (root / "val/LOC_val_solution.csv").write_text("ImageId,PredictionString\n")
    with pytest.raises(ddbench.DataError, match=r"LOC_val_solution.csv labels no image"):
        load("imagewoof", tmp_path)
    (root / "val/LOC_val_solution.csv").write_text(f"ILSVRC2012_val_00000001,{WOOF[0]} 1\n")
    with pytest.raises(ddbench.DataError, match=r"image ILSVRC2012_val_00000002.JPEG has no label \(9 such images\)"):
        load("imagewoof", tmp_path)


def tiny(root, jpeg):
    """Tiny-ImageNet as Stanford packs it."""
    ids = list(names.class_list("tiny-imagenet"))
    rows = []
    for place, synset in enumerate(ids):
        (root / f"train/{synset}/images").mkdir(parents=True)
        (root / f"train/{synset}/{synset}_boxes.txt").write_text("")
        (root / f"train/{synset}/images/{synset}_0.JPEG").write_bytes(jpeg(place))
        rows.append(f"val_{place}.JPEG\t{ids[-1 - place]}\t0\t32\t44\t62")
    (root / "val/images").mkdir(parents=True)
    (root / "test/images").mkdir(parents=True)
    for place in range(200):
        (root / f"val/images/val_{place}.JPEG").write_bytes(jpeg(199 - place))
    (root / "val/val_annotations.txt").write_text("\n".join(rows))
    return ids


def test_tiny_imagenet_as_published(load, tmp_path, jpeg, recwarn):
    ids = tiny(tmp_path / "tiny-imagenet-200", jpeg)
    data = load("tiny-imagenet", tmp_path, size=8)
    assert data.class_ids == tuple(ids)
    assert levels(data) == levels(data, "test") == list(range(200))
    assert data.train.ids[0] == f"{ids[0]}/{ids[0]}_0.JPEG"
    assert "tiny-imagenet-200/{train,val}: 200 training" in data.origin
    assert not [warning for warning in recwarn if "no images" in str(warning.message)]


def test_an_archive_is_checked_and_unpacked(load, tmp_path, plant, monkeypatch):
    plant(tmp_path / "made/imagewoof2-320", WOOF)
    packed = tmp_path / "data/imagewoof2-320.tgz"
    packed.parent.mkdir()
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(tmp_path / "made/imagewoof2-320", "imagewoof2-320")
    with pytest.raises(ddbench.DataError, match=r"imagewoof2-320.tgz is damaged or incomplete: its sha256 is not"):
        load("imagewoof", packed.parent)
    source = dict(imagenet.sources()["imagewoof"])
    checksum = f"sha256:{hashlib.sha256(packed.read_bytes()).hexdigest()}"
    source["archives"] = [{**source["archives"][0], "checksum": checksum}]
    monkeypatch.setitem(imagenet.sources(), "imagewoof", source)
    data = load("imagewoof", packed.parent, size=8)
    assert levels(data) == [place * 10 for place in range(10)]
    assert sorted(path.name for path in packed.parent.iterdir()) == ["imagewoof2-320", "imagewoof2-320.tgz"]


def test_a_broken_archive_leaves_nothing_behind(load, tmp_path, jpeg, monkeypatch):
    tiny(tmp_path / "made/tiny-imagenet-200", jpeg)
    packed = tmp_path / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((tmp_path / "made").rglob("*.JPEG"))[:50]:
            archive.write(path, path.relative_to(tmp_path / "made"))
    raw = packed.read_bytes()
    packed.write_bytes(raw[: len(raw) // 2])
    source = {**imagenet.sources()["tiny-imagenet"], "archives": [{"url": "https://x/tiny-imagenet-200.zip"}]}
    monkeypatch.setitem(imagenet.sources(), "tiny-imagenet", source)
    with pytest.raises(ddbench.DataError, match=r"tiny-imagenet-200.zip cannot be unpacked"):
        load("tiny-imagenet", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["made", packed.name]


def test_grey_and_cmyk_files_are_converted_and_a_png_may_be_called_jpeg(load, tmp_path, plant, jpeg):
    plant(tmp_path / "imagewoof", WOOF)
    folder = tmp_path / "imagewoof/train" / WOOF[0]
    (folder / "a.JPEG").write_bytes(jpeg(100, "CMYK"))
    Image.new("RGB", (12, 8), (9, 8, 7)).save(folder / "b.JPEG", "png")
    images = load("imagewoof", tmp_path, size=8).arrays("train")[0]
    assert images.shape == (22, 8, 8, 3)
    assert abs(images[0, 0, 0].astype(int) - [155, 255, 255]).max() < 12
    assert images[1, 0, 0].tolist() == [9, 8, 7]


def test_a_large_tree_is_known_by_names_and_sizes(load, tmp_path, plant, jpeg, monkeypatch):
    """20 classes × 5 as if they were 1,000 × 1,300: no byte digest, nothing decoded unless asked for."""
    twenty = list(names.class_list("imagenet-100"))[:20]
    listed = {"twenty": {synset: synset for synset in twenty}}
    monkeypatch.setattr(imagenet, "class_list", lambda name: listed["twenty"])
    for limit in ("FILES_LIMIT", "ARRAY_LIMIT"):
        monkeypatch.setattr(trees, limit, 10)
    plant(tmp_path / "imagenet", twenty, train=5)
    decoded = []
    original = ddbench.FileImages.load
    monkeypatch.setattr(ddbench.FileImages, "load", lambda *a: decoded.append(a) or original(*a))
    data = load("imagenet-1k", tmp_path, size=8)
    assert (data.num_classes, len(data.train), decoded) == (20, 100, [])
    path = tmp_path / "imagenet/train" / twenty[3] / f"{twenty[3]}_0.JPEG"
    raw = path.read_bytes()
    path.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
    assert load("imagenet-1k", tmp_path, size=8).fingerprint == data.fingerprint
    path.write_bytes(raw + b"\0")
    longer = load("imagenet-1k", tmp_path, size=8)
    assert longer.fingerprint != data.fingerprint
    assert longer.train.images.prepare(8) == 100 * 8 * 8 * 3
    count = len(decoded)
    assert count == 100
    again = load("imagenet-1k", tmp_path, size=8)
    assert again.arrays("train")[0].shape == (100, 8, 8, 3) and len(decoded) == count
    path.write_bytes(raw[: len(raw) // 2])  # cut off: found at once, although nothing is decoded
    with pytest.raises(ddbench.DataError, match=f"image {twenty[3]}/{twenty[3]}_0.JPEG cannot be read"):
        load("imagenet-1k", tmp_path, size=8)


def test_decoding_goes_on_where_it_stopped(load, tmp_path, plant, monkeypatch):
    plant(tmp_path / "imagewoof", WOOF, train=30)
    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", "0")
    decoded = []
    original = ddbench.FileImages.load

    def stop(source, index, size):
        decoded.append(index)
        if index == 290 and len(decoded) < 700:
            raise KeyboardInterrupt
        return original(source, index, size)

    monkeypatch.setattr(ddbench.FileImages, "load", stop)
    with pytest.raises(KeyboardInterrupt):
        load("imagewoof", tmp_path, size=8)
    first = len(decoded)
    decoded.extend([-1] * 700)
    data = load("imagewoof", tmp_path, size=8)
    assert decoded[first + 700] >= 256  # what was checkpointed is not decoded again
    assert [int(data.arrays("train")[0][30 * label, 0, 0, 0]) for label in range(10)] == [c * 10 for c in range(10)]


def test_digests_of_long_lists_are_those_of_short_ones():
    for items in ([], [1], [["ä", 3], ["b", 4]], [[f"n{i}", i] for i in range(9000)]):
        assert trees.digest_of_list(iter(items)) == ddbench.digest(items)
