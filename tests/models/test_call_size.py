from __future__ import annotations

import pytest

from models.call_size import CallSize


def settle(size, seconds_per_row):
    """Feed it timings until it stops asking."""
    while not size.settled:
        size.record(size.rows, seconds_per_row(size.rows) * size.rows)
    return size.rows


def test_fixed_size_is_kept():
    size = CallSize(100)
    size.record(100, 1.0)
    assert (size.rows, size.settled) == (100, True)


@pytest.mark.parametrize(("overhead", "best"), [(0.0, 4096), (1e-3, 65536), (2e-5, 8192)])
def test_size_doubles_while_it_pays(overhead, best):
    assert settle(CallSize(), lambda rows: 1e-7 + overhead / rows) == best


def test_size_goes_back_when_larger_calls_are_slower():
    assert settle(CallSize(), lambda rows: 1e-6 if rows > 8192 else 2e-6 - rows * 1.5e-10) == 8192


def test_one_slow_call_does_not_decide():
    size = CallSize(smallest=10, largest=40)
    for seconds in (5.0, 1.0, 1.0, 1.5, 1.5, 9.0, 3.0, 9.0, 9.0):
        size.record(size.rows, seconds)
    assert (size.rows, size.settled) == (20, True)


def test_calls_of_other_sizes_do_not_count():
    size = CallSize()
    for _ in range(10):
        size.record(7, 1.0)
    assert not size.settled
