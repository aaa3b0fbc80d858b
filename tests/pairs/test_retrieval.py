"""Recall of images and captions: ranks with equals, several captions of an image, and the evaluator around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.experiment.pipeline import evaluate, prepare_evaluator
from ddbench.results.schema import PluginPart
from ddbench.sets.folder import content_digest
from ddbench.sets.made import Distilled
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.pairs.encoders import text_weights  # noqa: E402
from ddbench_plugins.pairs.ranking import alike, class_hits, hits, recalls  # noqa: E402

TOY = toy_dataset(channels=3)
OWN = np.eye(12, dtype=bool)


def test_identity_is_perfect_and_equal_scores_are_chance():
    assert set(recalls(np.eye(12), OWN).values()) == {1.0}
    found = recalls(np.ones((12, 12)), OWN)
    assert [found[f"{name}@{k}"] for name in ("tr", "ir") for k in (1, 5, 10)] == pytest.approx(
        [1 / 12, 5 / 12, 10 / 12] * 2
    )
    assert found["r_mean"] == pytest.approx(16 / 36)


def test_scores_that_are_no_numbers_are_refused():
    for wrong in (np.nan, np.inf):
        scores = np.eye(12)
        scores[3, 4] = wrong
        with pytest.raises(ddbench.DivergedError, match="NaN or infinite"):
            recalls(scores, OWN)


def test_a_skewed_case_by_hand():
    scores = np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])  # one caption attracts all images
    own = np.eye(3, dtype=bool)
    assert hits(scores, own, 1).tolist() == [1, 0, 0]
    assert hits(scores.T, own.T, 1) == pytest.approx([1 / 3] * 3)  # each caption finds all images alike
    swapped = recalls(scores.T, own)
    found = recalls(scores, own)
    assert [swapped[f"tr@{k}"] for k in (1, 5)] == [found[f"ir@{k}"] for k in (1, 5)]
    moved = [2, 0, 1]  # captions in another order change nothing
    assert recalls(scores[:, moved], own[:, moved]) == found


def test_the_best_of_several_captions_counts_and_equals_are_drawn():
    own = np.kron(np.eye(4, dtype=bool), np.ones((1, 5), bool))
    scores = np.zeros((4, 20))
    scores[:, ::5] = np.eye(4)  # the first caption of each is right, the others are all alike
    found = recalls(scores, own)
    assert found["tr@1"] == 1 and found["ir@1"] == pytest.approx((1 + 4 * 0.25) / 5)
    # 20 equal captions, 5 of them own: the first one is own in 5 of 20, one of the first five in 1 - C(15, 5)/C(20, 5)
    assert hits(np.zeros((4, 20)), own, 5) == pytest.approx([1 - 3003 / 15504] * 4)


def test_captions_that_read_alike_count_as_a_group_and_classes_are_told():
    texts, scores = ["a", "b", "a"], np.array([[0.0, 1, 2], [0, 3, 1], [2, 1, 0]])
    own = np.eye(3, dtype=bool)
    assert recalls(scores, own)["tr@1"] == pytest.approx(1 / 3)
    assert recalls(scores, alike(own, texts))["tr@1"] == 1
    labels = np.array([0, 1, 0])
    assert class_hits(scores, labels, labels) == {"tr_class@1": 1.0, "ir_class@1": 1.0}
    assert class_hits(np.ones((3, 3)), labels, labels)["tr_class@1"] == pytest.approx((2 / 3 + 1 / 3 + 2 / 3) / 3)


def _made(content, tmp_path):
    digest = content_digest(content)
    part = PluginPart(name="mine", version=1, options={}, explicit={})
    ipc = None if content.whole else 2
    return Distilled(part, content, digest, digest, ipc, 0, (), [], None, {"images": 1, "labels": 0}, tmp_path)


def _evaluated(ctx, text_encoder, content, tmp_path, repeats=1, data=TOY, **options):
    given = {"text_encoder": str(text_encoder), "image_encoder": "convnet-1", "trained": "encoder", "epochs": "3"}
    ctx = replace(ctx, _dataset=data, explicit={"evaluator": given | options})
    return evaluate(prepare_evaluator(ctx, "retrieval", "", 2), _made(content, tmp_path), repeats=repeats)


def _selected(ipc=2):
    places = np.concatenate([TOY.train.of_class(label)[:ipc] for label in range(TOY.num_classes)])
    images = TOY.train.images.batch(places.tolist(), TOY.image_size)
    ids = tuple(TOY.train.ids[place] for place in places)
    return ddbench.DistilledSet(images, TOY.train.labels[places], source_ids=ids)


def test_any_set_of_images_is_evaluated_by_the_texts_that_it_comes_with(ctx, text_encoder, tmp_path):
    chosen = _selected()
    record = _evaluated(ctx, text_encoder, chosen, tmp_path, repeats=2, epochs="12", selection="best_test")
    (figures, _), result = record.result.metrics, record.result
    assert {"tr@1", "ir@10", "r_mean", "tr_class@1", "best_r_mean"} <= figures.keys()
    assert (record.cell.network, record.protocol.settings["label_type"]) == ("none", "texts")
    assert [epoch for epoch, _ in result.curves[0]] == [1, 11, 12]
    assert result.values == result.best
    plain = _evaluated(ctx, text_encoder, chosen, tmp_path)
    floats = replace(chosen, images=(chosen.images / 255).astype(np.float32), space="unit")
    own = _evaluated(ctx, text_encoder, floats, tmp_path).result
    assert own.metrics[0] == pytest.approx(plain.result.metrics[0], abs=1e-3)
    told = _evaluated(ctx, text_encoder, replace(chosen, source_ids=None), tmp_path)  # the captioner says the same
    assert told.result.metrics == plain.result.metrics
    read = _evaluated(ctx, text_encoder, replace(chosen, source_ids=None, prompts=tuple("abcdef")), tmp_path, lr="1.0")
    other = _evaluated(ctx, text_encoder, chosen, tmp_path, lr="1.0")
    assert read.result.metrics != other.result.metrics and read.protocol.digest == other.protocol.digest
    assert told.protocol.digest == plain.protocol.digest != read.protocol.digest
    whole = replace(chosen, images=TOY.arrays("train")[0], labels=TOY.train.labels, source_ids=None, whole=True)
    assert 0 <= _evaluated(ctx, text_encoder, whole, tmp_path).result.last[0] <= 1


def test_texts_of_another_encoder_are_refused(ctx, text_encoder, tmp_path):
    texts = ddbench.Texts(np.ones((6, 16), np.float32), "bert", "another", "cls", 0.1)
    with pytest.raises(ddbench.UsageError, match=r"vectors of bert \(cls, weights another\)"):
        _evaluated(ctx, text_encoder, replace(_selected(), texts=texts), tmp_path)


def test_learned_rates_and_the_similarity_are_used(ctx, text_encoder, tmp_path):
    from ddbench_plugins.evaluators.retrieval import RetrievalOptions, recipe_of

    weights = text_weights(ctx, str(text_encoder))
    vectors = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32)
    texts = ddbench.Texts(vectors, text_encoder.name, weights, "cls", 0.2)
    content = replace(_selected(), texts=texts, learning_rate=0.3)
    record = _evaluated(ctx, text_encoder, content, tmp_path)
    assert {"learning_rate": 0.3, "text_learning_rate": 0.2}.items() <= record.result.metrics[0].items()
    parts = (np.ones(6, np.float32), np.ones((6, 2), np.float32), np.zeros((6, 2), np.float32))
    similar = replace(content, similarity=ddbench.Similarity(*parts, 1.0))
    assert (recipe_of(RetrievalOptions(), content).loss, recipe_of(RetrievalOptions(), similar).loss) == (
        "infonce",
        "wbce",
    )
    assert recipe_of(RetrievalOptions(text_rate="image"), content).lr_text == 0.3
    classifier = replace(_selected(), learning_rate=0.3)  # a trajectory method's, of other networks
    assert (recipe_of(RetrievalOptions(), classifier).lr_image, recipe_of(RetrievalOptions(), content).lr_image) == (
        0.1,
        0.3,
    )
    assert _evaluated(ctx, text_encoder, similar, tmp_path).digest != record.digest


def test_a_frozen_encoder_without_weights_and_missing_ones_are_refused(ctx, text_encoder, tmp_path):
    with pytest.raises(ddbench.UsageError, match="begins at random"):
        _evaluated(ctx, text_encoder, _selected(), tmp_path, trained="head")
    with pytest.raises(ddbench.ModelError, match="Cannot load the text encoder"):
        _evaluated(replace(ctx, machine=replace(ctx.machine, offline=True)), "no/model", _selected(), tmp_path)


def test_a_captioner_that_would_learn_from_test_images_is_refused(ctx, text_encoder, tmp_path):
    with pytest.raises(ddbench.UsageError, match="traits would be trained on the test images"):
        _evaluated(ctx, text_encoder, _selected(), tmp_path, captioner="traits")


def test_a_file_of_captions_is_refused_where_names_do_not_tell_test_images_apart(ctx, text_encoder, tmp_path):
    from ddbench_plugins.captioners.metadata import FILE, write_metadata

    write_metadata(tmp_path / FILE, TOY.train.ids, ("a drawing" for _ in TOY.train.ids))
    test = replace(TOY.test, ids=TOY.train.ids[: len(TOY.test)])
    ctx = replace(
        ctx,
        _dataset=replace(TOY, test=test),
        explicit={"evaluator": {"captioner": "file"}, "captioner": {"path": str(tmp_path / FILE)}},
    )
    evaluator, mine, _ = prepare_evaluator(ctx, "retrieval", "", 2)
    with pytest.raises(ddbench.UsageError, match="are both named 'train-0'"):
        evaluator.needs(mine, _selected(), 0)
