"""Outlier removal and clustering on toy latents."""

from __future__ import annotations

import numpy as np
import pytest
from ddbench_plugins.methods.vlcp.prototypes import cluster, inliers

import ddbench


def blobs(each: int = 10) -> np.ndarray:
    """Three tight groups of latents [n, 4, 2, 2] around -5, 0 and 5."""
    rng = np.random.default_rng(0)
    centres = np.repeat([-5.0, 0.0, 5.0], each)[:, None, None, None]
    return (centres + 0.1 * rng.standard_normal((3 * each, 4, 2, 2))).astype(np.float32)


def test_the_far_one_is_the_outlier():
    latents = np.concatenate([blobs(), np.full((1, 4, 2, 2), 40, np.float32)])
    assert inliers(latents, 1 / 31).tolist() == list(range(30))


def test_zero_contamination_keeps_everything_without_looking():
    assert inliers(np.full((5, 4, 1, 1), np.nan, np.float32), 0.0).tolist() == [0, 1, 2, 3, 4]


def test_the_share_removed_is_the_contamination():
    latents = np.random.default_rng(0).standard_normal((200, 4, 2, 2)).astype(np.float32)
    assert len(inliers(latents, 0.1)) == 180


def test_few_images_have_few_neighbours():
    assert len(inliers(blobs(2), 0.2, neighbours=10)) >= 4


def test_centres_are_the_means_of_their_members():
    latents = blobs()
    found = cluster(latents, 3, seed=0, class_name="x")
    assert found.centres.shape == (3, 4, 2, 2)
    for number in range(3):
        members = latents[found.members == number]
        assert len(members) == 10
        np.testing.assert_allclose(found.centres[number], members.mean(0), atol=1e-5)
    far = np.linalg.norm((latents - found.centres[found.members]).reshape(30, -1), axis=1)
    np.testing.assert_allclose(found.distances, far, rtol=1e-4, atol=1e-5)


def test_the_seed_decides():
    latents = np.random.default_rng(0).standard_normal((40, 4, 2, 2)).astype(np.float32)
    one, same, other = (cluster(latents, 5, seed, "x").centres for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_as_many_clusters_as_images():
    latents = blobs(1)
    found = cluster(latents, 3, 0, "x")
    assert np.array_equal(found.centres, latents) and found.members.tolist() == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_too_few_images_are_refused():
    with pytest.raises(ddbench.UsageError, match="'tench' has 2 images left for 3 clusters"):
        cluster(blobs(1)[:2], 3, 0, "tench")
    with pytest.raises(ddbench.UsageError, match="fewer than 2 different images"):
        cluster(np.zeros((4, 4, 1, 1), np.float32), 2, 0, "x")
