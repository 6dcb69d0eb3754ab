"""Freshness, and the time to recover from spikes and steps of known size."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.pipelines.load_test.judge import recovery
from scoreline.pipelines.load_test.judge.elements import Outcome
from tests.pipelines.load_test.judge import queues

RATE, CAPACITY = 200.0, 400.0


def spike(rng, *, rate, spike_s, end_s, capacity=CAPACITY):
    """Return due times and latencies: `rate` within the spike, 200 per second outside of it."""
    begin_s, stop_s = spike_s
    due_s = np.sort(
        np.concatenate(
            [
                rng.uniform(-20, end_s, int(RATE * (end_s + 20))),
                rng.uniform(begin_s, stop_s, int((rate - RATE) * (stop_s - begin_s))),
            ]
        )
    )
    return due_s, queues.served(due_s, rng.exponential(1 / capacity, len(due_s))) - due_s


@pytest.mark.parametrize(("rate", "seconds"), [(600.0, 10.0), (800.0, 20.0), (480.0, 30.0)])
def test_a_spike_is_recovered_from_when_the_backlog_is_gone(rate, seconds):
    for seed in range(10):
        spike_s = (30.0, 30.0 + seconds)
        due_s, latency_s = spike(
            np.random.default_rng([seed, 1]), rate=rate, spike_s=spike_s, end_s=150.0
        )
        found = recovery.judge_recovery(
            due_s,
            latency_s,
            spike_s=spike_s,
            begin_s=0.0,
            end_s=150.0,
            commit_s=0.1,
            capacity_per_s=CAPACITY,
        )
        truth_s = (rate - CAPACITY) * seconds / (CAPACITY - RATE)
        assert found.predicted_s == pytest.approx(truth_s, abs=2.5 + 0.15 * truth_s)
        assert found.recovered_s == pytest.approx(truth_s, abs=3.5 + 0.15 * truth_s)


def test_a_step_that_the_capacity_covers_recovers_at_once_and_one_above_it_never():
    rng = np.random.default_rng(3)
    for rate, recovered_s in ((300.0, 0.0), (480.0, None)):
        due_s, latency_s = spike(rng, rate=rate, spike_s=(30.0, 90.0), end_s=90.0, capacity=450.0)
        found = recovery.judge_recovery(
            due_s,
            latency_s,
            spike_s=(30.0, 30.0),
            begin_s=0.0,
            end_s=90.0,
            commit_s=0.1,
            capacity_per_s=450.0,
        )
        assert found.recovered_s == recovered_s or found.recovered_s < 5
        assert (found.predicted_s is None) == (rate > 450)


def step(due_s, latency_s, *, end_s=90.0, limit_s=0.25):
    return recovery.judge_recovery(
        due_s,
        latency_s,
        spike_s=(30.0, 30.0),
        begin_s=0.0,
        end_s=end_s,
        commit_s=0.1,
        limit=None if limit_s is None else recovery.LatencyLimit(99, limit_s),
    )


def test_after_a_step_the_latency_may_be_higher_within_its_limit():
    for seed in range(10):
        rng = np.random.default_rng([seed, 4])
        # From 0.5 to 0.9 of the capacity: the median is above the 95th percentile before.
        due_s, latency_s = spike(rng, rate=360.0, spike_s=(30.0, 90.0), end_s=90.0)
        assert step(due_s, latency_s, limit_s=0.5).recovered_s == 0
    assert step(due_s, latency_s + 0.3 * (due_s > 30), limit_s=None).recovered_s is None


def test_a_queue_that_fills_after_a_step_settles_when_it_is_empty_again():
    for seed in range(10):
        rng = np.random.default_rng([seed, 5])
        due_s = np.sort(np.concatenate([rng.uniform(-20, 90, 22_000), rng.uniform(30, 90, 6_000)]))
        # For 10 s after the step the workers are slower than the load of 300 per second.
        per_s = np.where((due_s > 30) & (due_s < 40), 200.0, 450.0)
        latency_s = queues.served(due_s, rng.exponential(1, len(due_s)) / per_s) - due_s
        # Rows due in these 10 s take 15 s; then 1,500 are waiting, 150 a second less.
        found = step(due_s, latency_s)
        assert found.recovered_s == pytest.approx(15 + 1500 / 150 - 0.25 * 450 / 150, abs=5)


def test_a_step_into_overload_does_not_settle():
    rng = np.random.default_rng(6)
    due_s, latency_s = spike(rng, rate=450.0, spike_s=(30.0, 90.0), end_s=90.0)
    assert step(due_s, latency_s).recovered_s is None
    lost = np.where(due_s > 80, math.inf, 0.01)
    assert step(due_s, lost).recovered_s is None


@pytest.mark.parametrize(
    ("recovered_s", "watched_s", "outcome"),
    [
        (10.0, 60.0, Outcome.PASS),
        (31.0, 60.0, Outcome.FAIL),
        (None, 60.0, Outcome.FAIL),
        (None, 20.0, Outcome.UNDECIDED),
    ],
)
def test_the_limit_needs_a_window_that_is_long_enough(recovered_s, watched_s, outcome):
    found = recovery.Recovery(recovered_s, 0, None)
    assert recovery.judge_recover_limit(found, 30.0, watched_s) is outcome


def test_a_spike_at_the_begin_of_a_window_is_refused():
    with pytest.raises(ValueError, match="at least 100 rows before a spike, got 0"):
        recovery.judge_recovery(
            np.arange(9.0), np.ones(9), spike_s=(0.0, 5.0), begin_s=0.0, end_s=9.0, commit_s=1.0
        )


@given(
    rows=st.lists(
        st.tuples(st.floats(0, 30), st.one_of(st.none(), st.floats(0.001, 40))),
        min_size=1,
        max_size=30,
    )
)
def test_freshness_is_the_greatest_age_of_an_oldest_waiting_row(rows):
    due_s = np.array([due for due, _ in rows])
    scored_s = np.array([math.nan if wait is None else due + wait for due, wait in rows])
    begin_s, end_s = 10.0, 30.0
    # Look just before each score, and at the end.
    moments_s = [s for s in scored_s if begin_s <= s <= end_s] + [end_s]
    ages_s = [
        max(
            (t - due_s)[(due_s <= t) & ~(scored_s < t)],
            default=0.0,
        )
        for t in moments_s
    ]
    found = recovery.max_freshness_s(due_s, scored_s, begin_s=begin_s, end_s=end_s)
    assert found == pytest.approx(max(ages_s))
