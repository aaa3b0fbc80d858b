"""Calibration, worst class, robustness ratio, corruptions and attacks, by hand and in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddbench import DistilledSet, UsageError
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.evaluators.robust.attacks import pgd  # noqa: E402
from ddbench_plugins.evaluators.robust.corruptions import SEVERITIES, corrupted  # noqa: E402
from ddbench_plugins.evaluators.robust.figures import calibration_error, robustness_ratio, worst_class  # noqa: E402

TOY = toy_dataset(channels=3)


def test_calibration_error_by_hand():
    """Bins of a half: |0.3 − 0/1|·1/4 + |(0.6 + 0.9 + 1)/3 − 2/3|·3/4."""
    confidence, correct = np.array([0.3, 0.6, 0.9, 1.0]), np.array([False, True, False, True])
    assert calibration_error(confidence, correct, bins=2) == pytest.approx(0.3 / 4 + (2.5 - 2) / 4)
    assert calibration_error(np.array([0.5, 0.5]), np.array([True, False])) == pytest.approx(0)
    assert calibration_error(np.array([1 / 15, 1.0]), np.array([False, True])) == pytest.approx(1 / 30)


def test_the_worst_class():
    labels = np.array([0, 0, 0, 1, 1])
    assert worst_class(np.array([True, False, True, True, False]), labels) == 0.5


def test_robustness_ratio_by_hand():
    """Accuracies 0.8 → 0.5 and 0.2: the mean loses 0.45 of the 0.6 that the worst loses."""
    assert robustness_ratio(0.8, [0.5, 0.2]) == pytest.approx(1 - 0.45 / 0.6)
    assert robustness_ratio(0.8, [0.2, 0.2]) == pytest.approx(0)
    assert robustness_ratio(0.8, [0.8, 0.8]) == 0


def test_fgsm_of_a_linear_network_in_closed_form():
    """Between two classes the loss grows along w' − w, so each pixel moves by ε to its sign, within [0, 1]."""
    weights = torch.tensor([[1.0, -2.0, 0.5, -1.0], [0.5, 1.0, -1.0, 2.0]])
    images, labels = torch.tensor([[0.5, 0.5, 0.02, 0.99]]).view(1, 1, 2, 2), torch.tensor([0])

    def logits(x):
        return x.flatten(1) @ weights.T

    found = pgd(logits, images, labels, epsilon=0.1, step=0.1, steps=1)
    assert found.flatten().tolist() == pytest.approx([0.4, 0.6, 0, 1])
    # Steps of PGD add up, and never lead further than ε.
    assert pgd(logits, images, labels, epsilon=0.1, step=0.03, steps=2).flatten()[0] == pytest.approx(0.44)
    torch.testing.assert_close(pgd(logits, images, labels, epsilon=0.1, step=0.03, steps=9), found)
    assert (pgd(logits, images, labels, epsilon=0.0, step=0.03, steps=9) == images).all()


def batch(channels=3, value=None):
    draws = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, 256, (4, channels, 16, 16), generator=draws, dtype=torch.uint8)
    return drawn if value is None else torch.full_like(drawn, value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SEVERITIES)
def test_corruptions_grow_with_their_severity(name, channels):
    images = batch(channels)
    changes = []
    for severity in (1, 5):
        made = corrupted(images, name, severity, torch.Generator().manual_seed(0))
        again = corrupted(images, name, severity, torch.Generator().manual_seed(0))
        assert made.dtype == torch.uint8
        assert made.shape == images.shape
        assert (made == again).all()
        changes.append(float((made.float() - images.float()).abs().mean()))
    assert 0 < changes[0] < changes[1]


def test_corruptions_by_hand():
    grey = batch(value=102)  # 0.4
    generator = torch.Generator().manual_seed(0)
    assert (corrupted(grey, "contrast", 5, generator) == 102).all()  # nothing differs from the mean
    assert (corrupted(grey, "gaussian_blur", 5, generator).int() - 102).abs().max() <= 1
    assert (corrupted(grey, "pixelate", 5, generator) == 102).all()
    # V of HSV grows by 0.3: of the colour (0.5, 0.25, 0) to (0.8, 0.4, 0).
    colour = torch.tensor([128, 64, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4).contiguous()
    made = corrupted(colour, "brightness", 5, generator)[0, :, 0, 0]
    assert made.tolist() == pytest.approx([128 + 0.3 * 255, 64 + 0.15 * 255, 0], abs=1)
    halves = torch.tensor([0, 255], dtype=torch.uint8).repeat(3, 8, 4).view(1, 3, 8, 8)
    assert corrupted(halves, "contrast", 2, generator).unique().tolist() == [63, 191]  # half as far from 0.5
    noise = corrupted(batch(value=128), "gaussian_noise", 5, generator).float() / 255
    assert noise.std() == pytest.approx(0.1, abs=0.005)
    salted = corrupted(grey, "impulse_noise", 5, generator)
    assert (salted == 0).double().mean() == pytest.approx(0.035, abs=0.01)
    assert (salted == 255).double().mean() == pytest.approx(0.035, abs=0.01)
    shot = corrupted(grey, "shot_noise", 5, generator).float() / 255
    assert shot.var() == pytest.approx(0.4 / 50, rel=0.1)


def scored(ctx, name, **options):
    ctx = replace(ctx, _dataset=TOY, explicit={"evaluator": {"epochs": "5", **options}})
    evaluator, mine, _ = prepare_evaluator(ctx, name, "convnet-1-bn", 3)
    pixels, labels = TOY.arrays("train")
    chosen = np.concatenate([TOY.train.of_class(label)[:3] for label in range(3)])
    made = DistilledSet(pixels[chosen], labels[chosen])
    return evaluator.protocol(mine, made), evaluator.evaluate(mine, made, 0)


@pytest.mark.parametrize("name", ["rded", "dc"])
def test_students_are_those_of_the_protocol(ctx, name):
    plain_protocol, plain = scored(ctx, name)
    protocol, score = scored(ctx, f"{name}-robust", epsilon="0", measured="none")
    score.check(TOY, name)
    assert (score.correct == plain.correct).all()
    assert plain.metrics.items() <= score.metrics.items()
    assert {**protocol.settings, "measures": None} == {**plain_protocol.settings, "measures": None}
    figures = score.metrics
    assert figures["clean"] == pytest.approx(score.last)
    assert figures["pgd"] == figures["fgsm"] == figures["clean"]  # ε = 0
    assert figures["corrupted"] == pytest.approx(np.mean([figures[name] for name in SEVERITIES]))
    assert figures["worst_class"] == min(score.correct[TOY.test.labels == label].mean() for label in range(3))


def test_attacks_lower_the_accuracy(ctx):
    _, score = scored(ctx, "dc-robust", epochs="40", epsilon="0.3", attack_step="0.1", measured="30")
    assert score.metrics["pgd"] <= score.metrics["fgsm"] + 0.1
    assert score.metrics["pgd"] < score.metrics["clean"]
    assert 0 <= score.metrics["ece"] <= 1


@pytest.mark.parametrize("severities", ["[0]", "[3, 6]", "[]"])
def test_severities_are_one_to_five(ctx, severities):
    ctx = replace(ctx, _dataset=TOY, explicit={"evaluator": {"severities": severities}})
    with pytest.raises(UsageError, match="severities"):
        prepare_evaluator(ctx, "dc-robust", "convnet-1-bn", 1)
