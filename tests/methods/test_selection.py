from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.methods.herding import Herding
from ddbench_plugins.methods.kcenter import KCenter
from ddbench_plugins.methods.kmeans import cluster, nearest_distinct
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ddbench
from ddbench.plugin.contracts import Budget

features = st.tuples(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32 - 1)).map(
    lambda t: np.random.default_rng(t[2]).normal(size=t[:2]).astype(np.float32)
)


@pytest.fixture
def distil(ctx, digits):
    def distil(name, ipc, seed=0, **options):
        whole = replace(ctx, _dataset=digits, ipc=ipc, base_seed=seed, explicit={"method": options})
        method, mine, _ = whole.use("method", name)
        made = method.distill(mine)
        made.check(digits, Budget(ipc), name)
        return made

    return distil


@settings(max_examples=60)
@example(np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32))  # a tie
@given(features)
def test_herding_is_its_formula(f):
    """The formula as it is written, step by step; of equally near ones (such as two samples) rounding decides."""
    order = Herding.order(f, min(len(f), 7)).tolist()
    f = f.astype(np.float64)
    mean, total = f.mean(0), np.zeros(f.shape[1])
    for k, chosen in enumerate(order):
        distance = {i: np.linalg.norm((k + 1) * mean - total - f[i]) for i in range(len(f)) if i not in order[:k]}
        assert distance[chosen] <= min(distance.values()) + 1e-7
        total += f[chosen]


@settings(max_examples=60)
@given(features)
def test_orders_are_distinct_and_nested(f):
    for order in (Herding.order, KCenter.order):
        everything = order(f, len(f)).tolist()
        assert sorted(everything) == list(range(len(f)))
        assert order(f, max(1, len(f) // 2)).tolist() == everything[: max(1, len(f) // 2)]


@pytest.mark.parametrize("shape", [(9, 5), (33, 2048), (130, 7)])
def test_identical_features_are_taken_in_order(shape):
    f = np.broadcast_to(np.random.default_rng(0).normal(size=shape[1]), shape)
    assert Herding.order(f, 9).tolist() == list(range(9))
    assert KCenter.order(f, 9).tolist() == list(range(9))


def test_herding_follows_the_mean_better_than_chance():
    f = np.random.default_rng(0).normal(size=(500, 16))
    herded = np.linalg.norm(f[Herding.order(f, 20)].mean(0) - f.mean(0))
    random = np.mean([np.linalg.norm(f[i : i + 20].mean(0) - f.mean(0)) for i in range(0, 480, 20)])
    assert herded < random / 5


def test_k_center_starts_at_the_middle_and_goes_to_the_farthest():
    f = np.array([[0.0], [10.0], [4.0], [5.0], [9.0]])  # mean 5.6
    assert KCenter.order(f, 3).tolist() == [3, 0, 1]


@settings(max_examples=40)
@given(features)
def test_k_center_covers_at_most_twice_as_badly_as_the_best_choice_of_two(f):
    def radius(centres):
        return np.linalg.norm(f[:, None] - f[centres][None], axis=-1).min(1).max()

    if len(f) < 3:
        return
    # Gonzalez 1985: from any start, greedy is within a factor of two of the optimum.
    best = min(radius([i, j]) for i in range(len(f)) for j in range(i))
    assert radius(KCenter.order(f, 2)) <= 2 * best + 1e-5


def test_random_depends_on_the_seed_and_is_nested(distil, digits):
    five, again, ten, other = (distil("random", *a) for a in ((5, 0), (5, 0), (10, 0), (5, 1)))
    assert five.source_ids == again.source_ids != other.source_ids
    assert (five.images == again.images).all()
    for label in range(10):
        assert ten.source_ids[label * 10 : label * 10 + 5] == five.source_ids[label * 5 : label * 5 + 5]
    position = {identity: i for i, identity in enumerate(digits.train.ids)}
    where = [position[i] for i in five.source_ids]
    assert len(set(where)) == 50
    assert (digits.train.labels[where] == five.labels).all()
    assert (digits.arrays("train")[0][where] == five.images).all()


def test_random_first_takes_the_first_of_each_class(distil, digits):
    made = distil("random", 3, seed=4, order="first")
    wanted = [digits.train.ids[i] for label in range(10) for i in digits.train.of_class(label)[:3]]
    assert list(made.source_ids) == wanted


def test_unknown_options_are_refused(distil):
    with pytest.raises(ddbench.UsageError, match="order='shuffled'"):
        distil("random", 1, order="shuffled")
    with pytest.raises(ddbench.UsageError, match="no option 'ordr'"):
        distil("random", 1, ordr="first")


def test_k_means_centroids(distil, digits):
    made = distil("k-means", 1)
    images, labels = digits.arrays("train")
    for label in range(10):
        assert np.abs(made.images[label] - images[labels == label].mean(0)).max() <= 0.51
    assert made.source_ids is None
    several = distil("k-means", 4)
    assert (several.images == distil("k-means", 4).images).all()
    assert (several.images != distil("k-means", 4, seed=1).images).any()


def test_k_means_nearest_gives_real_images_once(distil, digits):
    made = distil("k-means", 6, images="nearest")
    assert len(set(made.source_ids)) == 60
    position = {identity: i for i, identity in enumerate(digits.train.ids)}
    assert (digits.train.labels[[position[i] for i in made.source_ids]] == made.labels).all()


def test_k_means_with_fewer_different_images_than_clusters():
    same = np.full((5, 3), 0.5, np.float32)
    centres = cluster(same, 4, seed=0, restarts=1)
    assert np.allclose(centres, 0.5)
    assert nearest_distinct(same, centres).tolist() == [0, 1, 2, 3]


def test_k_means_lowers_the_distance_to_the_images(digits):
    images, labels = digits.arrays("train")
    pixels = images[labels == 3].reshape(-1, 256).astype(np.float32) / 255

    def cost(centres):
        return np.square(pixels[:, None] - centres[None]).sum(-1).min(1).sum()

    assert cost(cluster(pixels, 5, 0, 1)) < 0.9 * cost(pixels[:5])


def test_full_is_the_training_set(distil, digits):
    made = distil("full", None)
    assert made.whole
    assert made.source_ids == digits.train.ids
    assert (made.images == digits.arrays("train")[0]).all()


def test_a_budget_is_needed(distil):
    with pytest.raises(ddbench.UsageError, match="images per class"):
        distil("random", None)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_teachers")
def test_selection_by_features(distil):
    for name in ("herding", "k-center"):
        made = distil(name, 3)
        assert len(set(made.source_ids)) == 30
        assert made.extra["teacher"]["accuracy"] > 0.9
        assert made.source_ids == distil(name, 3, seed=7).source_ids
