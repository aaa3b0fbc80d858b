import json
import shutil

import numpy as np
import pytest
from PIL import Image

import ddbench


def test_a_tree_with_train_and_test_folders(load, tree):
    data = load(f"folder:{tree}")
    assert data.name == "folder:pets"
    assert data.class_ids == ("a_dog", "b")
    assert data.class_names == ("a dog", "b")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data.train.ids == ("a_dog/0.png", "a_dog/1.png", "a_dog/2.png", "b/0.png", "b/1.png", "b/2.png", "b/3.png")
    assert data.image_size == 12  # all images are squares of this side
    images, _ = data.arrays("train")
    assert (images[3] == np.asarray(Image.open(tree / "train" / "b" / "0.png"))).all()
    assert str(tree.parent) not in json.dumps(data.describe())
    assert "7 training and 4 test" in data.origin


def test_a_single_tree_is_split_and_says_so(load, tree):
    data = load(f"folder:{tree / 'train'}", test_fraction=0.3, split_seed=5)
    assert len(data.train) + len(data.test) == 7
    assert set(data.train.labels) == set(data.test.labels) == {0, 1}
    assert not set(data.train.ids) & set(data.test.ids)
    assert "stratified split with seed 5" in data.origin
    assert load(f"folder:{tree / 'train'}", test_fraction=0.3, split_seed=5).fingerprint == data.fingerprint


def test_val_counts_as_test_and_a_relative_path_is_found_in_the_data_folder(load, tree):
    (tree / "test").rename(tree / "val")
    assert len(load("folder:pets", data=tree.parent).test) == 4


def test_files_are_decoded_once(load, tree, monkeypatch):
    first = load(f"folder:{tree}")
    decoded = []
    original = ddbench.FileImages.load
    monkeypatch.setattr(ddbench.FileImages, "load", lambda *a: decoded.append(a) or original(*a))
    again = load(f"folder:{tree}")
    assert (again.arrays("train")[0] == first.arrays("train")[0]).all()
    assert not decoded
    assert again.arrays("train", 8)[0].shape == (7, 8, 8, 3)
    assert len(decoded) == 7
    assert again.arrays("train", 8)[0].shape == (7, 8, 8, 3)
    again.train.images.load(2, 8)
    assert len(decoded) == 7


def test_other_sizes_are_decoded_from_the_files_not_from_the_kept_array(load, tree):
    data = load(f"folder:{tree}", size=4)
    full = data.train.images.batch([0], 12)
    assert (full[0] == np.asarray(Image.open(tree / "train" / "a_dog" / "0.png"))).all()


def test_different_sizes_take_the_default_side(load, tree, draw):
    draw(tree / "train" / "b" / "9.png", 1, (40, 20))
    data = load(f"folder:{tree}")
    assert data.image_size == 32
    assert data.arrays("train")[0].shape == (8, 32, 32, 3)


def test_grey_images_have_one_channel(load, tmp_path, draw):
    for name in "ab":
        for i in range(4):
            draw(tmp_path / "grey" / name / f"{i}.png", i, mode="L")
    assert load(f"folder:{tmp_path / 'grey'}").arrays("train")[0].shape[-1] == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("names.txt", "a_dog Dalmatian, coach dog\nb cat\n"),
        ("names.txt", "Dalmatian\ncat\n"),
        ("names.toml", '[names]\nb = "cat"\na_dog = "Dalmatian"\n'),
        ("classes.json", '{"b": "cat", "a_dog": "Dalmatian"}'),
        ("classes.json", '["Dalmatian", "cat"]'),
    ],
)
def test_readable_names_from_a_file(load, tree, file, text):
    base = load(f"folder:{tree}")
    (tree / file).write_text(text, "utf-8")
    named = load(f"folder:{tree}")
    assert named.class_names == ("Dalmatian", "cat")
    assert named.class_ids == base.class_ids
    assert named.fingerprint == base.fingerprint
    (tree / file).rename(tree.parent / f"elsewhere-{file}")
    assert load(f"folder:{tree}", names=str(tree.parent / f"elsewhere-{file}")).class_names == ("Dalmatian", "cat")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("names.txt", "one\ntwo\nthree\n", "3 names for 2 classes"),
        ("names.toml", 'b = "cat"', "no name for class 'a_dog'"),
        ("names.toml", "b = ", "names.toml cannot be read"),
        ("classes.json", "3", "classes.json cannot be read"),
    ],
)
def test_a_wrong_file_of_names_is_explained(load, tree, file, text, message):
    (tree / file).write_text(text, "utf-8")
    with pytest.raises(ddbench.DataError, match=message):
        load(f"folder:{tree}")


def test_synset_folders_get_readable_names(load, tmp_path, draw):
    for name in ("n02096294", "n01440764"):
        for i in range(3):
            draw(tmp_path / "dogs" / name / f"{i}.png", i)
    assert load(f"folder:{tmp_path / 'dogs'}").class_names == ("tench", "Australian terrier")


def test_an_empty_and_a_corrupt_image_are_named_and_nothing_is_kept(load, tree, ctx):
    bad = tree / "train" / "b" / "1.png"
    content = bad.read_bytes()
    bad.write_bytes(b"")
    with pytest.raises(ddbench.DataError, match=r"image b/1.png is empty"):
        load(f"folder:{tree}")
    bad.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12345\n")
    with pytest.raises(ddbench.DataError, match=r"image b/1.png cannot be read \(it is a Git LFS pointer"):
        load(f"folder:{tree}")
    bad.write_bytes(content[: len(content) // 2])
    (tree / "train" / "b" / "3.png").write_bytes(b"GIF89a nonsense")
    with pytest.raises(ddbench.DataError, match=r"image b/1.png cannot be read .*\(2 broken files in all\)") as caught:
        load(f"folder:{tree}")
    assert "Replace or remove" in caught.value.hint
    assert not list(ctx.store.root.rglob("images.npy"))
    bad.unlink()
    (tree / "train" / "b" / "3.png").unlink()
    assert len(load(f"folder:{tree}").train) == 5


def test_a_header_that_claims_a_vast_size_is_named(load, tree):
    path = tree / "train" / "b" / "2.bmp"
    Image.new("RGB", (8, 8)).save(path)
    raw = bytearray(path.read_bytes())
    raw[18:26] = (200_000).to_bytes(4, "little") * 2  # width and height
    path.write_bytes(raw)
    with pytest.raises(ddbench.DataError, match=r"image b/2.bmp cannot be read \(Image size"):
        load(f"folder:{tree}")


def test_a_dead_link_is_named(load, tree):
    (tree / "train" / "b" / "7.png").symlink_to(tree / "gone.png")
    with pytest.raises(ddbench.DataError, match=r"image b/7.png is not readable"):
        load(f"folder:{tree}")


def test_other_files_are_ignored_with_a_warning(load, tree):
    (tree / "train" / "b" / "notes.txt").write_text("hello")
    (tree / "train" / "b" / ".DS_Store").write_text("")
    with pytest.warns(UserWarning, match=r"1 file\(s\) that are no images were ignored, the first is b/notes.txt"):
        assert len(load(f"folder:{tree}").train) == 7


def test_the_fingerprint_notices_content_names_and_size(load, tree, draw):
    prints = [load(f"folder:{tree}").fingerprint, load(f"folder:{tree}", size=8).fingerprint]
    moved = tree.with_name("moved")
    shutil.copytree(tree, moved)
    assert load(f"folder:{moved}").fingerprint == prints[0]
    (tree / "train" / "b" / "3.png").rename(tree / "train" / "b" / "4.png")
    prints.append(load(f"folder:{tree}").fingerprint)
    draw(tree / "train" / "b" / "4.png", seed=99)
    prints.append(load(f"folder:{tree}").fingerprint)
    assert len(set(prints)) == 4


def test_what_is_missing_is_said(load, tree):
    with pytest.raises(ddbench.DataError, match="no folder 'nowhere'") as caught:
        load("folder:nowhere")
    assert "no-data" in caught.value.hint
    with pytest.raises(ddbench.DataError, match="0 class folder"):
        load(f"folder:{tree / 'train' / 'b'}")
    shutil.rmtree(tree / "test" / "b")
    with pytest.raises(ddbench.DataError, match="class 'b' is only in train"):
        load(f"folder:{tree}")
    (tree / "test" / "b").mkdir()
    with pytest.raises(ddbench.DataError, match="class folder 'b' has no images"):
        load(f"folder:{tree}")
    with pytest.raises(ddbench.DataError, match=r"no file of class names 'x.txt'"):
        load(f"folder:{tree / 'train'}", names="x.txt")


def test_a_class_with_one_image_cannot_be_split(load, tree, draw):
    draw(tree / "train" / "lonely" / "0.png", 0)
    with pytest.raises(ddbench.DataError, match="'lonely' has only one image"):
        load(f"folder:{tree / 'train'}")


@pytest.mark.parametrize("names", [("train", "Testing"), ("train",), ("Train", "val")])
def test_folders_named_as_splits_are_not_taken_for_classes(load, tree, names):
    (tree / "train").rename(tree / "kept")
    shutil.rmtree(tree / "test")
    for name in names:
        shutil.copytree(tree / "kept", tree / name)
    shutil.rmtree(tree / "kept")
    with pytest.raises(ddbench.DataError, match=f"has {' and '.join(sorted(names))}, but not both"):
        load(f"folder:{tree}")


@pytest.mark.parametrize(("kind", "mode"), [(np.uint16, "I;16"), (np.int32, "I"), (np.float32, "F")])
def test_values_that_do_not_fit_into_8_bits_are_refused_not_clipped(load, tree, kind, mode):
    Image.fromarray(np.arange(144).reshape(12, 12).astype(kind)).save(tree / "train" / "b" / "deep.tiff")
    with pytest.raises(ddbench.DataError, match=rf"b/deep.tiff cannot be read \(.*8 bits \(mode {mode}\); save it"):
        load(f"folder:{tree}")
