"""Precision, recall, density, coverage and the Fréchet distance, against their definitions and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import sqrtm

from ddbench import DistilledSet, UsageError
from ddbench.experiment.pipeline import prepare_evaluator
from ddbench.testing.toy import toy_dataset

pytest.importorskip("sklearn")
from ddbench_plugins.evaluators.quality.distances import frechet, kernel_distance, neighbours, radii


def brute_force(real, made, k):
    """The definitions of Naeem et al. 2020, one pair at a time."""

    def radius(rows, i):
        return sorted(np.linalg.norm(rows[i] - other) for other in rows)[k]  # of index 0 is the row itself

    apart = np.array([[np.linalg.norm(a - b) for b in made] for a in real])
    balls, own = [radius(real, i) for i in range(len(real))], [radius(made, j) for j in range(len(made))]
    inside = apart < np.array(balls)[:, None]
    return {
        "precision": inside.any(0).mean(),
        "density": inside.sum(0).mean() / k,
        "coverage": np.mean([apart[i].min() < balls[i] for i in range(len(real))]),
        "recall": (apart < np.array(own)).any(1).mean(),
    }


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_neighbours_are_their_definitions(k, shift):
    rng = np.random.default_rng(k)
    real, made = rng.normal(size=(40, 3)), rng.normal(size=(15, 3)) + shift
    found = neighbours(real, made, radii(real, k), k)
    assert found.figures == pytest.approx(brute_force(real, made, k))
    assert found.nearest.tolist() == [int(np.linalg.norm(made - row, axis=1).argmin()) for row in real]


def test_neighbours_on_a_line():
    """Balls of the real 0, 1, 3 reach to 1, 1, 2; of the two made ones, 0.5 is in two of them and 10 in none."""
    real = np.array([[0.0], [1.0], [3.0]])
    assert radii(real, 1).tolist() == [1, 1, 2]
    found = neighbours(real, np.array([[0.5], [10.0]]), radii(real, 1), 1).figures
    assert found == {"precision": 0.5, "density": 1.0, "coverage": 2 / 3, "recall": 1.0}
    # One image has no neighbour to draw a ball by.
    assert "recall" not in neighbours(real, np.array([[0.5]]), radii(real, 1), 1).figures


def test_frechet_of_normal_distributions_in_closed_form():
    """In one dimension (m − m')² + (s − s')²."""
    one, two = np.array([[-1.0], [1.0]]), np.array([[2.0], [6.0]])  # means 0, 4; variances 2, 8
    assert frechet(one, two) == pytest.approx(16 + (np.sqrt(2) - np.sqrt(8)) ** 2)
    assert frechet(one, one) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("sizes", [(50, 40), (50, 3), (4, 3)])
def test_frechet_is_the_formula_with_the_root_of_the_product(sizes):
    rng = np.random.default_rng(0)
    real, made = (rng.normal(size=(n, 6)) @ rng.normal(size=(6, 6)) for n in sizes)
    first, second = np.cov(real.T), np.cov(made.T)
    root = sqrtm(first @ second + 1e-12 * np.eye(6)).real
    wanted = np.square(real.mean(0) - made.mean(0)).sum() + np.trace(first + second - 2 * root)
    assert frechet(real, made) == pytest.approx(wanted, rel=1e-3)
    assert frechet(real, made) == pytest.approx(frechet(made, real))


def brute_force_kernel(real, made):
    """The unbiased estimate of Gretton et al. 2012, one pair at a time."""

    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    def among(rows):
        return np.mean([kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j])

    return among(real) + among(made) - 2 * np.mean([kernel(a, b) for a in real for b in made])


def test_kernel_distance_is_its_definition(monkeypatch):
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(12, 4)), rng.normal(size=(5, 4)) + 1
    wanted = brute_force_kernel(real, made)
    assert kernel_distance(real, made) == pytest.approx(wanted)
    monkeypatch.setattr("ddbench_plugins.evaluators.quality.distances.BLOCK", 5)
    assert kernel_distance(real, made) == pytest.approx(wanted)


def test_kernel_distance_does_not_grow_as_the_set_shrinks_while_the_frechet_distance_does():
    rng = np.random.default_rng(0)
    real, draws = rng.normal(size=(2000, 16)), rng.normal(size=(400, 8, 16))
    many = rng.normal(size=(2000, 16))
    assert abs(np.mean([kernel_distance(real, draw) for draw in draws])) < 0.02
    assert abs(kernel_distance(real, many)) < 0.02
    assert frechet(real, draws[0]) > 20 * frechet(real, many)


TOY = toy_dataset(channels=3)


def measured(ctx, images, labels, data=TOY, **options):
    chosen = {"teacher": "convnet-1-bn", "k": "2", **options}
    ctx = replace(ctx, _dataset=data, explicit={"evaluator": chosen})
    evaluator, mine, _ = prepare_evaluator(ctx, "quality", "", None)
    made = DistilledSet(images, labels)
    evaluator.protocol(mine, made).check("quality", "none")
    score = evaluator.evaluate(mine, made, 0)
    score.check(data, "quality")
    return score


def test_real_training_images_are_copies_and_noise_is_nothing(ctx):
    pixels, labels = TOY.arrays("train")
    chosen = np.concatenate([TOY.train.of_class(label)[:3] for label in range(3)])
    real = measured(ctx, pixels[chosen], labels[chosen])
    assert real.metrics["copies"] == 1
    assert real.metrics["recognised"] > 0.6
    assert real.last > 0.6
    noise = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    random = measured(ctx, noise, labels[chosen])
    assert random.metrics["copies"] == 0
    assert random.metrics["coverage"] < real.metrics["coverage"]
    assert random.metrics["frechet"] > real.metrics["frechet"]
    assert random.metrics["kernel_distance"] > real.metrics["kernel_distance"]


def test_what_is_undefined_for_few_images_is_left_out(ctx):
    pixels, labels = TOY.arrays("train")
    chosen = [int(TOY.train.of_class(label)[0]) for label in range(3)]
    figures = measured(ctx, pixels[chosen], labels[chosen], k="5").metrics
    assert "recall" not in figures
    assert {"precision", "density", "coverage", "frechet", "kernel_distance", "recognised", "copies"} == {*figures}


def test_equal_images_are_copies_where_test_images_are_so_too(ctx):
    pixels, labels = TOY.arrays("train")
    leaking = replace(TOY, test=TOY.train, fingerprint="leaking")
    assert measured(ctx, pixels[:3], labels[:3], data=leaking).metrics["copies"] == 1


def test_more_neighbours_than_test_images_are_refused(ctx):
    mine = replace(ctx, _dataset=TOY, explicit={"evaluator": {"k": str(len(TOY.test))}})
    quality, bound, _ = prepare_evaluator(mine, "quality", "", 1)
    with pytest.raises(UsageError, match="neighbours of each of"):
        quality.check(bound, ())
