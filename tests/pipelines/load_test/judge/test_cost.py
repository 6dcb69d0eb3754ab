"""The cost of a million rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.pipelines.load_test.judge.cost import cost_of, cost_per_million


def test_a_million_rows_cost_the_workers_of_their_time():
    """10,000 rows/s take 100 s for a million: 2 workers × 0.36 an hour × 100 s."""
    assert cost_per_million(2, 0.36, 10_000) == pytest.approx(0.02)


@given(st.integers(1, 1000), st.floats(0, 100), st.floats(0.1, 1e6), st.integers(2, 9))
def test_twice_the_workers_at_twice_the_rate_cost_the_same(workers, price, rate, factor):
    assert cost_per_million(workers * factor, price, rate * factor) == pytest.approx(
        cost_per_million(workers, price, rate)
    )


def test_idle_workers_are_paid():
    cost = cost_of(
        2, 0.36, currency="EUR", prices="prices.yaml", rate_per_s=5000, capacity_per_s=10_000
    )
    assert cost == ("EUR", pytest.approx(0.04), pytest.approx(0.02), 2, "prices.yaml")


def test_a_cost_without_a_rate_is_unknown():
    cost = cost_of(2, 0.36, currency="EUR", prices="p", rate_per_s=None, capacity_per_s=None)
    assert cost == ("EUR", None, None, 2, "p")


@pytest.mark.parametrize(("workers", "price", "rate"), [(0, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_a_cost_of_nothing_is_rejected(workers, price, rate):
    with pytest.raises(ValueError, match="at least one worker"):
        cost_per_million(workers, price, rate)
