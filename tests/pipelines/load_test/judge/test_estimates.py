"""Estimates of the capacity that need no search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.pipelines.load_test.judge.elements import StageTimes, WorkerTimes
from scoreline.pipelines.load_test.judge.estimates import busy_time_per_s, drain_per_s


def worker(rows, *, busy_s, idle_s=0.0):
    stage = StageTimes(name="predict", useful_s=busy_s, waiting_s=0.0, rows=rows)
    return WorkerTimes(
        worker="w", wall_s=busy_s + idle_s, cpu_s=busy_s, idle_s=idle_s, stages=(stage,)
    )


@pytest.mark.parametrize("commit_s", [0.0, 0.1, 0.5])
def test_a_drain_without_its_ends_gives_the_rate(commit_s):
    """The start is slow, and the last tenth too: one worker is left. Scores come in portions."""
    rate = 5000.0
    ends = np.linspace(0, 4, 5000)
    middle = 4 + np.arange(50_000) / rate
    times = np.concatenate([ends, middle, middle[-1] + ends])
    if commit_s:
        times = np.ceil(times / commit_s) * commit_s
    assert drain_per_s(times) == pytest.approx(rate, rel=0.05)
    assert (times.size / np.ptp(times)) < 0.9 * rate


def test_rows_that_were_never_scored_are_left_out():
    times = np.append(np.arange(1000) / 100.0, [np.nan] * 50)
    assert drain_per_s(times) == pytest.approx(100.0)


@pytest.mark.parametrize("times", [np.arange(99.0), np.zeros(1000), np.full(1000, np.nan)])
def test_a_drain_that_shows_no_rate_gives_none(times):
    assert drain_per_s(times) is None


@given(st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_a_drain_does_not_depend_on_the_order_or_the_unit(unit, seed):
    times = np.cumsum(np.random.default_rng(3).exponential(0.01, 500))
    shuffled = np.random.default_rng(seed).permutation(times)
    assert drain_per_s(shuffled * unit) == pytest.approx(drain_per_s(times) / unit)


def test_busy_time_counts_the_slowest_worker_for_all():
    workers = [worker(1000, busy_s=2.0, idle_s=8.0), worker(800, busy_s=2.0, idle_s=8.0)]
    assert busy_time_per_s(workers) == pytest.approx(800.0)
    assert busy_time_per_s(workers[::-1]) == pytest.approx(800.0)


def test_busy_time_without_rows_is_unknown():
    assert busy_time_per_s([]) is None
    assert busy_time_per_s([worker(0, busy_s=0.0, idle_s=10.0)]) is None
