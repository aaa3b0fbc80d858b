"""What sets hold besides images and labels comes back from disk as it was, in any order of classes, or is refused."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import ddbench
from ddbench import Bases, DistilledSet, Schedule, Similarity, Texts, cli
from ddbench.errors import PluginError, RecordError
from ddbench.experiment.pipeline import evaluate, prepare_evaluator
from ddbench.plugin.contents import arrays, plain, reordered, told
from ddbench.plugin.contracts import Budget
from ddbench.results.registry import flaws
from ddbench.sets import folder as disk
from ddbench.sets import importing
from ddbench.testing.toy import toy_dataset

DATA = toy_dataset(channels=3)  # 3 classes of 8×8 RGB: an image has 192 numbers
ABOUT = {"method": {"name": "mine", "version": 1, "options": {}, "explicit": {}}, "ipc": 2, "seed": 0, "shrunk": []}
rates = st.floats(1e-6, 1e3)


def floats(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain_set(count=6, **fields):
    labels = np.sort(np.arange(count) % 3).astype(np.int64)
    fields = {"images": floats(0, count, 8, 8, 3).clip(0, 1), "space": "unit"} | fields
    return DistilledSet(labels=labels, **fields)


@st.composite
def sets(draw):
    """Sets of 4 to 8 images with any of what a set may hold."""
    count, seed = draw(st.integers(4, 8)), draw(st.integers(0, 99))
    fields = {"counted": "numbers"}
    if draw(st.booleans()):
        places = st.lists(st.integers(0, count - 1), min_size=1, max_size=4).map(tuple)
        batches = tuple(draw(st.lists(places, min_size=1, max_size=3)))
        steps = st.lists(st.tuples(st.integers(0, len(batches) - 1), rates), min_size=1, max_size=5)
        weights = floats(seed, 7) if draw(st.booleans()) else None
        fields["schedule"] = Schedule(
            batches, tuple(draw(steps)), "lenet", "xavier normal", draw(st.none() | st.integers(0, 9)), weights
        )
    if draw(st.booleans()):
        scale = draw(st.sampled_from([1, 2, 4]))
        side = 8 // scale
        fields["bases"] = Bases(floats(seed, 3, side, side, 3), floats(seed + 1, count, 3), scale)
        fields["images"] = fields["bases"].decode()
    if draw(st.booleans()):
        width, rank = draw(st.integers(1, 9)), draw(st.integers(1, 3))
        rate = draw(st.none() | rates)
        fields["texts"] = Texts(floats(seed, count, width), "minilm", "ab" * 8, "mean", rate)
        parts = floats(seed, count), floats(seed, count, rank), floats(seed + 1, count, rank)
        fields["similarity"] = Similarity(*parts, draw(st.floats(-2, 2)))
        fields["prompts"] = tuple(draw(st.lists(st.text("ab é", min_size=1), min_size=count, max_size=count)))
    if draw(st.booleans()):
        fields["soft_labels"] = floats(seed, count, 3)
        fields["label_kind"] = draw(st.sampled_from(["centred", "free"]))
    return plain_set(count, **fields)


def same(one, other):
    assert (one.images == other.images).all() and (one.labels == other.labels).all()
    assert (one.label_kind, one.counted, one.prompts) == (other.label_kind, other.counted, other.prompts)
    assert list(one.contents()) == list(other.contents())
    for name, content in one.contents().items():
        assert plain(content) == plain(other.contents()[name])
        for part, array in arrays(content).items():
            assert (array == arrays(other.contents()[name])[part]).all()


@settings(max_examples=40)
@given(sets())
def test_a_set_comes_back_as_it_was(made):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "set")
        content = disk.save(folder, made, DATA, ABOUT)
        loaded = disk.load(folder)
        same(made, loaded.distilled)
        assert disk.content_digest(made) == content["digest"] and content["format"] == 3
        written = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        counted = content["bytes"]["images"] + content["bytes"]["labels"]
        rates_in_json = 8 * len(made.schedule.steps) if made.schedule else 0
        header = written - counted + made.labels.nbytes + rates_in_json
        assert 0 < header < 2000  # every array is counted, and nothing else


@settings(max_examples=20)
@given(sets(), st.permutations([0, 1, 2]))
def test_contents_follow_their_images_to_another_order_of_classes(made, order):
    ids = tuple(DATA.class_ids[label] for label in order)
    moved = importing.reorder(made, ids, DATA, "theirs")
    came_from = [int(np.flatnonzero((made.images == image).all((1, 2, 3)))[0]) for image in moved.images]
    if made.texts:
        assert (moved.texts.embeddings == made.texts.embeddings[came_from]).all()
        matrix = made.similarity.matrix()
        np.testing.assert_allclose(moved.similarity.matrix(), matrix[came_from][:, came_from], atol=1e-5)
    if made.bases:
        np.testing.assert_allclose(moved.bases.decode(), moved.images, atol=1e-5)
    if made.schedule:
        for there, here in zip(made.schedule.batches, moved.schedule.batches, strict=True):
            assert (made.images[list(there)] == moved.images[list(here)]).all()


def test_every_part_is_in_the_digest():
    texts = Texts(floats(1, 6, 4), "minilm", "ab", "mean", 0.1)
    alike = Similarity(floats(2, 6), floats(3, 6, 2), floats(4, 6, 2), 3.0)
    made = plain_set(texts=texts, similarity=alike, schedule=Schedule(((0, 1),), ((0, 0.1),), "lenet", "xavier"))
    nudged = alike.left + np.eye(6, 2, dtype=np.float32) * 1e-3
    others = [
        replace(made, texts=replace(texts, learning_rate=0.2)),
        replace(made, texts=replace(texts, encoder="bert")),
        replace(made, similarity=replace(alike, left=nudged)),
        replace(made, schedule=replace(made.schedule, steps=((0, 0.2),))),
        replace(made, schedule=replace(made.schedule, seed=0)),
        replace(made, similarity=None),
    ]
    assert len({disk.content_digest(one) for one in [made, *others]}) == 7


# What is decoded and computed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "scale"), [(1, 3), (4, 1), (4, 2), (3, 4)])
def test_bases_are_enlarged_as_by_torch(side, scale):
    torch = pytest.importorskip("torch")
    bases = Bases(floats(0, 3, side, side, 2), floats(1, 5, 3), scale)
    small = torch.einsum("nb,bijc->ncij", *map(torch.from_numpy, (bases.coefficients, bases.bases)))
    wanted = torch.nn.functional.interpolate(small, scale_factor=scale, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(bases.decode(), wanted.permute(0, 2, 3, 1).numpy(), atol=1e-5)
    assert bases.decode().shape == bases.shape


def test_a_similarity_begins_as_the_identity():
    begun = Similarity(np.ones(4, np.float32), floats(0, 4, 2), np.zeros((4, 2), np.float32), 3.0)
    assert (begun.matrix() == np.eye(4)).all()
    one = Similarity(np.zeros(2, np.float32), np.float32([[1], [2]]), np.float32([[3], [4]]), 0.5)
    assert one.matrix().tolist() == [[1.5, 2.0], [3.0, 4.0]]


# Budgets ------------------------------------------------------------------------------------------------------------


def test_fewer_images_than_classes_or_many_more_are_within_the_numbers_of_the_ipc():
    one = DistilledSet(
        floats(0, 2, 8, 8, 3).clip(0, 1), np.array([0, 2]), "unit", soft_labels=floats(1, 2, 3), label_kind="free"
    )
    with pytest.raises(PluginError, match="0 images of class 'columns' instead of 1"):
        one.check(DATA, Budget(1), "mine")
    replace(one, counted="numbers").check(DATA, Budget(1), "mine")
    bases = Bases(floats(0, 2, 4, 4, 3), floats(1, 60, 2), 2)  # 96 + 120 numbers make 60 images
    many = plain_set(60, images=bases.decode(), bases=bases, counted="numbers")
    many.check(DATA, Budget(1), "mine")
    assert many.numbers == 216 and many.besides()["numbers"] == 216
    with pytest.raises(PluginError, match="counts images"):
        replace(many, counted="images").check(DATA, Budget(20), "mine")
    full = plain_set(7, counted="numbers")
    full.check(DATA, Budget(3), "mine")
    with pytest.raises(PluginError, match=r"1,344 numbers, where 2 images per class have 1,152"):
        full.check(DATA, Budget(2), "mine")


def test_a_record_counts_images_and_numbers(ctx, tmp_path):
    pytest.importorskip("torch")
    bases = Bases(floats(0, 9, 4, 4, 3), floats(1, 12, 9), 2)  # 432 + 108 numbers make 12 images, where IPC 1 has 576
    made = plain_set(12, images=bases.decode(), bases=bases, counted="numbers")
    disk.save(tmp_path / "set", made, DATA, ABOUT | {"ipc": 1})
    distilled = importing.read_set(tmp_path / "set", DATA)
    bound = prepare_evaluator(replace(ctx, _dataset=DATA, explicit={"evaluator": {"ridge": 0.1}}), "krr", "", 1)
    record = evaluate(bound, distilled, repeats=1)
    kept = record.distilled
    assert (record.cell.ipc, kept.count, kept.extra["numbers"], record.costs.bytes_images) == (1, 12, 540, 4 * 540)
    assert kept.extra["bases"] == {"scale": 2, "bases": [9, 4, 4, 3], "coefficients": [12, 9]}
    more = record.model_copy(update={"distilled": kept.model_copy(update={"extra": {**kept.extra, "numbers": 577}})})
    assert any("577 numbers, where its IPC has room for 576" in flaw for flaw in flaws(more))


def test_a_similarity_is_paid_for_with_pairs():
    texts = Texts(floats(1, 6, 4), "minilm", "ab", "mean")
    alike = Similarity(floats(0, 6), floats(1, 6, 1), floats(2, 6, 1), 1.0)
    made = plain_set(texts=texts, counted="numbers")
    made.check(DATA, Budget(2), "mine")  # 6 pairs
    with pytest.raises(PluginError, match=r"1,194 numbers, where 2 images per class have 1,176"):
        replace(made, similarity=alike).check(DATA, Budget(2), "mine")


# What is refused ----------------------------------------------------------------------------------------------------

SCHEDULE = Schedule(((0, 1),), ((0, 0.1),), "lenet", "xavier")
BASES = Bases(floats(0, 2, 4, 4, 3), floats(1, 6, 2), 2)
TEXTS = Texts(floats(1, 6, 4), "minilm", "ab", "mean")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"counted": "bytes"}, "an IPC that counts 'bytes'"),
        ({"schedule": {"batches": []}}, "schedule of type dict instead of Schedule"),
        ({"schedule": replace(SCHEDULE, batches=((0, 6),))}, "images beyond the 6"),
        ({"schedule": replace(SCHEDULE, batches=((),))}, "batch without images"),
        ({"schedule": replace(SCHEDULE, steps=((1, 0.1),))}, "another batch than the 1"),
        ({"schedule": replace(SCHEDULE, steps=((0, 0.0),))}, "learning rate that is no number above zero"),
        ({"schedule": replace(SCHEDULE, weights=np.zeros(3))}, "weights of float64"),
        ({"bases": BASES}, "images that its bases do not decode to"),
        ({"bases": replace(BASES, coefficients=floats(1, 6, 3))}, r"bases \[2, 4, 4, 3\] with coefficients \[6, 3\]"),
        ({"bases": replace(BASES, coefficients=floats(1, 5, 2))}, "5 coefficients for 6 images"),
        ({"bases": replace(BASES, scale=10**6)}, "a scale of 1000000"),
        ({"texts": replace(TEXTS, embeddings=floats(1, 5, 4))}, "5 embeddings for 6 images"),
        ({"texts": replace(TEXTS, embeddings=TEXTS.embeddings * np.nan)}, "NaN"),
        ({"texts": replace(TEXTS, weights="")}, "an encoder without"),
        ({"similarity": Similarity(floats(0, 6), floats(0, 6, 1), floats(0, 6, 1), 1.0)}, "but no texts"),
        ({"texts": TEXTS, "similarity": Similarity(floats(0, 6), floats(0, 6, 2), floats(0, 6, 1), 1.0)}, "a diagonal"),
    ],
)
def test_what_does_not_fit_is_named(fields, words):
    with pytest.raises(PluginError, match=f"Method mine .*{words}"):
        plain_set(**fields).check(DATA, Budget(2), "mine")


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        ("schedule", "batches", [[0, 9]], "images beyond the 6"),
        ("schedule", "steps", [[0, "fast"]], r"Schedule: steps\.0\.1"),
        ("schedule", "network", None, "Schedule: network"),
        ("bases", "scale", 3, "bases of images"),
        ("bases", "scale", 10**9, "a scale of 1000000000"),
        ("texts", "encoder", "", "an encoder without"),
        ("counted", None, "bytes", "counted"),
        ("format", None, 1, "format 1 with what format 3 holds"),
        ("texts", None, {"a": 1}, "Texts: embeddings|Texts: encoder"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path, name, key, value, words):
    made = plain_set(images=BASES.decode(), bases=BASES, schedule=SCHEDULE, texts=TEXTS, counted="numbers")
    disk.save(tmp_path, made, DATA, ABOUT)
    about = json.loads((tmp_path / disk.FILE).read_text())
    if key is None:
        about[name] = value
    else:
        about[name][key] = value
    (tmp_path / disk.FILE).write_text(json.dumps(about))
    with pytest.raises(RecordError, match=words):
        disk.load(tmp_path)


def test_a_record_tells_what_a_set_holds():
    assert told(SCHEDULE) == {
        "batches": 1, "steps": 1, "network": "lenet", "initialisation": "xavier",
    }  # fmt: skip
    assert told(TEXTS) == {"encoder": "minilm", "weights": "ab", "pooling": "mean", "embeddings": [6, 4]}
    assert reordered(TEXTS, np.arange(6)[::-1]).embeddings[0].tolist() == TEXTS.embeddings[-1].tolist()


def test_show_and_gallery_take_each_kind(tmp_path):
    made = plain_set(images=BASES.decode(), bases=BASES, schedule=SCHEDULE, texts=TEXTS, counted="numbers")
    disk.save(tmp_path / "set", made, DATA, ABOUT)
    run = CliRunner().invoke
    shown = run(cli.group, ["show", str(tmp_path / "set")], catch_exceptions=False).output
    for words in ("schedule: batches 1, steps 1", "bases: scale 2", "texts: encoder minilm", "IPC counts 132"):
        assert words in shown
    run(cli.group, ["gallery", str(tmp_path / "set"), "--out", str(tmp_path / "sheet.png")], catch_exceptions=False)
    assert (tmp_path / "sheet.png").stat().st_size > 0
    assert ddbench.load(tmp_path / "set").images.shape == (6, 8, 8, 3)
