"""The captioner `traits`: what it says follows from probabilities and a table, and from nothing else of the image."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.captioners import traits
from ddbench_plugins.captioners.metadata import read_metadata
from ddbench_plugins.captioners.phrases import layout
from ddbench_plugins.captioners.traits import Known, Resemblances, read_table, softened
from ddbench_plugins.diffusion.captions import captions
from ddbench_plugins.teachers import observers, recipes
from ddbench_plugins.teachers.observers import get_teacher

from ddbench.errors import UsageError
from ddbench.plugin.manager import load_plugins
from ddbench.testing.toy import toy_dataset

TABLE = """
[rows]
has = ["stripes", "lines"]
is = ["flat"]
[columns]
has = ["stripes", "posts"]
found = ["at gates"]
[checks]
has = ["fields"]
"""


def test_a_trait_is_as_likely_as_the_classes_that_have_it(tmp_path):
    (tmp_path / "mine.toml").write_text(TABLE)
    says = Known(["rows", "columns", "checks"], read_table(tmp_path / "mine.toml"))
    assert says(np.array([1.0, 0, 0])) == ("has stripes and lines and is flat", "")
    assert says(np.array([0, 1.0, 0])) == ("has stripes and posts and is found at gates", "")
    # 0.45 + 0.3 have stripes; lines and flatness alone 0.45, posts and gates alone 0.3; fields 0.25.
    sure, perhaps = says(np.array([0.45, 0.30, 0.25]))
    assert sure == "has stripes"
    assert perhaps == " Perhaps it has lines, posts and fields, is flat and is found at gates."
    assert says(np.array([0.3, 0.1, 0.2]))[0] == "is hard to tell"


def test_without_a_table_it_says_what_the_image_looks_like():
    says = Resemblances(["truck, lorry", "ship", "cat", "dog"])
    assert says(np.array([0.6, 0.3, 0.05, 0.05])) == ("looks like a truck, a little like a ship", "")
    assert says(np.array([0.02, 0.9, 0.04, 0.04])) == ("looks like a ship", "")
    few = says(np.array([0.25, 0.25, 0.25, 0.25]))[0]
    assert few == "looks like a truck, a little like a ship, a little like a cat"


def test_a_temperature_divides_the_outputs():
    outputs = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 5.0]])

    def softmax(values):
        return np.exp(values) / np.exp(values).sum(1, keepdims=True)

    np.testing.assert_allclose(softened(softmax(outputs), 2.0), softmax(outputs / 2), rtol=1e-12)
    assert softened(np.array([[1.0, 0.0]], np.float32), 2.0)[0, 0] == pytest.approx(1)


def test_phrases_of_ddbench_tell_the_classes_of_each_data_set_apart():
    table = read_table(traits.Path(traits.__file__).with_suffix(".toml"))
    listed = (
        "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
        "zero,one,two,three,four,five,six,seven,eight,nine",
        "tench,english springer,cassette player,chain saw,church,french horn,garbage truck,gas pump,golf ball"
        ",parachute",
        "t-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot",
    )
    sets = [names.split(",") for names in listed]
    assert sorted(itertools.chain(*sets)) == sorted(table)
    for names in sets:
        says = Known(names, table)
        assert len({says(row) for row in np.eye(10)}) == 10


def test_layout_is_measured():
    image = np.empty((1, 32, 32, 3), np.uint8)
    image[:] = (30, 160, 50)
    image[:, 8:20, 4:12] = (220, 20, 20)
    (text,) = layout(image)
    assert text.startswith("a tiny, ") and "leftward and midway, on a " in text and "verdant background in " in text
    drawn = np.zeros((1, 16, 16, 1), np.uint8)
    drawn[:, 2:14, 7:9] = 255
    assert layout(drawn) == ["a narrow, upright and straight figure in delicate strong strokes"]


def explicit(**options):
    return {"captioner/traits": options, "network": {}}


@pytest.fixture
def told(ctx):
    return replace(ctx, plugins=load_plugins([]), _dataset=toy_dataset(channels=3), explicit=explicit())


def test_captions_follow_the_network_and_only_the_name_follows_the_label(told, tmp_path, monkeypatch):
    monkeypatch.setattr(observers, "recipe_for", lambda *_: replace(recipes.GENERIC, epochs=2))
    (tmp_path / "mine.toml").write_text(TABLE)
    ctx = replace(told, explicit=explicit(phrases=str(tmp_path / "mine.toml"), network="convnet-1"))
    done = captions(ctx, "traits")
    texts = [text for _, text in read_metadata(done.dir / "metadata.jsonl")]
    assert [entry["step"] for entry in ctx.ledger] == ["teacher", "captions"]
    data = ctx.dataset
    opinions = softened(get_teacher(ctx, "convnet-1").probabilities(data.train.images.batch(range(36), 8)), 2.0)
    says = Known(data.class_names, read_table(tmp_path / "mine.toml"))
    for text, opinion, label in zip(texts, opinions, data.train.labels, strict=True):
        sure, perhaps = says(opinion)
        assert text.startswith(f"The {data.class_names[label]} in the image {sure}.{perhaps} It is a ")


def test_captions_are_keyed_by_network_phrases_and_temperature(told, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TABLE)

    def key(**options):
        return captions.of(replace(told, explicit=explicit(**options)), "traits").key

    first = key()
    assert len({first, key(network="convnet-1"), key(temperature=1.0), key(phrases=str(path))}) == 4
    before = key(phrases=str(path))
    path.write_text("# the same phrases\n" + TABLE)
    assert key(phrases=str(path)) == before
    path.write_text(TABLE.replace("posts", "bars"))
    assert key(phrases=str(path)) != before
    assert first == key(phrases="")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[rows]\nhas = ['a']", "no phrases for 'columns' and 1 other"),
        ("[rows]\nhas = 'a'", "rows.has"),
        ("[rows]\nsmells = ['a']", "rows.smells"),
        ("[rows]\nhas = ['']", r"rows.has.0"),
        ("rows", "no table of phrases"),
    ],
)
def test_tables_that_are_none_are_refused(told, tmp_path, text, named):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=named):
        captions(replace(told, explicit=explicit(phrases=str(tmp_path / "mine.toml"))), "traits")
