import numpy as np
import pytest

from ddbench.tables.stats import (
    bootstrap,
    detectable,
    difference,
    holm,
    interval_of_mean,
    mcnemar,
    population_std,
)


def test_population_deviation():
    values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]  # the textbook example with deviation 2
    assert population_std(values) == 2
    assert population_std([0.3]) is None


def test_no_values_have_no_deviation():
    with pytest.raises(ValueError):
        population_std([])


def test_students_interval():
    # t(0.975, 4) = 2.776, s = sqrt(2.5), half width = 2.776 * 1.5811 / sqrt(5) = 1.963
    low, high = interval_of_mean([[1.0, 2.0, 3.0, 4.0, 5.0]])
    assert (low, high) == pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-4)
    assert interval_of_mean([[0.5]]) is None


def correctness(only_first, only_second, both):
    first = np.array([True] * only_first + [False] * only_second + [True] * both)
    second = np.array([False] * only_first + [True] * only_second + [True] * both)
    return first, second


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [
        (1, 9, 0.021484375),  # 2 * (C(10,0) + C(10,1)) / 2^10
        (9, 1, 0.021484375),
        (5, 5, 1.0),
        (0, 0, 1.0),
        (0, 6, 0.03125),  # 2 / 2^6
    ],
)
def test_exact_mcnemar(only_first, only_second, p_value):
    test = mcnemar(*correctness(only_first, only_second, 20))
    assert (test.only_first, test.only_second) == (only_first, only_second)
    assert test.p_value == pytest.approx(p_value)


def test_mcnemar_needs_the_same_images():
    with pytest.raises(ValueError, match="paired"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))


# Welch's t test, the first example of the encyclopaedia article of that name: t = -2.46, 25.0 degrees, p = 0.021
FIRST = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
SECOND = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4]


def test_welchs_test_of_textbook_data():
    found = difference([FIRST], [SECOND])
    assert found.unit == "networks" and found.n == (15, 15)
    assert found.p_value == pytest.approx(0.021, abs=5e-4)
    assert found.effect == pytest.approx(-2.1667, abs=1e-4)
    assert found.low < found.effect < found.high < 0
    as_sets = difference([[value] for value in FIRST], [[value] for value in SECOND])
    assert as_sets.unit == "sets" and as_sets.p_value == found.p_value


def test_sets_are_compared_by_their_means_and_never_by_their_networks():
    one, two = [[0.5, 0.52], [0.6, 0.62]], [[0.4, 0.42], [0.7, 0.72]]
    by_means = difference([[0.51], [0.61]], [[0.41], [0.71]])
    assert difference(one, two).p_value == pytest.approx(by_means.p_value)
    assert interval_of_mean(one) == pytest.approx(interval_of_mean([[0.51], [0.61]]))


def test_an_interval_stays_within_the_range_of_its_values():
    low, high = interval_of_mean([[0.9, 0.98]])
    assert high > 1
    assert interval_of_mean([[0.9, 0.98]], within=(0, 1)) == (low, 1)
    assert interval_of_mean([[0.0], [0.1]], within=(0, 1))[0] == 0
    assert interval_of_mean([[0.5]], within=(0, 1)) is None


def test_a_single_set_is_compared_by_networks_and_a_single_network_not_at_all():
    assert difference([[0.5, 0.6]], [[0.4, 0.5], [0.4, 0.6]]).unit == "networks"
    alone = difference([[0.5]], [[0.4, 0.5]])
    assert alone.p_value is None and alone.low is None and alone.effect == pytest.approx(0.05)
    assert difference([[0.5, 0.5]], [[0.5, 0.5]]).p_value == 1.0
    assert difference([[0.6, 0.6]], [[0.5, 0.5]]).p_value == 0.0


def test_holms_correction_of_textbook_values():
    p_values = {"a": 0.01, "b": 0.04, "untested": None, "c": 0.03, "d": 0.005}
    assert holm(p_values) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({}) == {} and holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_detectable_difference_grows_with_noise_and_shrinks_with_sets():
    def least(spread, sets):
        return detectable(*[[[0.5 + spread * (-1) ** n] for n in range(sets)]] * 2)

    assert least(0.01, 3) < least(0.02, 3) and least(0.01, 8) < least(0.01, 3)
    assert detectable([[0.5]], [[0.4]]) is None


def study(shift, trials=1000, between=0.5, within=1.0, seed=0):
    """Percent accuracies [trials, methods, sets, repeats] of two methods, 3 sets × 5 repeats."""
    rng = np.random.default_rng(seed)
    runs = rng.normal(60, between, (trials, 2, 3, 1)) + rng.normal(0, within, (trials, 2, 3, 5))
    runs[:, 0] += shift
    return runs.tolist()


@pytest.mark.parametrize(("between", "within"), [(0.5, 1.0), (1.0, 0.5), (0.1, 1.0), (2.0, 2.0)])
def test_equal_methods_are_seldom_told_apart(between, within):
    apart = sum(difference(*trial).p_value < 0.05 for trial in study(0.0, between=between, within=within))
    assert apart <= 70


def test_methods_three_points_apart_are_mostly_told_apart():
    assert sum(difference(*trial).p_value < 0.05 for trial in study(3.0)) >= 800


def answers(rng, shift, sets=3, networks=2, images=400):
    """Which images networks of two methods get right; both find the same images hard."""
    hard = rng.normal(0, 1, images)
    level = rng.normal(0, 0.05, (2, sets, 1, 1)) + np.array([shift, 0.0]).reshape(2, 1, 1, 1)
    right = rng.normal(0, 1, (2, sets, networks, images)) + level > hard
    return list(right[0]), list(right[1])


def test_bootstrap_over_images_and_sets():
    rng = np.random.default_rng(0)
    equal = [bootstrap(*answers(rng, 0.0), draws=200, seed=n).p_value < 0.05 for n in range(100)]
    assert sum(equal) <= 7
    apart = [bootstrap(*answers(rng, 0.6), draws=200, seed=n) for n in range(20)]
    assert sum(found.p_value < 0.05 for found in apart) >= 16
    assert all(found.low < found.effect < found.high for found in apart)
    one, two = answers(rng, 0.0)
    assert bootstrap(one, two, draws=50) == bootstrap(one, two, draws=50)
    assert bootstrap(one[:1], two).unit == "networks"
    assert bootstrap([one[0][:1]], two).p_value is None
    with pytest.raises(ValueError, match="same test images"):
        bootstrap(one, [block[:, :-1] for block in two])


def test_welchs_interval_is_scipys():
    from scipy.stats import ttest_ind

    for one, two in ((FIRST, SECOND[:7]), ([0.5, 0.52, 0.61], [0.4, 0.43])):
        theirs = ttest_ind(one, two, equal_var=False)
        for found in (difference([one], [two]), difference([[v] for v in one], [[v] for v in two])):
            assert found.p_value == pytest.approx(theirs.pvalue)
            assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
            assert found.n == (len(one), len(two))


def test_only_networks_can_be_compared_where_one_side_has_one_set():
    many, single = [[0.5, 0.52], [0.6, 0.62]], [[0.4, 0.42, 0.47]]
    flat = [[value for group in many for value in group]]
    for found, expected in (
        (difference(many, single), difference(flat, single)),
        (difference(single, many), difference(single, flat)),
    ):
        assert found == expected and found.unit == "networks"
    assert detectable(many, single) == detectable(flat, single)
    assert detectable(single, many) == detectable(single, flat)


def test_the_detectable_difference_is_that_of_the_usual_formula():
    """(t(0.975) + t(0.8)) times the standard error, with as many degrees of freedom as equal deviations give."""
    from scipy.stats import t

    groups = [[0.5], [0.6], [0.7]]  # of deviation 0.1
    error = (0.1**2 / 3 + 0.1**2 / 3) ** 0.5
    assert detectable(groups, groups) == pytest.approx((t.ppf(0.975, 4) + t.ppf(0.8, 4)) * error)


def test_a_bootstrap_over_many_images_is_welchs_test_of_the_sets():
    """Images that hardly matter leave what varies between sets: the closed form is its right value."""
    rng = np.random.default_rng(3)
    rates = ((0.70, 0.78, 0.74), (0.60, 0.55, 0.68, 0.59))
    one, two = ([rng.random((2, 20_000)) < rate for rate in side] for side in rates)
    found = bootstrap(one, two, draws=1500)
    expected = difference(*([[network.mean() for network in block] for block in side] for side in (one, two)))
    assert (found.effect, found.n, found.unit) == (pytest.approx(expected.effect), (3, 4), "sets")
    assert found.high - found.effect == pytest.approx(expected.high - expected.effect, rel=0.06)
    assert found.effect - found.low == pytest.approx(found.high - found.effect)
    assert found.p_value == pytest.approx(expected.p_value, rel=0.3)


def test_a_bootstrap_of_one_set_resamples_its_networks():
    rng = np.random.default_rng(4)
    blocks = [np.stack([rng.random(20_000) < rate for rate in side]) for side in ((0.7, 0.75, 0.8), (0.5, 0.6))]
    found, expected = bootstrap(*([block] for block in blocks), draws=1500), difference(*([b.mean(1)] for b in blocks))
    assert found.unit == "networks" and found.n == (3, 2)
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.06)


def test_a_bootstrap_of_equal_sets_has_the_error_of_the_images():
    """Networks without any variation: what is left is the sampling of the paired images."""
    first = np.arange(400) < 240
    second = np.arange(400) < 200
    found = bootstrap([first[None]] * 3, [second[None]] * 3, draws=4000)
    differs = (first.astype(float) - second).std() / 400**0.5
    assert (found.high - found.low) / 2 / differs == pytest.approx(2.776, rel=0.06)  # t(0.975) at 3 + 3 - 2


@pytest.mark.parametrize("sides", [([], [np.ones((1, 3), bool)]), ([np.ones((1, 3), bool)], []), ([], [])])
def test_a_bootstrap_needs_sets_on_both_sides(sides):
    with pytest.raises(ValueError, match="sets on both sides"):
        bootstrap(*sides)
