"""Each check of a valid measurement: just within its bound, and just outside."""

import math

import numpy as np
import pytest

from scoreline.pipelines.load_test.judge import validity
from scoreline.pipelines.load_test.judge.elements import Slos
from scoreline.pipelines.load_test.judge.lag import judge_lag
from tests.pipelines.load_test.judge import queues


def test_the_sender_may_be_late_by_a_tenth_of_the_limit():
    slos = Slos(latency_ms=250.0)
    assert validity.check_sender(25.0, slos, 60.0).is_ok
    assert not validity.check_sender(25.1, slos, 60.0).is_ok
    assert validity.max_send_late_ms(Slos(freshness_s=2.0), 60.0) == pytest.approx(200)
    assert validity.max_send_late_ms(Slos(), 60.0) == pytest.approx(60)  # 0.1 % of a minute


def test_a_row_that_was_never_sent_is_later_than_all_others():
    due_s = np.arange(1000.0)
    sent_s = due_s + 0.002
    assert validity.send_late_p99_ms(due_s, sent_s) == pytest.approx(2)
    sent_s[:11] = math.nan
    assert validity.send_late_p99_ms(due_s, sent_s) == math.inf


def test_the_harness_must_reach_more_than_the_result():
    assert validity.check_ceiling(13_000, 10_000).is_ok
    assert not validity.check_ceiling(12_900, 10_000).is_ok


@pytest.mark.parametrize(
    ("neighbour", "steal", "is_ok"),
    [(0.05, 0.02, [True, True]), (0.06, 0.0, [False, True]), (0.0, 0.03, [True, False])],
)
def test_the_machine_must_be_quiet(neighbour, steal, is_ok):
    assert [check.is_ok for check in validity.check_machine(neighbour, steal)] == is_ok


def test_each_id_has_one_score_after_it_was_sent():
    assert validity.check_ids(0, 0).is_ok
    assert not validity.check_ids(1, 0).is_ok
    assert not validity.check_ids(0, 1).is_ok
    sent_s = np.array([1.0, 2.0, 3.0])
    assert validity.check_clocks(sent_s, np.array([0.995, math.nan, 4.0])).is_ok
    assert not validity.check_clocks(sent_s, np.array([1.5, 1.5, 4.0])).is_ok


def test_littles_law():
    assert validity.check_little(119.0, 1000.0, 0.1).is_ok
    assert not validity.check_little(121.0, 1000.0, 0.1).is_ok
    assert not validity.check_little(79.0, 1000.0, 0.1).is_ok
    assert validity.check_little(0.9, 1000.0, 0.0).is_ok  # below one row there is no queue
    assert not validity.check_little(2.0, 1000.0, 0.0).is_ok


def steady(rng, load, *, slower=0.0, decay_s=10.0):
    rate, seconds = 300.0, 60.0
    due_s = queues.arrivals(rng, rate, seconds)
    due_s = due_s[due_s >= 0] if slower else due_s
    service_s = rng.exponential(load / rate, len(due_s)) * (1 + slower * np.exp(-due_s / decay_s))
    found = judge_lag(
        due_s,
        queues.served(due_s, service_s),
        begin_s=0.0,
        end_s=seconds,
        commit_s=0.25,
        offered_per_s=rate,
    )
    return validity.check_steady(found.bins, window_rows=rate * seconds, max_growth_share=0.01)


def test_a_warm_up_is_no_steady_state_and_a_busy_queue_is():
    runs = range(50)
    for load in (0.5, 0.95, 1.02):
        steadies = [steady(np.random.default_rng([run, 1]), load).is_ok for run in runs]
        assert sum(steadies) >= 48
    warm_ups = [steady(np.random.default_rng([r, 2]), 0.5, slower=2.0).is_ok for r in runs]
    assert sum(warm_ups) <= 2


def test_a_window_with_few_bins_cannot_be_checked_for_a_steady_state():
    bins = np.linspace(100.0, 0.0, 11)
    assert validity.check_steady(bins, window_rows=1e3, max_growth_share=0.01).is_ok
    bins = np.concatenate([np.full(6, 100.0), np.full(6, 10.0)])
    assert not validity.check_steady(bins, window_rows=1e3, max_growth_share=0.01).is_ok
