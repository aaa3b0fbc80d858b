import numpy as np
import pytest

from ddbench.stats import confidence_interval, mcnemar, mean, population_std


def test_mean_and_population_deviation():
    values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]  # the textbook example with deviation 2
    assert mean(values) == 5
    assert population_std(values) == 2
    assert population_std([0.3]) == 0


@pytest.mark.parametrize("statistic", [mean, population_std])
def test_no_values_have_no_statistics(statistic):
    with pytest.raises(ValueError, match="undefined"):
        statistic([])


def test_students_interval():
    # t(0.975, 4) = 2.776, s = sqrt(2.5), half width = 2.776 * 1.5811 / sqrt(5) = 1.963
    low, high = confidence_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (low, high) == pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-4)
    assert confidence_interval([0.5]) is None
    with pytest.raises(ValueError, match="level"):
        confidence_interval([1.0, 2.0], 95)


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
