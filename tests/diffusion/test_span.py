"""Few wide latents: the same distances, outliers and clusters in the coordinates of their clustering."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from ddbench_plugins.diffusion import clustering
from ddbench_plugins.diffusion.clustering import each_class
from ddbench_plugins.methods.vlcp.prototypes import cluster, inliers
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import LocalOutlierFactor

import ddbench


def wide(count: int = 60, dimensions: int = 300) -> np.ndarray:
    """Return float32 [n, d] about four overlapping centres, with three strays."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, dimensions))
    points = centres[rng.integers(0, 4, count)] + 0.9 * rng.standard_normal((count, dimensions))
    points[:3] += 2 * rng.standard_normal((3, dimensions))
    return points.astype(np.float32)


@pytest.fixture
def narrow_limit(monkeypatch):
    """Let the compact form be taken at 300 dimensions."""
    monkeypatch.setattr(clustering, "WIDE", 256)


def test_coordinates_keep_all_distances():
    points = wide() + 100  # far from the origin
    found = clustering.coordinates(points)
    assert found.shape[0] == 60 and found.shape[1] <= 60
    exact = pairwise_distances(points.astype(np.float64))
    np.testing.assert_allclose(pairwise_distances(found), exact, rtol=1e-9, atol=1e-6)


def test_points_on_a_line_have_one_coordinate():
    points = np.outer(np.arange(5.0), np.ones(300)).astype(np.float32)
    found = clustering.coordinates(points)
    assert found.shape == (5, 1)
    assert abs(found[4, 0] - found[0, 0]) == pytest.approx(4 * 300**0.5)


def test_equal_points_stay_equal():
    points = wide()
    points[7] = points[51]
    found = clustering.coordinates(points)
    assert np.array_equal(found[7], found[51]) and not np.array_equal(found[7], found[8])


def test_only_few_and_wide_points_are_changed():
    assert not clustering.is_wide(wide(60, clustering.WIDE - 1)) and clustering.is_wide(wide(60, clustering.WIDE))
    assert not clustering.is_wide(np.empty((clustering.WIDE, clustering.WIDE), np.float32))
    small = wide(60, 300)
    assert np.array_equal(clustering.compact(small), small)


def test_outliers_and_clusters_are_those_of_scikit_learn(narrow_limit, monkeypatch):
    points = wide()
    seen = []
    coordinates = clustering.coordinates
    monkeypatch.setattr(clustering, "coordinates", lambda given: seen.append(given.shape) or coordinates(given))
    kept = inliers(points, 0.1)
    assert kept.tolist() == np.flatnonzero(LocalOutlierFactor(10, contamination=0.1).fit_predict(points) > 0).tolist()
    found = cluster(points[kept], 4, 0, "x")
    theirs = KMeans(4, n_init=10, random_state=0).fit(points[kept])
    assert seen == [(60, 300), (54, 300)]
    assert (found.distances.astype(np.float64) ** 2).sum() <= 1.0001 * theirs.inertia_
    for number in range(4):
        np.testing.assert_allclose(found.centres[number], points[kept][found.members == number].mean(0), atol=1e-5)


def test_one_compact_form_serves_both_steps(narrow_limit, monkeypatch):
    latents = wide().reshape(60, 3, 10, 10)
    kept = inliers(latents, 0.1)
    apart = cluster(latents[kept], 4, 0, "x")
    points = clustering.compact(latents)
    monkeypatch.setattr(clustering, "coordinates", lambda given: pytest.fail("twice"))
    assert np.array_equal(inliers(points, 0.1), kept)
    together = cluster(latents[kept], 4, 0, "x", points[kept])
    assert np.array_equal(together.members, apart.members) and together.centres.shape == (4, 3, 10, 10)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_too_few_different_wide_images_are_refused(narrow_limit):
    points = np.repeat(wide(3), 20, axis=0)
    with pytest.raises(ddbench.UsageError, match="fewer than 4 different images"):
        cluster(points, 4, 0, "x")


def test_classes_are_worked_on_together_and_come_back_in_order():
    both = threading.Barrier(2, timeout=10)
    told = []

    def work(label: int) -> int:
        if label < 2:
            both.wait()
        return 10 * label

    assert each_class(work, 5, advance=told.append, workers=2) == [0, 10, 20, 30, 40]
    assert told == [1, 2, 3, 4, 5]


def test_a_class_has_one_thread_and_the_rest_of_the_process_its_own_again():
    from threadpoolctl import threadpool_info

    before = [pool["num_threads"] for pool in threadpool_info()]
    inside = each_class(lambda label: [pool["num_threads"] for pool in threadpool_info()], 3, workers=2)
    assert {count for counts in inside for count in counts} == {1}
    assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_the_error_of_a_class_ends_the_work():
    begun = []

    def work(label: int) -> None:
        begun.append(label)
        if label == 1:
            raise ValueError("class 1")

    with pytest.raises(ValueError, match="class 1"):
        each_class(work, 1000, workers=1)
    assert begun == [0, 1]
