import numpy as np
import pytest
from ddbench_plugins.datasets.arrays import Classes, Part, from_arrays, measure, relabel
from ddbench_plugins.datasets.split import stratified
from hypothesis import given, settings
from hypothesis import strategies as st

import ddbench


def parts(n=6, seed=0, size=8, channels=3):
    rng = np.random.default_rng(seed)
    return tuple(
        Part(rng.integers(0, 256, (n, size, size, channels), np.uint8), np.arange(n, dtype=np.int64) % 2) for _ in "ab"
    )


def made(train, test, **more):
    return from_arrays("toy", Classes(("x", "y"), ("ex", "why")), train, test, origin="made here", **more)


def test_the_fingerprint_is_stable_and_notices_every_change():
    train, test = parts()
    base = made(train, test).fingerprint
    assert base == made(*parts()).fingerprint
    # Pinned: a change of this digest makes every cached artifact and every record stale.
    assert base[:16] == "dcce257e6bebb146"
    pixels = train.images.copy()
    pixels[0, 0, 0, 0] ^= 1
    changed = [
        made(Part(pixels, train.labels), test),
        made(Part(train.images, train.labels[::-1].copy()), test),
        made(test, train),
        made(train, test, image_size=4),
        from_arrays("toy", Classes(("x", "z"), ("ex", "why")), train, test, origin="made here"),
    ]
    assert len({base, *(one.fingerprint for one in changed)}) == 1 + len(changed)


def test_the_fingerprint_ignores_the_readable_names_and_the_origin():
    train, test = parts()
    other = from_arrays("other", Classes(("x", "y"), ("EX", "WHY")), train, test, origin="elsewhere")
    assert other.fingerprint == made(train, test).fingerprint


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_measured_statistics_are_those_of_the_pixels(n, size, channels, seed):
    images = np.random.default_rng(seed).integers(0, 256, (n, size, size, channels), np.uint8)
    mean, std = measure(images)
    scaled = images.reshape(-1, channels) / 255
    assert np.allclose(mean, scaled.mean(0), atol=6e-5)
    assert all(abs(s - t) < 6e-5 or (t < 6e-5 and s == 1) for s, t in zip(std, scaled.std(0), strict=True))


@settings(max_examples=50)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=6), st.floats(0.05, 0.9), st.integers(0, 5))
def test_a_split_is_a_partition_with_every_class_on_both_sides(counts, fraction, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    ids = [f"{label}/{i}" for i, label in enumerate(labels)]
    train, test = stratified(labels, ids, fraction, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for side in (train, test):
        assert list(side) == sorted(side)
        assert set(labels[side]) == set(range(len(counts)))
    wanted = np.array(counts) * fraction
    got = np.bincount(labels[test], minlength=len(counts))
    clamped = np.clip(wanted, 1, np.array(counts) - 1)
    assert (np.abs(got - clamped) <= 1).all()


def test_a_split_depends_on_the_seed_only_and_keeps_its_choice_when_files_are_renumbered():
    labels = np.repeat([0, 1], 20)
    ids = [f"image-{i}" for i in range(40)]
    first = stratified(labels, ids, 0.25, 0)[1]
    assert (first == stratified(labels, ids, 0.25, 0)[1]).all()
    assert (first != stratified(labels, ids, 0.25, 1)[1]).any()
    backwards = stratified(labels[::-1], ids[::-1], 0.25, 0)[1]
    assert {ids[i] for i in first} == {ids[::-1][i] for i in backwards}


def test_a_class_with_one_image_cannot_be_split():
    with pytest.raises(ddbench.DataError, match="Class number 1 has 1 image"):
        stratified(np.array([0, 0, 1]), ["a", "b", "c"], 0.2, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: Part(p.images.astype(np.float32), p.labels), "float32"),
        (lambda p: Part(p.images[..., :2], p.labels), r"\[6, 8, 8, 2\]"),
        (lambda p: Part(p.images, p.labels[:-1]), "6 images but labels of shape"),
        (lambda p: Part(p.images, p.labels + 1), "labels from 1 to 2, outside 0…1"),
        (lambda p: Part(p.images, p.labels - 1), "labels from -1 to 0, outside 0…1"),
        (lambda p: Part(p.images, p.labels * 0), "no image of class number 1"),
    ],
)
def test_arrays_that_cannot_be_are_refused(change, message):
    train, test = parts()
    with pytest.raises(ddbench.DataError, match=message):
        made(change(train), test)
    with pytest.raises(ddbench.DataError, match="the test split"):
        made(train, change(test))


def test_labels_follow_their_names_into_another_order():
    labels = np.array([0, 1, 2, 2])
    assert relabel(labels, ["c", "a", "b"], ["a", "b", "c"], "it").tolist() == [2, 0, 1, 1]
    with pytest.raises(ddbench.DataError, match="other classes than it should: d, z"):
        relabel(labels, ["a", "z"], ["a", "d"], "it")
