"""Every contract violation is named: distilled sets, scores, protocols, data sets, budgets."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.errors import PluginError, UsageError
from ddbench.experiment import pipeline
from ddbench.plugin.contracts import Budget, DistilledSet, Protocol, Score
from ddbench.plugin.datasets import Dataset, Split, check_ipc
from ddbench.plugin.images import ArrayImages
from ddbench.plugin.manager import load_plugins
from ddbench.plugin.ranges import doubt
from ddbench.runtime.context import Bound, Context
from ddbench.testing import conformance
from ddbench.testing.toy import toy_dataset

DATA = toy_dataset()
IMAGES = np.zeros((6, 8, 8, 1), np.uint8)
FLOATS = IMAGES.astype(np.float32)
LABELS = np.repeat(np.arange(3, dtype=np.int64), 2)
GOOD = DistilledSet(IMAGES, LABELS)
SOFT = np.full((6, 3), 1 / 3, np.float32)


def with_nan(array):
    array = array.copy()
    array.flat[5] = np.nan
    return array


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"images": FLOATS, "space": "unit"},
        {"images": FLOATS, "space": "normalized"},
        {"images": np.zeros((6, 20, 20, 1), np.uint8)},
        {"soft_labels": SOFT, "learning_rate": 0.01, "prompts": ("a",) * 6, "source_ids": ("b",) * 6},
        {"soft_labels": SOFT * 5 - 1, "label_kind": "centred"},
        {"extra": {"acceptance": {"recognised": 0.9, "list": [1, "x", None]}}},
    ],
)
def test_good_sets_pass(change):
    replace(GOOD, **change).check(DATA, Budget(2), "mine")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": "rgb"}, "the unknown pixel space 'rgb'"),
        ({"images": IMAGES.tolist()}, "images of type list instead of a NumPy array"),
        ({"images": IMAGES[..., 0]}, r"images of shape \[6, 8, 8\] instead of \[N, H, W, 1\]"),
        ({"images": IMAGES.repeat(3, 3)}, r"images of shape \[6, 8, 8, 3\]"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"images of shape \[6, 1, 8, 8\]"),
        ({"images": IMAGES[:, :4]}, "images of 4×8 pixels instead of square ones"),
        ({"images": FLOATS}, r"float32 images instead of uint8 \(space rgb_uint8\)"),
        ({"space": "unit"}, r"uint8 images instead of float32 \(space unit\)"),
        ({"images": FLOATS.astype(np.float64), "space": "unit"}, "float64 images instead of float32"),
        ({"images": with_nan(FLOATS), "space": "normalized"}, "NaN or infinite pixels"),
        ({"images": FLOATS + np.inf, "space": "zca"}, "NaN or infinite pixels"),
        ({"labels": LABELS.tolist()}, "labels of type list instead of a NumPy array"),
        ({"labels": LABELS.astype(np.float32)}, r"labels float32 \[6\] instead of int64 \[N\]"),
        ({"labels": LABELS.astype(np.int32)}, r"labels int32 \[6\] instead of int64 \[N\]"),
        ({"labels": LABELS[:, None]}, r"labels int64 \[6, 1\] instead of"),
        ({"labels": LABELS[:5]}, "6 images but 5 labels"),
        ({"labels": LABELS + 1}, r"labels from 1 to 3 outside 0…2"),
        ({"labels": LABELS - 1}, r"labels from -1 to 1 outside 0…2"),
        ({"labels": np.array([0, 0, 0, 1, 1, 2])}, "3 images of class 'rows' instead of 2"),
        ({"images": IMAGES[:4], "labels": LABELS[:4]}, "0 images of class 'checks' instead of 2"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "0 images of class 'rows' instead of 2"),
        ({"labels": LABELS[::-1].copy()}, "labels that are not in class order"),
        ({"labels": np.tile(np.arange(3), 2)}, "labels that are not in class order"),
        ({"source_ids": ("a",)}, "1 source_ids for 6 images"),
        ({"prompts": ("a",) * 7}, "7 prompts for 6 images"),
        ({"prompts": (1,) * 6}, "prompts that are not text"),
        ({"soft_labels": SOFT[:, :2]}, r"soft labels of shape \[6, 2\]"),
        ({"soft_labels": SOFT.tolist()}, "soft_labels of type list"),
        ({"soft_labels": with_nan(SOFT)}, "NaN or infinite soft labels"),
        ({"soft_labels": SOFT * 5}, "soft labels that are not probabilities"),
        ({"soft_labels": with_nan(SOFT), "label_kind": "centred"}, "NaN or infinite soft labels"),
        ({"soft_labels": SOFT, "label_kind": "logits"}, "the label kind 'logits'"),
        ({"label_kind": "centred"}, "the label kind 'centred'"),
        ({"learning_rate": math.nan}, "the learning rate nan"),
        ({"learning_rate": -0.1}, "the learning rate -0.1"),
        ({"learning_rate": math.inf}, "the learning rate inf"),
        ({"images": IMAGES[:, :0, :0]}, "images of 0×0 pixels"),
        ({"source_ids": (1,) * 6}, "source_ids that are not text"),
        ({"extra": [1]}, "an extra of type list instead of a table"),
        ({"extra": {1: 2}}, "an extra 1 that is not plain data"),
        ({"extra": {"mean": np.zeros(3)}}, "an extra 'mean' that is not plain data: ndarray"),
        ({"extra": {"loss": math.nan}}, "an extra 'loss' that is not plain data"),
        ({"whole": True}, "6 images as the whole training set, which has 36"),
    ],
)
def test_broken_sets_are_named(change, words):
    with pytest.raises(PluginError, match=f"Method mine returned a distilled set with {words}"):
        replace(GOOD, **change).check(DATA, Budget(2), "mine")


def _float(values):
    return np.resize(np.asarray(values, np.float32), IMAGES.shape)


@pytest.mark.parametrize(
    ("images", "space", "words"),
    [
        (_float(range(256)), "unit", r"values from 0 to 255, far from pixels in \[0, 1\] \(space unit\)"),
        (_float(range(256)), "normalized", "far from standardised pixels"),
        (_float(range(-128, 128)), "unit", "values from -128 to 127"),
        (_float(range(17)), "unit", "values from 0 to 16"),
        (np.resize(np.array([0, 1], np.uint8), IMAGES.shape), "rgb_uint8", "whole numbers of only 0 and 1"),
    ],
)
def test_pixels_of_another_scale_are_named(images, space, words):
    with pytest.raises(PluginError, match=words):
        replace(GOOD, images=images, space=space).check(DATA, Budget(2), "mine")


def test_zeros_and_ones_are_pixels_of_binary_data():
    binary = replace(DATA, mean=(0.5 / 255,))
    replace(GOOD, images=np.resize(np.array([0, 1], np.uint8), IMAGES.shape)).check(binary, Budget(2), "mine")


STANDARDISED = np.random.default_rng(0).normal(size=IMAGES.shape).astype(np.float32)
PIXELS = np.random.default_rng(0).uniform(size=IMAGES.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("images", "space", "words"),
    [
        (STANDARDISED, "unit", r"leave \[0, 1\] by 0.\d\d on average"),
        (PIXELS * 2 - 1, "unit", "the values run from -0.99"),
        ((STANDARDISED - 0.45) / 0.25, "normalized", "once turned back, they leave"),
        (PIXELS, "normalized", "are they of space unit"),
        (PIXELS, "unit", ""),
        (PIXELS * 1.4 - 0.2, "unit", ""),  # optimised pixels may leave the range
        ((PIXELS - 0.45) / 0.25, "normalized", ""),
        (STANDARDISED * 9, "zca", ""),
    ],
)
def test_pixels_that_may_be_of_another_space_are_told(images, space, words):
    data = replace(DATA, mean=(0.45,), std=(0.25,))
    whitening = ddbench.Whitened.by("kip", data) if space == "zca" else None
    replace(GOOD, images=images, space=space, whitening=whitening).check(data, Budget(2), "mine")
    found = doubt(images, space, data)
    assert re.search(words, found) if words else not found


@pytest.mark.parametrize("field", ["prompts", "source_ids"])
def test_half_a_character_is_named(field):
    with pytest.raises(PluginError, match=f"Method mine .* half a character .* in its {field}: ") as error:
        replace(GOOD, **{field: ("cut \ud83d",) * 6}).check(DATA, Budget(2), "mine")
    str(error.value).encode()
    with pytest.raises(PluginError, match="an extra 'a' that is not plain data"):
        replace(GOOD, extra={"a": {"b": ["\ud83d"]}}).check(DATA, Budget(2), "mine")


def test_a_set_without_a_budget_still_has_every_class():
    with pytest.raises(PluginError, match="no image of class 'checks'"):
        DistilledSet(IMAGES[:4], LABELS[:4]).check(DATA, Budget(None), "mine")


CORRECT = np.arange(60) < 30


def test_a_good_score_passes():
    Score(0.5, CORRECT, best=0.6, curve=[(1, 0.4), (2, 0.5)], metrics={"loss": 3.5}).check(DATA, "mine")


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (Score(50.0, CORRECT), "last=50.0"),
        (Score(math.nan, CORRECT), "last=nan"),
        (Score("0.5", CORRECT), "last='0.5'"),
        (Score(None, CORRECT), "last=None"),
        (Score(0.5, CORRECT, best=-0.1), "best=-0.1"),
        (Score(0.5, CORRECT, curve=[(1, 50.0)]), r"curve\[1\]=50.0"),
        (Score(0.5, CORRECT, metrics={"loss": math.inf}), "metric loss=inf"),
        (Score(0.5, CORRECT, metrics={"loss": "low"}), "metric loss='low'"),
        (Score(0.5, CORRECT[:40]), r"correctness of bool \[40\] instead of bool \[60\]"),
        (Score(0.5, CORRECT.astype(int)), "correctness of int64"),
        (Score(0.6, CORRECT), "reports last=0.6000 but its per-image correctness averages 0.5000"),
    ],
)
def test_broken_scores_are_named(score, words):
    with pytest.raises(PluginError, match=f"Evaluator mine .*{words}"):
        score.check(DATA, "mine")


def test_percent_is_explained():
    with pytest.raises(PluginError) as caught:
        Score(50.0, CORRECT).check(DATA, "mine")
    assert "not percent" in caught.value.hint


@pytest.mark.parametrize("value", [np.float32(0.1), np.zeros(2), math.nan, {1: 2}, object()])
def test_a_protocol_is_plain_data(value):
    with pytest.raises(TypeError, match="the protocol's setting 'lr' is not plain data"):
        Protocol({"network": "x", "lr": value})


def test_the_protocol_digest_covers_settings_and_extension():
    one = Protocol({"epochs": 300, "lr": 1.0})
    assert one.digest == Protocol({"lr": 1, "epochs": 300}).digest
    assert one.digest != Protocol({"epochs": 301, "lr": 1.0}).digest
    assert one.digest != Protocol({"epochs": 300, "lr": 1.0}, extension="small images").digest


@pytest.mark.parametrize("settings", [{}, {"network": "x", "label_type": "hard", "selection": 3}])
def test_a_protocol_says_what_tables_rely_on(settings):
    with pytest.raises(PluginError, match=r"Evaluator mine has a protocol without .*selection"):
        Protocol(settings).check("mine")


@pytest.mark.parametrize("labels", [LABELS.tolist(), LABELS.astype(np.int32), LABELS.astype(float), LABELS[:, None]])
def test_labels_of_a_split_are_int64(labels):
    with pytest.raises(TypeError, match="must be a NumPy array int64"):
        Split(ArrayImages(IMAGES), labels, ("a",) * 6)


def bad_split(data: Dataset, **changes):
    return replace(data, train=replace(data.train, **changes))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.describe(), "returned dict, not a ddbench.Dataset"),
        (lambda d: replace(d, class_ids=("a", "b")), "3 class names but 2 distinct class ids"),
        (lambda d: replace(d, class_ids=("a", "a", "b")), "3 class names but 2 distinct class ids"),
        (lambda d: replace(d, mean=(0.5,) * 3), "1 channels but a mean of 3 values"),
        (lambda d: bad_split(d, ids=d.train.ids[1:]), "train split has 36 images, 36 labels and 35 ids"),
        (lambda d: bad_split(d, labels=d.train.labels[1:]), "train split has 36 images, 35 labels"),
        (lambda d: bad_split(d, labels=d.train.labels + 1), "train split has labels outside 0…2"),
        (lambda d: bad_split(d, labels=d.train.labels - 1), "train split has labels outside 0…2"),
        (lambda d: bad_split(d, labels=d.train.labels // 2), "train split has no image of class 'checks'"),
        (lambda d: bad_split(d, labels=d.train.labels * 1.0), "failed: TypeError: the labels of a split"),
        (lambda d: bad_split(d, ids=("x",) * 36), "train split has ids that are not distinct"),
        (lambda d: bad_split(d, ids=tuple(range(36))), "train split has ids that are not distinct"),
        (lambda d: bad_split(d, images=ArrayImages(np.zeros((36, 8, 8, 3), np.uint8))), "3 channels but a mean of 1"),
        (
            lambda d: replace(d, test=replace(d.test, images=ArrayImages(np.zeros((60, 8, 8, 3), np.uint8)))),
            "test split",
        ),
        (lambda d: replace(d, class_names=("rows", 2, "checks")), "class names and ids must be tuples of text"),
        (lambda d: replace(d, image_size=0), "the image size 0"),
        (lambda d: replace(d, image_size="8"), "the image size '8'"),
        (lambda d: replace(d, std=(0.0,)), "std above zero"),
        (lambda d: replace(d, mean=(math.nan,)), "a mean of .nan"),
        (lambda d: replace(d, fingerprint=""), "fingerprint and origin must be text"),
        (lambda d: replace(d, fingerprint=None), "fingerprint and origin must be text"),
        (lambda d: replace(d, origin="files of /home/me/images"), "names a folder of this machine"),
        (lambda d: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
def test_broken_data_sets_are_named(change, words, ctx):
    class Mine(ddbench.DatasetLoader):
        def load(self, ctx: Context, argument: str) -> Dataset:
            return change(toy_dataset())

    with pytest.raises(PluginError, match=words) as caught:
        conformance.check_dataset(ddbench.DatasetSpec("toy", Mine))
    assert "'toy'" in str(caught.value)


@pytest.mark.parametrize(
    ("ipc", "words"), [(0, "at least 1, not 0"), (13, "IPC 13 is larger than class 'rows' of toy")]
)
def test_budgets_fit_the_smallest_class(ipc, words):
    with pytest.raises(UsageError, match=words):
        check_ipc(DATA, ipc)
    check_ipc(DATA, 12)


def test_a_label_type_is_kept_through_the_disk(ctx):
    """A set that passes the check is read back with the digest it was written with."""

    class Mine(ddbench.Distiller):
        def distill(self, ctx: Context) -> DistilledSet:
            return replace(GOOD, soft_labels=SOFT.astype(np.float64), learning_rate=0.1, prompts=("ä",) * 6)

    plugins = load_plugins()
    entry = replace(plugins.get("method", "random"), spec=ddbench.MethodSpec("mine", Mine))
    made = pipeline.distil(Bound(Mine(), replace(ctx, _dataset=DATA, ipc=2), entry))
    assert made.content.prompts == ("ä",) * 6
    assert made.content.learning_rate == 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curve": [(0, 0.5)]}, "do not rise from 1"),
        ({"curve": [(2, 0.5), (2, 0.5)]}, "do not rise from 1"),
        ({"curve": [(1, 0.75), (2, 0.5)], "best": 0.5}, "best=0.5000"),
        ({"best": 0.25}, "best=0.2500"),
    ],
)
def test_a_score_whose_curve_and_best_contradict_it_is_refused(changes, message):
    data = toy_dataset()
    correct = np.arange(len(data.test)) % 2 == 0
    score = Score(last=float(correct.mean()), correct=correct)
    score.check(data, "it")
    with pytest.raises(PluginError, match=message):
        replace(score, **changes).check(data, "it")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"label_type": "medium"}, "label type 'medium'"), ({"network": "other"}, "for the network 'other'")],
)
def test_a_protocol_that_says_something_else_than_is_done_is_refused(settings, message):
    said = {"network": "convnet-3", "label_type": "hard", "selection": "last"}
    Protocol(said).check("it", "convnet-3")
    with pytest.raises(PluginError, match=message):
        Protocol(said | settings).check("it", "convnet-3")


def test_a_part_of_a_split_has_its_images_labels_and_ids(digits):
    whole = digits.train
    part = whole.part(range(3, 7))
    assert part.ids == whole.ids[3:7] and part.labels.tolist() == whole.labels[3:7].tolist()
    np.testing.assert_array_equal(part.images.batch([2, 0], 8), whole.images.batch([5, 3], 8))
    np.testing.assert_array_equal(np.concatenate(list(part.images.batches(8, 3))), whole.images.batch(range(3, 7), 8))
    assert whole.part(range(len(whole))) is whole


def test_mapped_images_are_mapped_again_by_another_process_and_not_copied(tmp_path):
    np.save(tmp_path / "images.npy", np.arange(1 << 20, dtype=np.uint8).reshape(1, 1024, 1024, 1))
    images = ddbench.ArrayImages(np.load(tmp_path / "images.npy", mmap_mode="r"))
    other, part = copy.copy(images), copy.copy(ddbench.ArrayImages(images.array[:, 5:9]))
    assert isinstance(other.array, np.memmap) and str(other.array.filename) == str(images.array.filename)
    np.testing.assert_array_equal(other.array, images.array)
    np.testing.assert_array_equal(part.array, images.array[:, 5:9])


class Negative(ddbench.ArrayImages):
    def load(self, index, size):
        return 255 - super().load(index, size)


def test_images_arrive_as_they_are_whatever_their_order_in_the_file_and_their_class(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    np.save(tmp_path / "images.npy", np.asfortranarray(pixels))
    for images in (pixels, np.load(tmp_path / "images.npy", mmap_mode="r")):
        sent = copy.copy(Negative(images))
        np.testing.assert_array_equal(sent.load(1, 8), 255 - pixels[1])
        np.testing.assert_array_equal(sent.array, pixels)
        assert not sent.array.flags.writeable
