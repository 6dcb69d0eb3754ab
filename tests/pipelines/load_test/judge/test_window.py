"""The judgement of a whole window: each limit, each check, and what must not matter."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.pipelines.load_test.judge.elements import Grows, Insufficient, Outcome, Slos
from scoreline.pipelines.load_test.judge.window import judge_window
from tests.pipelines.load_test.judge import queues

RATE, SECONDS = 300.0, 60.0
SLOS = Slos(latency_ms=100.0)


def calm(seed=0, **other):
    """Return a window of M/M/1 at 40 % with 20 ms of travel: a p99 of about 30 ms."""
    due_s, scored_s = queues.queue(np.random.default_rng(seed), RATE, 0.4, SECONDS)
    window = queues.window(due_s, scored_s + 0.02, SECONDS, RATE)
    return dataclasses.replace(window, **other)


def outcomes(judged):
    return {limit.name: limit.outcome for limit in judged.limits}


def test_a_load_that_holds():
    judged = judge_window(calm(), SLOS)
    assert judged.outcome is Outcome.PASS
    assert not judged.invalid_because
    assert set(outcomes(judged).values()) == {Outcome.PASS}
    assert set(judged.latency_ms) == {"p50", "p95", "p99", "p99.9"}
    assert judged.latency_ms["p99"].value == pytest.approx(20 + 1e3 * math.log(100) / 450, rel=0.1)
    assert judged.sent_per_s == pytest.approx(RATE, rel=0.05)
    assert judged.scored_per_s == pytest.approx(RATE, rel=0.05)


def test_an_overload_fails_and_has_no_percentiles():
    due_s, scored_s = queues.queue(np.random.default_rng(1), RATE, 1.3, SECONDS)
    unseen = np.where(scored_s > SECONDS, math.nan, scored_s)  # the driver stopped to look
    for seen_s in (scored_s, unseen):
        judged = judge_window(queues.window(due_s, seen_s, SECONDS, RATE), SLOS)
        assert judged.outcome is Outcome.FAIL
        assert not judged.invalid_because
        assert set(judged.latency_ms.values()) == {Grows()}
        assert judged.lag_slope_share.value == pytest.approx(1 - 1 / 1.3, abs=0.03)
    assert judged.final_backlog == np.isnan(unseen).sum()


def test_a_standing_queue_fails_though_it_does_not_grow():
    due_s = np.arange(-20, SECONDS, 1 / RATE)
    judged = judge_window(queues.window(due_s, due_s + 0.5, SECONDS, RATE), SLOS)
    assert judged.lag_slope_share.high <= 0.01
    assert outcomes(judged)["standing_queue"] is Outcome.FAIL
    assert outcomes(judged)["latency_ms"] is Outcome.FAIL
    patient = judge_window(
        queues.window(due_s, due_s + 0.5, SECONDS, RATE), Slos(latency_ms=600, freshness_s=0.6)
    )
    assert patient.outcome is Outcome.PASS
    assert (
        judge_window(
            queues.window(due_s, due_s + 0.5, SECONDS, RATE), Slos(freshness_s=0.4)
        ).outcome
        is Outcome.FAIL
    )


def test_a_latency_that_still_rises_is_undecided_though_the_lag_limit_holds():
    due_s = np.arange(-20, SECONDS, 1 / RATE)
    scored_s = due_s + 0.1 + 0.005 * (due_s + 20)
    judged = judge_window(queues.window(due_s, scored_s, SECONDS, RATE), Slos(latency_ms=1000))
    assert outcomes(judged)["lag_growth_share"] is Outcome.PASS
    assert outcomes(judged)["latency_ms"] is Outcome.UNDECIDED
    assert judged.outcome is Outcome.UNDECIDED


def test_too_few_rows_for_the_percentile_are_undecided():
    judged = judge_window(calm(), Slos(latency_percentile=99.97, latency_ms=1000.0))
    assert isinstance(judged.latency_ms["p99.97"], Insufficient)
    limit = next(limit for limit in judged.limits if limit.name == "latency_ms")
    assert limit.measured is None
    assert judged.outcome is limit.outcome is Outcome.UNDECIDED


def test_periodic_stalls_hold_the_throughput_and_fail_the_latency():
    due_s = np.arange(-20, SECONDS, 1 / RATE)
    service_s = np.where(np.arange(len(due_s)) % (10 * int(RATE)) == 0, 0.5, 0.5 / RATE)
    judged = judge_window(
        queues.window(due_s, queues.served(due_s, service_s), SECONDS, RATE), Slos(latency_ms=200)
    )
    assert {n for n, o in outcomes(judged).items() if o is not Outcome.PASS} == {"latency_ms"}
    assert judged.design_effect > 10


def test_the_share_of_dead_letters_has_a_limit():
    window = calm()
    is_dead = window.is_dead.copy()
    is_dead[-10:] = True
    window = dataclasses.replace(window, is_dead=is_dead)
    share = 10 / np.count_nonzero(window.due_s >= 0)
    for limit, outcome in ((0.0, Outcome.FAIL), (2 * share, Outcome.PASS)):
        judged = judge_window(window, Slos(latency_ms=100, error_share=limit))
        assert judged.outcome is outcome
        assert judged.error_share == pytest.approx(share)


def test_memory_has_a_limit_and_a_leak_has_hours():
    at_s = np.linspace(0, SECONDS, 121)
    noise = np.random.default_rng(4).normal(0, 0.5, 121)
    warm_up = 500 + 50 * (1 - np.exp(-at_s / 5)) + noise
    leak = 500 + 0.3 * at_s + noise
    for memory_mb, limit_mb, outcome, hours in (
        (warm_up, 600, Outcome.PASS, None),
        (warm_up, 540, Outcome.FAIL, None),
        (leak, 600, Outcome.PASS, (600 - 518) / 0.3 / 3600),
    ):
        window = calm(memory_at_s=at_s, memory_mb=memory_mb)
        judged = judge_window(window, Slos(latency_ms=100, memory_mb=limit_mb))
        assert judged.outcome is outcome
        assert judged.memory_hours_left == (hours and pytest.approx(hours, rel=0.1))
        growth = judged.memory_growth_mb_per_h
        if hours is not None:
            assert growth.low <= (limit_mb - memory_mb[-1]) / hours <= growth.high
    unseen = judge_window(calm(), Slos(latency_ms=100, memory_mb=600))
    assert unseen.memory_growth_mb_per_h is None
    assert outcomes(unseen)["memory_mb"] is Outcome.UNDECIDED


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"neighbour_cpu_share": 0.2}, "neighbour_cpu_share"),
        ({"steal_share": 0.03}, "steal_share"),
        ({"extra_ids": 1}, "ids_not_once"),
        ({"lost_ids": 1}, "ids_not_once"),
        ({"offered_per_s": 1.3 * RATE}, "littles_law"),
    ],
)
def test_a_failed_check_makes_a_window_invalid(changes, check):
    judged = judge_window(calm(**changes), SLOS)
    assert judged.outcome is Outcome.INVALID
    assert judged.invalid_because == [check]


def test_a_capped_sender_makes_a_window_invalid():
    window = calm()
    late = dataclasses.replace(window, sent_s=window.due_s + 0.25 * (window.due_s + 20))
    late = dataclasses.replace(late, scored_s=late.sent_s + 0.01)
    assert "sender_late_p99_ms" in judge_window(late, SLOS).invalid_because


def test_a_lost_row_makes_a_window_invalid_unless_the_driver_knows_better():
    window = calm()
    scored_s = window.scored_s.copy()
    scored_s[len(scored_s) // 2] = math.nan
    lost = dataclasses.replace(window, scored_s=scored_s)
    assert judge_window(lost, SLOS).invalid_because == ["ids_not_once"]
    assert not judge_window(dataclasses.replace(lost, lost_ids=0), SLOS).invalid_because


def test_a_spike_is_held_to_its_own_limits():
    rng = np.random.default_rng(5)
    due_s = np.sort(np.concatenate([rng.uniform(-20, 120, 28000), rng.uniform(40, 50, 6000)]))
    scored_s = queues.served(due_s, rng.exponential(1 / 400, len(due_s)))
    window = queues.window(
        due_s, scored_s, 120.0, 250.0, phase="spike", spike_s=(40.0, 50.0), capacity_per_s=400.0
    )
    for limit_s, outcome in ((40.0, Outcome.PASS), (10.0, Outcome.FAIL)):
        judged = judge_window(window, Slos(latency_ms=100, recover_s=limit_s))
        assert judged.outcome is outcome
        assert set(outcomes(judged)) == {"error_share", "recover_s"}
        assert not judged.invalid_because
    assert judged.recovery.recovered_s == pytest.approx(20, abs=5)
    assert judged.recovery.predicted_s == pytest.approx(20, abs=5)


def test_a_window_in_which_all_rows_are_scored_at_once():
    due_s = np.arange(0, SECONDS, 1 / RATE)
    scored_s = np.full(len(due_s), SECONDS + 1.0)
    judged = judge_window(queues.window(due_s, scored_s, SECONDS, RATE), SLOS)
    assert judged.outcome is Outcome.FAIL
    assert judged.scored_per_s == 0
    assert judged.lag_slope_share.value == pytest.approx(1, abs=1e-6)
    at_due = judge_window(queues.window(due_s, due_s, SECONDS, RATE), SLOS)
    assert at_due.outcome is Outcome.PASS
    assert at_due.final_backlog == 0


def test_no_row_is_scored_at_all():
    due_s = np.arange(0, SECONDS, 1 / RATE)
    window = queues.window(due_s, np.full(len(due_s), math.nan), SECONDS, RATE)
    judged = judge_window(window, SLOS)
    assert judged.outcome is Outcome.FAIL
    assert judged.latency_ms["p50"] == Grows()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"due_s": np.empty(0)}, "differ in length.*no row is due within it"),
        ({"begin_s": 100.0, "end_s": 160.0}, "no row is due within it"),
        ({"end_s": -1.0}, "ends at -1 s, before it begins at 0 s"),
        ({"offered_per_s": 0.0}, "offered rate is 0 per second"),
        ({"spike_s": (50.0, 70.0)}, r"spike \(50.0, 70.0\) is not within it"),
        ({"memory_mb": np.ones(3)}, "memory_at_s and memory_mb differ in length"),
        ({"commit_s": 10.0}, "at least 120 s for commits every 10 s"),
    ],
)
def test_a_window_that_cannot_be_judged_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        judge_window(calm(**changes), SLOS)


def close(one, other, factor=1.0):
    """Assert that two judgements are the same up to rounding, with the second's times scaled."""
    assert one.outcome is other.outcome
    assert outcomes(one) == outcomes(other)
    assert one.invalid_because == other.invalid_because
    assert one.lag_slope_share == pytest.approx(other.lag_slope_share, abs=1e-6)
    assert one.final_backlog == other.final_backlog
    for name, percentile in one.latency_ms.items():
        if isinstance(percentile, Grows | Insufficient):
            assert percentile == other.latency_ms[name]
        else:
            scaled = [v / factor for v in other.latency_ms[name][:3]]
            assert percentile[:3] == pytest.approx(scaled, rel=1e-4, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(
    load=st.sampled_from([0.4, 0.9, 1.1]), seed=st.integers(0, 99), shift=st.integers(-9999, 9999)
)
def test_a_shift_of_all_times_and_the_order_of_rows_change_nothing(load, seed, shift):
    rng = np.random.default_rng(seed)
    due_s, scored_s = queues.queue(rng, RATE, load, SECONDS, commit_s=0.25)
    window = queues.window(due_s, scored_s, SECONDS, RATE, commit_s=0.25)
    order = rng.permutation(len(due_s))
    moved = dataclasses.replace(
        window,
        begin_s=window.begin_s + shift,
        end_s=window.end_s + shift,
        due_s=due_s[order] + shift,
        sent_s=due_s[order] + shift,
        scored_s=scored_s[order] + shift,
    )
    close(judge_window(window, SLOS), judge_window(moved, SLOS))


@settings(max_examples=20, deadline=None)
@given(load=st.sampled_from([0.4, 1.1]), seed=st.integers(0, 99), factor=st.sampled_from([2, 8]))
def test_time_can_be_scaled(load, seed, factor):
    # Bursts are counted per second whatever the scale, so that the latency limit has no part here.
    rng = np.random.default_rng(seed)
    due_s, scored_s = queues.queue(rng, RATE, load, SECONDS, commit_s=0.25)
    window = queues.window(due_s, scored_s, SECONDS, RATE, commit_s=0.25)
    slower = queues.window(
        factor * due_s, factor * scored_s, factor * SECONDS, RATE / factor, commit_s=factor * 0.25
    )
    one = judge_window(window, Slos(freshness_s=5.0), percents=())
    other = judge_window(slower, Slos(freshness_s=factor * 5.0), percents=())
    assert one.outcome is other.outcome
    assert outcomes(one) == outcomes(other)
    assert one.lag_slope_share == pytest.approx(other.lag_slope_share, abs=1e-9)
    assert factor * one.freshness_s == pytest.approx(other.freshness_s)
