"""The statistics."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from benchmarks.harness.spread import Spread, percentile, ratios

numbers = some.lists(some.floats(min_value=0, max_value=1e9), min_size=1)


def test_a_spread_is_median_least_and_most() -> None:
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(median=3.0, least=1.0, most=10.0, runs=3)


def test_nothing_measured_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 50)


def test_ratios_compare_within_a_round() -> None:
    assert ratios([10.0, 40.0], [100.0, 200.0]) == [0.1, 0.2]


def test_rounds_without_their_floor_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("percent", "found"), [(0, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_percentiles_are_of_nearest_rank(percent: float, found: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == found


def test_the_p99_of_few_is_the_slowest() -> None:
    assert percentile([1.0, 9.0, 2.0], 99) == 9.0


def test_there_is_no_percentile_beyond_all() -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile([1.0], 101)


@given(numbers, some.floats(min_value=0, max_value=100))
def test_so_many_percent_do_not_exceed_a_percentile(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-6
