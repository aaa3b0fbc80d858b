import io
import os
import zipfile

import numpy as np
import pytest

import ddbench


def arrays(n, seed, channels=3):
    shape = (n, 10, 10, channels) if channels else (n, 10, 10)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8), np.arange(n) % 2


@pytest.fixture
def pair(tmp_path):
    for split, n in (("train", 8), ("test", 4)):
        images, labels = arrays(n, n)
        np.savez(tmp_path / f"toy_{split}.npz", images=images, labels=labels, class_names=["cat", "dog"])
    return tmp_path / "toy"


@pytest.mark.parametrize("ending", ["", ".npz", "_train", "_train.npz"])
def test_a_pair(load, pair, ending):
    data = load(f"npz:{pair}{ending}")
    assert data.name == "npz:toy"
    assert data.class_names == data.class_ids == ("cat", "dog")
    assert (len(data.train), len(data.test), data.image_size) == (8, 4, 10)
    assert (data.arrays("train")[0] == arrays(8, 8)[0]).all()
    assert "/" not in data.origin


def test_a_single_file_gives_the_same_data_set(load, pair, tmp_path):
    (train, train_labels), (test, test_labels) = arrays(8, 8), arrays(4, 4)
    np.savez_compressed(
        tmp_path / "one.npz",
        train_images=train,
        train_labels=train_labels[:, None].astype(np.uint8),
        test_images=test,
        test_labels=test_labels,
        class_names=["cat", "dog"],
    )
    assert load("npz:one.npz", data=tmp_path).fingerprint == load(f"npz:{pair}").fingerprint


def test_keras_names_grey_images_and_no_class_names(load, tmp_path):
    (train, train_labels), (test, test_labels) = arrays(8, 1, 0), arrays(4, 2, 0)
    np.savez(tmp_path / "grey.npz", x_train=train, y_train=train_labels, x_test=test, y_test=test_labels)
    data = load(f"npz:{tmp_path / 'grey.npz'}", size=5, flip=False)
    assert (data.channels, data.image_size, data.flip, data.class_names) == (1, 5, False, ("0", "1"))
    assert data.arrays("test")[0].shape == (4, 5, 5, 1)


def test_classes_in_another_order_in_the_test_file(load, pair):
    images, labels = arrays(4, 4)
    np.savez(pair.with_name("toy_test.npz"), images=images, labels=1 - labels, class_names=["dog", "cat"])
    assert load(f"npz:{pair}").test.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(load, pair, keep):
    path = pair.with_name("toy_test.npz")
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ddbench.DataError, match=r"toy_test.npz cannot be read"):
        load(f"npz:{pair}")


def test_what_stands_in_for_arrays_is_named(load, pair):
    for content, words in (
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<html>", "web page"),
    ):
        pair.with_name("toy_test.npz").write_bytes(content)
        with pytest.raises(ddbench.DataError, match=f"toy_test.npz cannot be read: it is a {words}"):
            load(f"npz:{pair}")


def test_pickled_arrays_are_refused(load, pair):
    np.savez(pair.with_name("toy_test.npz"), images=np.array([object()]), labels=np.array([0]))
    with pytest.raises(ddbench.DataError, match=r"toy_test.npz cannot be read") as caught:
        load(f"npz:{pair}")
    assert "never loaded" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": np.zeros(2, int)}, "no array test_images or x_test or images; it has labels"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(2)}, "labels must be integers"),
        ({"images": np.zeros((2, 4, 4, 3)), "labels": np.zeros(2, int)}, "float64"),
    ],
)
def test_wrong_arrays_are_explained(load, pair, content, message):
    np.savez(pair.with_name("toy_test.npz"), **content)
    with pytest.raises(ddbench.DataError, match=message):
        load(f"npz:{pair}")


def whole(**more):
    (train, labels), (test, test_labels) = arrays(8, 8), arrays(4, 4)
    return {"train_images": train, "train_labels": labels, "test_images": test, "test_labels": test_labels, **more}


def test_a_file_of_one_split_is_never_both(load, tmp_path):
    images, labels = arrays(8, 8)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    with pytest.raises(ddbench.DataError, match=r"mine.npz has images and labels of no split") as caught:
        load(f"npz:{tmp_path / 'mine.npz'}")
    assert "test_images" in caught.value.hint
    for lacking, standing_in in (("test_images", "images"), ("test_labels", "labels")):
        content = whole()
        content[standing_in] = content.pop(lacking)
        np.savez(tmp_path / "mine.npz", **content)
        with pytest.raises(ddbench.DataError, match=f"mine.npz has no array {lacking}"):
            load(f"npz:{tmp_path / 'mine.npz'}")
    np.savez(tmp_path / "mine.npz", **whole(x_test=images))
    with pytest.raises(ddbench.DataError, match=r"mine.npz has both test_images and x_test"):
        load(f"npz:{tmp_path / 'mine.npz'}")


def test_a_file_that_is_named_is_read_whatever_lies_beside_it(load, pair):
    named = pair.with_name("toy.npz")
    np.savez(named, **whole(class_names=["bird", "fish"]))
    data = load(f"npz:{named}")
    assert data.class_names == ("bird", "fish") and data.origin.startswith("arrays of toy.npz:")
    assert load(f"npz:{pair}_train.npz").class_names == ("cat", "dog")
    with pytest.raises(ddbench.DataError, match=r"may be toy.npz, or toy_train.npz and toy_test.npz") as caught:
        load(f"npz:{pair}")
    assert "toy.npz" in caught.value.hint
    np.savez(pair.with_name("toy_train.npz"), **whole())
    assert load(f"npz:{pair}_train.npz").origin.startswith("arrays of toy_train.npz:")


def test_test_images_that_are_training_images_are_told(load, tmp_path):
    content = whole()
    content["test_images"] = content["train_images"][:4]
    np.savez(tmp_path / "mine.npz", **content)
    with pytest.raises(ddbench.DataError, match="all 4 test images are training images"):
        load(f"npz:{tmp_path / 'mine.npz'}")
    with pytest.warns(UserWarning, match="all 4 test images are training images"):
        load(f"npz:{tmp_path / 'mine.npz'}", test_on_training=True)
    empty = {"test_images": content["test_images"][:0], "test_labels": content["test_labels"][:0]}
    np.savez(tmp_path / "mine.npz", **(content | empty))
    with pytest.raises(ddbench.DataError, match="test split has no images"):
        load(f"npz:{tmp_path / 'mine.npz'}")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"class_names": ["a", "a"]}, "has the class 'a' more than once"),
        ({"class_names": ["caf\u00e9", "cafe\u0301"]}, "has the class 'caf\u00e9' more than once"),
        ({"class_names": ["a", " "]}, "has a class without a name"),
        ({"class_names": ["a", "b", "c"]}, "no image of class number 2"),
        ({"class_names": ["a"]}, "labels from 0 to 1, outside 0…0"),
        ({"class_names": [["a", "b"]]}, r"class_names is <U1 \[1, 2\]"),
        ({"class_names": [0.5, 1.5]}, "class_names is float64"),
        ({"class_names": ["a", "b"], "class_ids": ["1"]}, "1 class_ids for 2 class_names"),
        ({"train_labels": np.full(8, 2_000_000_000)}, "labels from 2000000000 to 2000000000"),
        ({"train_labels": np.full(8, 2**64 - 1, np.uint64)}, "labels from 18446744073709551615"),
        ({"train_labels": np.arange(8) % 2 - 1}, "labels from -1 to 0"),
        ({"train_labels": np.arange(8) % 2 * 900_000}, "labels up to 900000, but no image of class 2"),
        ({"train_labels": np.eye(8, dtype=int)}, r"labels have the shape \[8, 8\]"),
        ({"train_labels": np.ones(8, bool)}, "labels must be integers, not bool"),
        ({"train_images": np.zeros((0, 10, 10, 3), np.uint8), "train_labels": np.zeros(0, int)}, "no images"),
        ({"train_images": np.zeros((8, 10, 10, 3))}, "images of float64"),
        ({"test_images": np.zeros((4, 10, 10, 1), np.uint8)}, "3 channels, test images 1"),
        ({"train_labels": np.zeros(8, int), "test_labels": np.zeros(4, int)}, "has one class"),
    ],
)
def test_what_is_wrong_with_a_users_arrays_names_their_file_and_advises(load, tmp_path, more, message):
    np.savez(tmp_path / "mine.npz", **whole(**more))
    with pytest.raises(ddbench.DataError, match=rf"mine.*{message}") as caught:
        load(f"npz:{tmp_path / 'mine.npz'}")
    assert caught.value.hint


def test_ids_tell_classes_of_one_name_apart_and_order_both_files(load, pair):
    for split, n in (("train", 8), ("test", 4)):
        images, labels = arrays(n, n)
        ids, found = (["x1", "x2"], labels) if split == "train" else (["x2", "x1"], 1 - labels)
        np.savez(f"{pair}_{split}.npz", images=images, labels=found, class_names=["crane"] * 2, class_ids=ids)
    data = load(f"npz:{pair}")
    assert data.class_ids == ("x1", "x2") and data.class_names == ("crane", "crane")
    assert data.test.labels.tolist() == arrays(4, 4)[1].tolist()


def test_names_of_both_files_may_spell_accents_differently(load, pair):
    for split, n, name in (("train", 8, "caf\u00e9"), ("test", 4, "cafe\u0301")):
        images, labels = arrays(n, n)
        np.savez(f"{pair}_{split}.npz", images=images, labels=labels, class_names=["cat", name])
    assert load(f"npz:{pair}").class_names == ("cat", "caf\u00e9")


def test_bytes_are_names(load, tmp_path):
    np.savez(tmp_path / "mine.npz", **whole(class_names=np.array([b"cat", b"dog"])))
    assert load(f"npz:{tmp_path / 'mine.npz'}").class_names == ("cat", "dog")


def test_an_encrypted_file_is_named(load, tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **whole())
    raw = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := raw.find(mark, start + 1)) >= 0:
            raw[start + flags] |= 1
    path.write_bytes(raw)
    with pytest.raises(ddbench.DataError, match=r"mine.npz is encrypted"):
        load(f"npz:{path}")


def bomb(path, declared):
    """A small file that says that its images take so many bytes."""
    np.savez_compressed(path, **whole())
    raw = bytearray(path.read_bytes())
    start = raw.find(b"PK\x01\x02")
    raw[start + 24 : start + 28] = declared.to_bytes(4, "little")
    path.write_bytes(raw)


def test_sizes_are_looked_at_before_anything_is_unpacked(load, tmp_path):
    bomb(tmp_path / "bomb.npz", 3 * 2**30)
    with pytest.raises(ddbench.DataError, match=r"bomb.npz would unpack to"):
        load(f"npz:{tmp_path / 'bomb.npz'}")


def test_shapes_that_no_memory_holds_are_refused(load, tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 2**10)})
    np.savez(tmp_path / "mine.npz", **whole())
    with zipfile.ZipFile(tmp_path / "mine.npz") as old, zipfile.ZipFile(tmp_path / "vast.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, head.getvalue() if name == "train_images.npy" else old.read(name))
    with pytest.raises(ddbench.DataError, match=r"vast.npz cannot be read"):
        load(f"npz:{tmp_path / 'vast.npz'}")


def test_pipes_devices_and_stand_ins_are_named(load, tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "lfs.npz").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    (tmp_path / "page.npz").write_bytes(b"<html><title>Sign in</title>")
    (tmp_path / "none.npz").write_bytes(b"")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for name, message in {
        "pipe": "pipe or a device",
        "zero": "pipe or a device",
        "folder": "folder, not a file",
        "lfs": "Git LFS pointer",
        "page": "web page",
        "none": "is empty",
        "one": "single array",
    }.items():
        with pytest.raises(ddbench.DataError, match=message):
            load(f"npz:{tmp_path / name}.npz")


def test_a_missing_file_is_explained(load, tmp_path):
    with pytest.raises(ddbench.DataError, match="no arrays at npz:gone") as caught:
        load("npz:gone", data=tmp_path)
    assert str(tmp_path / "gone") in caught.value.hint
