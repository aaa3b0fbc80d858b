import itertools
import json
import os
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
        ("names.txt", "\ufeffa_dog\tDalmatian\r\nb\tcat\r\n"),
        ("names.txt", "id,name\na_dog,Dalmatian\nb,cat\nothers,horse\n"),
        ("names.txt", "# of pets\na_dog: Dalmatian\nb; cat\n"),
        ("names.toml", '[names]\nb = "cat"\na_dog = "Dalmatian"\n'),
        ("classes.json", '{"b": "cat", "a_dog": "Dalmatian"}'),
        ("classes.json", '\ufeff{"b": "cat", "a_dog": "Dalmatian", "other": 3}'),
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
        ("names.txt", "one\ntwo\nthree\n", r"no name for class 'a_dog' \(2 of 2 missing\)"),
        ("names.txt", "Dalmatian\ncat\n", r"no name for class 'a_dog' \(2 of 2 missing\)"),  # whose is anybody's guess
        ("names.txt", "b\n", "no name for class 'a_dog'"),
        ("names.txt", "0 Dalmatian\n1 cat\n", "no name for class 'a_dog'"),
        ("names.txt", "a_dgo Dalmatian\nb cat\n", r"no name for class 'a_dog' \(1 of 2 missing\)"),
        ("names.txt", "a_dog 0\nb 1\n", "has numbers for names, such as '0' for 'a_dog'"),
        ("names.txt", "a_dog ,\nb cat\n", "an empty name for class 'a_dog'"),
        ("names.txt", "a_dog Dalmatian\nb cat\nb dog\n", "names class 'b' twice: 'cat' and 'dog'"),
        ("classes.json", '["Dalmatian", "cat"]', "no table from class folders to names"),
        ("classes.json", '{"a_dog": 0, "b": 1}', "the name of 'a_dog' is no text"),
        ("classes.json", '{"a_dog": "x", "b": "y", "b": "z"}', "a key stands in it twice"),
        ("names.txt", "", "no name for class 'a_dog'"),
        ("names.toml", 'b = "cat"', "no name for class 'a_dog'"),
        ("names.toml", "b = ", "names.toml cannot be read"),
        ("classes.json", "3", "classes.json cannot be read"),
    ],
)
def test_a_wrong_file_of_names_is_explained(load, tree, file, text, message):
    (tree / file).write_text(text, "utf-8")
    with pytest.raises(ddbench.DataError, match=message):
        load(f"folder:{tree}")


@pytest.mark.parametrize("text", ["b\na_dog\n", "a_dog\nb\n", "# classes\n\nb\r\na_dog"])
def test_a_list_of_the_folders_themselves_names_nothing_anew(load, tree, text):
    (tree / "names.txt").write_text(text)
    found = load(f"folder:{tree}")
    assert (found.class_ids, found.class_names) == (("a_dog", "b"), ("a dog", "b"))


def test_an_id_that_is_the_beginning_of_another_is_not_guessed(load, tree):
    for split in ("train", "test"):
        (tree / split / "b").rename(tree / split / "a_dog too")
    (tree / "names.txt").write_text("a_dog too good\na_dog Dalmatian\n")
    with pytest.raises(ddbench.DataError, match="'a_dog too good' may be of class 'a_dog' or 'a_dog too'"):
        load(f"folder:{tree}")


def test_names_that_are_read_without_being_asked_for_are_told(load, tree):
    (tree / "names.txt").write_text("a_dog Dalmatian\nb cat\n")
    assert "class names of names.txt" in load(f"folder:{tree}").origin
    (tree / "classes.json").write_text('{"a_dog": "poodle", "b": "cat"}')
    with pytest.raises(ddbench.DataError, match=r"pets has names.txt and classes.json") as caught:
        load(f"folder:{tree}")
    assert "data.names=" in caught.value.hint
    assert load(f"folder:{tree}", names="classes.json").class_names[0] == "poodle"


def test_numbered_folders_are_named_by_their_numbers(load, tmp_path, draw):
    for number in range(12):
        for i in range(2):
            draw(tmp_path / "n" / str(number) / f"{i}.png", number * 9 + i)
    (tmp_path / "n/names.txt").write_text("\n".join(f"{number} name{number}" for number in range(12)))
    data = load(f"folder:{tmp_path / 'n'}")
    assert data.class_names == tuple(f"name{key}" for key in data.class_ids)


def test_accents_in_two_spellings_are_one_class(load, tree):
    composed, apart = "caf\u00e9", "cafe\u0301"
    (tree / "train/b").rename(tree / "train" / apart)
    (tree / "test/b").rename(tree / "test" / composed)
    (tree / "names.txt").write_text(f"a_dog dog\n{apart} coffee\n", "utf-8")
    data = load(f"folder:{tree}")
    assert data.class_ids == ("a_dog", composed)
    assert data.class_names == ("dog", "coffee")
    assert data.train.ids[-1] == f"{composed}/3.png"
    shutil.copytree(tree / "train" / apart, tree / "train" / composed)
    with pytest.raises(ddbench.DataError, match="train has two class folders 'caf\u00e9'"):
        load(f"folder:{tree}")


@pytest.mark.parametrize("where", ["train/b/0.png", "train/b", "train/b/inner"])
def test_names_that_are_not_utf8_are_named(load, tree, where):
    (tree / "train/b/inner").mkdir()
    shutil.copy(tree / "test/b/0.png", tree / "train/b/inner/0.png")
    path = tree / where
    path.rename(path.with_name(os.fsdecode(b"caf\xe9") + path.suffix))
    with pytest.raises(ddbench.DataError, match=r"caf\\xe9(\.png|/0\.png)? has a name that is not UTF-8"):
        load(f"folder:{tree}")


def test_links_to_folders_are_followed_but_not_in_circles(load, tree):
    more = tree.parent / "more"
    shutil.copytree(tree / "train" / "b", more)
    (tree / "train/b/more").symlink_to(more)
    (tree / "train/a_dog/up").symlink_to(tree / "train")
    (tree / "train/a_dog/all").symlink_to(tree.parent)
    (tree / "train/b/self").symlink_to(tree / "train/b")
    data = load(f"folder:{tree}")
    assert data.train.counts(2) == [3, 8]
    assert "b/more/0.png" in data.train.ids


def test_pipes_and_devices_are_named_and_never_opened(load, tree):
    os.mkfifo(tree / "train/b/pipe.png")
    with pytest.raises(ddbench.DataError, match=r"image b/pipe.png is a pipe or a device"):
        load(f"folder:{tree}")
    (tree / "train/b/pipe.png").unlink()
    (tree / "train/b/zero.png").symlink_to("/dev/zero")
    with pytest.raises(ddbench.DataError, match=r"image b/zero.png is a pipe or a device"):
        load(f"folder:{tree}")
    with pytest.raises(ddbench.DataError, match="no ordinary file"):
        ddbench.FileImages([tree / "train/b/zero.png"]).load(0, 8)
    (tree / "train/b/zero.png").unlink()
    os.mkfifo(tree / "names.txt")
    with pytest.raises(ddbench.DataError, match=r"names.txt is a pipe"):
        load(f"folder:{tree}")


@pytest.mark.parametrize(
    ("content", "what"), [(b"version https://git-lfs.github.com/spec/v1\noid", "LFS"), (b"<!DOCTYPE html>", "web page")]
)
def test_what_stands_in_for_an_image_is_named(load, tree, content, what):
    (tree / "train/b/1.png").write_bytes(content)
    with pytest.raises(ddbench.DataError, match=rf"image b/1.png cannot be read .*{what}"):
        load(f"folder:{tree}")


def test_test_images_that_are_training_images_are_told(load, tree):
    shutil.copy(tree / "train/b/0.png", tree / "test/b/9.png")
    with pytest.warns(UserWarning, match="1 of 5 test images are training images"):
        load(f"folder:{tree}")
    shutil.rmtree(tree / "test")
    shutil.copytree(tree / "train", tree / "test")
    with pytest.raises(ddbench.DataError, match="all 7 test images are training images") as caught:
        load(f"folder:{tree}")
    assert "data.test_on_training=true" in caught.value.hint
    with pytest.warns(UserWarning, match="all 7 test images are training images"):
        load(f"folder:{tree}", test_on_training=True)


@pytest.mark.parametrize("split", ["", "train"])
def test_domains_with_classes_inside_are_no_classes(load, draw, tree, tmp_path, split):
    root = tmp_path / "office"
    for number, (domain, name) in enumerate(itertools.product(("art", "photo"), ("cup", "pen"))):
        for i in range(4):
            draw(root / split / domain / name / f"{i}.png", 10 * number + i)
    if split:
        shutil.copytree(root / "train", root / "test")
    with pytest.raises(ddbench.DataError, match="every class folder has cup, pen inside") as caught:
        load(f"folder:{root}")
    assert "data.nested=true" in caught.value.hint and "folder:PATH/art" in caught.value.hint
    part = root / split / "art"
    assert load(f"folder:{part}").class_names == ("cup", "pen")
    if not split:
        assert load(f"folder:{root}", nested=True).class_names == ("art", "photo")


def test_folders_inside_of_classes_are_named(load, draw, tree, monkeypatch):
    draw(tree / "train/b/close/9.png", 1)
    lines = []
    monkeypatch.setattr(ddbench.Reporter, "log", lambda self, message: lines.append(message))
    assert len(load(f"folder:{tree}").train) == 8
    assert any("such as those in b/close" in line for line in lines)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "RGBA"])
def test_one_image_in_colour_makes_all_colour(load, tmp_path, draw, split, mode):
    for part in ("train", "test"):
        for name in "ab":
            for i in range(130):  # more than any sample would look at
                draw(tmp_path / "x" / part / name / f"{i:03d}.png", i + 1000 * (part == "test"), (8, 8), "L")
    ending = "tiff" if mode == "CMYK" else "png"
    coloured = Image.new("RGB", (8, 8), (255, 0, 0)).convert(mode)
    coloured.save(tmp_path / "x" / split / "b" / f"077.{ending}")
    data = load(f"folder:{tmp_path / 'x'}")
    images, _ = data.arrays(split)
    assert data.channels == 3
    pixel = images[
        data.train.ids.index(f"b/077.{ending}") if split == "train" else data.test.ids.index(f"b/077.{ending}")
    ]
    assert pixel[0, 0, 0] > 200 and pixel[0, 0, 1] < 60


def test_a_side_is_native_only_if_every_image_has_it(load, tmp_path, draw):
    for name in "ab":
        for i in range(130):
            draw(tmp_path / "x" / name / f"{i:03d}.png", i, (8, 8), "L")
    assert load(f"folder:{tmp_path / 'x'}").image_size == 8
    draw(tmp_path / "x" / "a" / "077.png", 1, (9, 9), "L")
    assert load(f"folder:{tmp_path / 'x'}").image_size == 32


def test_what_decoding_leaves_out_is_told(load, tree):
    Image.new("RGBA", (12, 12), (9, 8, 7, 0)).save(tree / "train/b/7.png")
    turned = Image.new("RGB", (12, 12), (9, 8, 7))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tree / "train/b/8.jpg", exif=exif)
    frames = [Image.new("L", (12, 12), level) for level in (0, 255)]
    frames[0].save(tree / "train/b/9.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning) as warned:
        load(f"folder:{tree}")
    told = " ".join(str(each.message) for each in warned)
    assert "1 image(s) have transparency, which is left out" in told and "first is b/7.png" in told
    assert "1 image(s) are marked as turned (EXIF)" in told and "first is b/8.jpg" in told
    assert "1 image(s) of several frames" in told and "first is b/9.gif" in told


@pytest.mark.parametrize("side", [3, 2049, 10**9])
def test_a_side_out_of_bounds_is_refused_before_anything_is_read(load, tree, side):
    with pytest.raises(ddbench.UsageError, match="size"):
        load(f"folder:{tree}", size=side)


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


@pytest.mark.parametrize(
    "folders",
    [
        ("training_set/training_set/cat", "test_set/test_set/cat"),  # Kaggle's
        ("seg_train/seg_train/cat", "seg_test/seg_test/cat", "seg_pred/seg_pred"),  # Intel's
        ("fold1/cat", "fold2/cat"),  # of a cross-validation
        ("train/cat", "train/dog", "test", "unlabeled"),  # STL-10's
        ("cat", "dog", "test"),
        ("cat", "dog", "unlabelled"),
        ("birds_train/robin", "birds_test/robin"),
        ("trainset", "testset"),
        ("images_train2017", "images_val2017"),
        ("x_train", "x_test"),
        ("images", "labels"),
    ],
)
def test_splits_under_other_names_are_not_taken_for_classes(load, tmp_path, draw, folders):
    for number, name in enumerate(folders):
        for i in range(2):
            draw(tmp_path / "x" / name / f"{i}.png", number * 9 + i)
    with pytest.raises(ddbench.DataError, match=r"but not both|no classes by their names"):
        load(f"folder:{tmp_path / 'x'}")


def test_splits_inside_of_classes_are_not_mixed(load, tree):
    for split in ("train", "test"):
        for name in ("a_dog", "b"):
            (tree.parent / "x" / name).mkdir(parents=True, exist_ok=True)
            (tree / split / name).rename(tree.parent / "x" / name / split)
    with pytest.raises(ddbench.DataError, match="class folder a_dog has test and train inside"):
        load(f"folder:{tree.parent / 'x'}")


@pytest.mark.parametrize("classes", [("test_tube", "beaker"), ("bullet_train", "bus"), ("dev_board", "train_station")])
def test_classes_whose_names_sound_like_splits_are_classes(load, tmp_path, draw, classes):
    for number, name in enumerate(classes):
        for i in range(2):
            draw(tmp_path / "x" / name / f"{i}.png", number * 9 + i)
    assert load(f"folder:{tmp_path / 'x'}").class_ids == tuple(sorted(classes))


def test_trains_are_a_class_inside_of_a_split(load, tmp_path, draw):
    for split in ("train", "test"):
        for number, name in enumerate(("bus", "train", "tram")):  # as CIFAR-100's folders
            for i in range(2):
                draw(tmp_path / "x" / split / name / f"{i}.png", number * 9 + i + 100 * (split == "test"))
    for place in ("x", "x/train"):
        assert load(f"folder:{tmp_path / place}").class_ids == ("bus", "train", "tram")


@pytest.mark.parametrize(("kind", "mode"), [(np.uint16, "I;16"), (np.int32, "I"), (np.float32, "F")])
def test_values_that_do_not_fit_into_8_bits_are_refused_not_clipped(load, tree, kind, mode):
    Image.fromarray(np.arange(144).reshape(12, 12).astype(kind)).save(tree / "train" / "b" / "deep.tiff")
    with pytest.raises(ddbench.DataError, match=rf"b/deep.tiff cannot be read \(.*8 bits \(mode {mode}\); save it"):
        load(f"folder:{tree}")


def test_files_of_equal_names_sizes_and_times_are_told_apart(tmp_path, load):
    import os

    from PIL import Image

    data = []
    for name, seed in (("one", 1), ("other", 2)):
        for split in ("train", "test"):
            for label in ("a", "b"):
                path = tmp_path / name / "set" / split / label / "0.bmp"
                path.parent.mkdir(parents=True)
                colour = seed + 10 * (label == "a") + 100 * (split == "test")
                Image.new("RGB", (8, 8), (colour, 0, 0)).save(path)
                os.utime(path, (1e9, 1e9))
        data.append(load(f"folder:{tmp_path / name / 'set'}"))
    assert data[0].fingerprint != data[1].fingerprint
