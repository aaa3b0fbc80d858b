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


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
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


def test_a_missing_file_is_explained(load, tmp_path):
    with pytest.raises(ddbench.DataError, match="no arrays at npz:gone") as caught:
        load("npz:gone", data=tmp_path)
    assert str(tmp_path / "gone") in caught.value.hint
