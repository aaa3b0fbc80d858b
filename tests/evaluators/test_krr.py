"""Kernel ridge regression as an evaluator, and the kind of labels that only a regression takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ddbench
from ddbench.errors import UsageError
from ddbench.experiment.pipeline import evaluate, prepare_evaluator
from ddbench.results.schema import PluginPart
from ddbench.sets.folder import content_digest
from ddbench.sets.made import Distilled

torch = pytest.importorskip("torch")


def _made(content, tmp_path):
    part = PluginPart(name="mine", version=1, options={}, explicit={})
    digest = content_digest(content)
    sizes = {"images": content.images.nbytes, "labels": 0}
    return Distilled(part, content, digest, digest, 2, 0, (), [], None, sizes, tmp_path)


def _set(digits, ipc=2, **fields):
    images, labels = digits.arrays("train")
    chosen = np.concatenate([np.flatnonzero(labels == label)[:ipc] for label in range(digits.num_classes)])
    return ddbench.DistilledSet(images[chosen], labels[chosen], **fields)


def _evaluate(ctx, digits, content, tmp_path, name="krr", **options):
    explicit = {"evaluator": options} if options else {}
    bound = prepare_evaluator(replace(ctx, _dataset=digits, explicit=explicit), name, "", 2)
    return evaluate(bound, _made(content, tmp_path), repeats=1)


def _by_hand(digits, content, targets, depth=1):
    """The regression in NumPy, with the NTK of one hidden layer written out."""
    x, z = (
        ((a / 255 - digits.mean[0]) / digits.std[0]).reshape(len(a), -1)
        for a in (content.images, digits.arrays("test")[0])
    )

    def kernel(a, b):
        s = 2 * a @ b.T / a.shape[1] + 0.01
        norm = np.sqrt(np.outer(*(2 * (v**2).mean(1) + 0.01 for v in (a, b))))
        c = np.clip(s / norm, -1, 1)
        angle = np.arccos(c)
        first = norm * (np.sqrt(1 - c**2) + (np.pi - angle) * c) / np.pi + 0.01
        return first + (np.pi - angle) / np.pi * s

    own = kernel(x, x)
    found = kernel(z, x) @ np.linalg.solve(own + 1e-6 * np.trace(own) / len(x) * np.eye(len(x)), targets)
    return float((found.argmax(1) == digits.arrays("test")[1]).mean())


def test_the_accuracy_is_that_of_the_regression_by_hand(ctx, digits, tmp_path):
    content = _set(digits)
    record = _evaluate(ctx, digits, content, tmp_path)
    assert record.result.values == [pytest.approx(_by_hand(digits, content, np.eye(10)[content.labels] - 0.1))]
    assert record.result.values[0] > 0.6
    assert (record.cell.network, record.protocol.settings["label_type"]) == ("none", "real")


def test_learned_labels_are_what_is_regressed_on(ctx, digits, tmp_path):
    content = _set(digits)
    shifted = (np.eye(10)[(content.labels + 1) % 10] * 3 - 0.3).astype(np.float32)
    own = replace(content, soft_labels=shifted, label_kind="centred")
    assert _evaluate(ctx, digits, own, tmp_path).result.values == [pytest.approx(_by_hand(digits, own, shifted))]
    soft = np.eye(10, dtype=np.float32)[content.labels]
    plain = _evaluate(ctx, digits, content, tmp_path)
    same = _evaluate(ctx, digits, replace(content, soft_labels=soft), tmp_path)
    assert same.result.values == plain.result.values
    assert same.protocol.digest == plain.protocol.digest


def test_floats_in_the_data_sets_space_give_what_their_bytes_give(ctx, digits, tmp_path):
    content = _set(digits)
    floats = ((content.images / 255 - digits.mean[0]) / digits.std[0]).astype(np.float32)
    found = _evaluate(ctx, digits, replace(content, images=floats, space="normalized"), tmp_path)
    assert found.result.values == _evaluate(ctx, digits, content, tmp_path).result.values


@pytest.mark.parametrize("name", ["dc", "idc", "minimax", "rded", "fkd", "lrs"])
def test_protocols_that_train_networks_refuse_real_valued_labels(ctx, digits, tmp_path, name):
    labels = np.eye(10, dtype=np.float32)[_set(digits).labels] * 3
    content = _set(digits, soft_labels=labels, label_kind="centred")
    with pytest.raises(UsageError, match=f"Evaluator {name} cannot train on the centred labels of mine"):
        _evaluate(ctx, digits, content, tmp_path, name)


@pytest.mark.parametrize(("name", "kind", "takes"), [("replay", "centred", "krr"), ("krr", "free", "replay")])
def test_labels_that_are_refused_are_sent_to_who_takes_them(ctx, digits, tmp_path, name, kind, takes):
    labels = np.eye(10, dtype=np.float32)[_set(digits).labels] * 3
    with pytest.raises(UsageError, match=f"Evaluator {name} cannot train on the {kind} labels") as caught:
        _evaluate(ctx, digits, _set(digits, soft_labels=labels, label_kind=kind), tmp_path, name)
    assert f"--eval {takes}" in caught.value.hint


def test_more_images_than_fit_are_refused(ctx, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("ddbench_plugins.evaluators.krr.LARGEST", 19)
    with pytest.raises(ddbench.DataError, match="Kernel ridge regression on 20 images takes"):
        _evaluate(ctx, digits, _set(digits), tmp_path)


def test_data_of_one_class_are_refused(ctx, digits):
    one = replace(digits, class_names=("all",), class_ids=("all",))
    evaluator, mine, _ = prepare_evaluator(replace(ctx, _dataset=one), "krr", "", 1)
    with pytest.raises(ddbench.UsageError, match="has one class"):
        evaluator.check(mine, ())


def test_random_features_regress_as_by_hand_and_other_networks_differ(ctx, digits, tmp_path):
    from ddbench_plugins.kernels.random_features import RandomConvNets, features

    content = _set(digits)
    record = _evaluate(ctx, digits, content, tmp_path, kernel="random-features", width="16", networks="2")
    bound = prepare_evaluator(replace(ctx, _dataset=digits), "krr", "", 2)
    drawn = RandomConvNets(2, 3, 16).draw(1, "cpu", bound.ctx.seed("random features", 0))
    x, z = (
        features(
            drawn, torch.from_numpy((a / 255 - digits.mean[0]) / digits.std[0]).float().permute(0, 3, 1, 2)
        ).double()
        for a in (content.images, digits.arrays("test")[0])
    )
    own, theirs = (2 * a @ x.T + 0.01 for a in (x, z))
    weights = torch.linalg.solve(
        own + 5e-3 * own.diagonal().mean() * torch.eye(20), torch.eye(10).double()[content.labels] - 0.1
    )
    found = (theirs @ weights).argmax(1).numpy() == digits.arrays("test")[1]
    assert record.result.values == [pytest.approx(found.mean(), abs=2e-3)]
    assert record.result.values[0] > 0.6
    stated = record.protocol.settings
    assert (stated["kernel"], stated["depth"], stated["ridge"]) == ("random-features", 3, 5e-3)
    assert (stated["networks"], stated["width"], stated["arithmetic"]) == (2, 16, "float64, features float32")


def test_the_exact_kernels_have_the_protocol_that_they_had(ctx, digits, tmp_path):
    stated = _evaluate(ctx, digits, _set(digits), tmp_path).protocol.settings
    assert {"kernel": "ntk", "depth": 1, "ridge": 1e-6, "arithmetic": "float64"}.items() <= stated.items()
    assert not {"networks", "width"} & stated.keys()
