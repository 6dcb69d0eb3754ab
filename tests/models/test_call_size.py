from __future__ import annotations

import pytest

from scoreline.models.call_size import CallSize


def settle(size, seconds_per_row):
    """Report timings until no more are needed."""
    while not size.settled:
        size.record(size.rows, seconds_per_row(size.rows) * size.rows)
    return size.rows


def test_fixed_size_is_kept():
    size = CallSize(100)
    size.record(100, 1.0)
    assert (size.rows, size.settled) == (100, True)


@pytest.mark.parametrize(("overhead", "best"), [(0.0, 8192), (1e-3, 65536)])
def test_the_cheapest_size_is_kept(overhead, best):
    assert settle(CallSize(), lambda rows: 1e-7 + overhead / rows) == best


def test_size_goes_back_when_larger_calls_are_slower():
    costs = {8192: 1.5e-6, 16384: 1e-6, 32768: 2e-6, 65536: 2e-6}
    assert settle(CallSize(), costs.__getitem__) == 16384


def test_a_size_that_is_slow_does_not_end_the_search():
    costs = {8192: 1.2e-6, 16384: 1.3e-6, 32768: 0.9e-6, 65536: 1.0e-6}
    assert settle(CallSize(), costs.__getitem__) == 32768


def test_calls_do_not_grow_beyond_a_tenth_of_a_second():
    tried = []

    def cost(rows):
        tried.append(rows)
        return 2e-5 - rows * 1e-10

    assert settle(CallSize(), cost) == 8192
    assert set(tried) == {8192}


def test_one_slow_call_does_not_decide():
    size = CallSize(smallest=10, largest=40)
    for seconds in (0.05, 0.01, 0.015, 0.09, 0.03, 0.09):
        size.record(size.rows, seconds)
    assert (size.rows, size.settled) == (20, True)


def test_calls_of_other_sizes_do_not_count():
    size = CallSize()
    for _ in range(10):
        size.record(7, 1.0)
    assert not size.settled
