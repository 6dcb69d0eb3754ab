"""The bottleneck, from stage times of workers whose limit is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.pipelines.load_test.judge.bottleneck import (
    Evidence,
    confirm,
    evidence_of,
    find_bottleneck,
)
from scoreline.pipelines.load_test.judge.elements import (
    Interval,
    Judged,
    Limit,
    Outcome,
    StageTimes,
    Window,
    WorkerTimes,
)
from scoreline.pipelines.load_test.judge.stalls import Stalls, find_stalls
from scoreline.pipelines.load_test.judge.usl import ScalePoint

LAGS = frozenset({"lag_growth_share", "latency_ms"})


def worker(name="w0", *, rows=10_000, wall_s=60.0, idle_s=0.0, scale=1.0, **stages):
    """Return a worker whose stages have (useful, waiting) seconds, by default of a busy model."""
    seconds = {"poll": (2, 1), "decode": (6, 0), "features": (6, 0), "predict": (36, 0)}
    seconds |= {"encode": (3, 0), "send": (4, 1), "commit": (0, 1)} | stages
    times = tuple(
        StageTimes(name=stage, useful_s=useful * scale, waiting_s=waiting * scale, rows=rows)
        for stage, (useful, waiting) in seconds.items()
    )
    cpu_s = sum(stage.useful_s for stage in times)
    return WorkerTimes(worker=name, wall_s=wall_s, cpu_s=cpu_s, idle_s=idle_s, stages=times)


def workers(number, **options):
    return tuple(worker(f"w{index}", **options) for index in range(number))


def find(*times, failed=LAGS, **options):
    return find_bottleneck(Evidence(worker_times=times, failed=failed, **options))


def test_a_busy_model_is_the_limit():
    found = find(*workers(2), cores=4)
    assert (found.stage, found.kind, found.share) == ("predict", "cpu", pytest.approx(0.6))
    assert found.max_over_mean == 1
    assert (found.predicted_gain, found.gain_if_free) == (pytest.approx(1.5), None)
    assert found.advice == "Make the model cheaper with `scoreline optimize`, or add workers."
    assert [stage.name for stage in found.stages][:2] == ["poll", "decode"]
    assert sum(stage.share for stage in found.stages) == pytest.approx(1)


def test_busy_cores_ask_for_more_cores():
    assert "on more cores, because all are used" in find(*workers(2), cores=2).advice


def test_slow_features_are_the_limit():
    found = find(worker(features=(40, 0), predict=(3, 0)))
    assert (found.stage, found.kind) == ("features", "cpu")
    assert found.advice == "Make features cheaper, or add workers."


def test_a_model_that_waits_needs_workers_and_no_cores():
    found = find(*workers(4, predict=(1, 40)), cores=2, alone=workers(1, predict=(1, 40)))
    assert (found.stage, found.kind) == ("predict", "wait")
    assert "Add workers, not cores" in found.advice


def test_waiting_for_a_core_is_cpu():
    """Four workers on two cores: each waits half of its time for a core."""
    found = find(*workers(4, predict=(24, 26)), cores=2)
    assert (found.stage, found.kind) == ("predict", "cpu")


@pytest.mark.parametrize(
    "known",
    [
        {"alone": workers(1)},
        {"scaling": (ScalePoint(1, 8000.0), ScalePoint(4, 8500.0))},
    ],
)
def test_workers_that_wait_for_each_other_are_locked(known):
    """Four workers use one core's worth, all wait in one stage, and hold no more than one."""
    found = find(*workers(4, rows=2500, scale=0.25, predict=(36, 180)), cores=8, **known)
    assert (found.stage, found.kind) == ("predict", "lock")
    assert "more workers wait longer" in found.advice


def test_a_lock_for_a_tenth_of_the_time_is_seen_beside_a_busy_model():
    found = find(*workers(8, predict=(36, 10)), cores=16, alone=workers(1))
    assert (found.stage, found.kind) == ("predict", "lock")


def test_workers_that_wait_but_scale_are_not_locked():
    scaling = (ScalePoint(1, 1000.0), ScalePoint(4, 3900.0))
    assert find(*workers(4, predict=(1, 40)), cores=8, scaling=scaling).kind == "wait"
    assert find(*workers(4, predict=(1, 40)), cores=8).kind == "wait"


def test_one_worker_with_most_rows_is_skew():
    """80 % of the messages are on one partition of twelve."""
    busy = worker("w0", rows=18_000)
    idle = worker("w1", rows=2000, idle_s=54.0, scale=0.1)
    found = find(idle, busy, partitions=12)
    assert (found.stage, found.kind) == ("predict", "skew")
    assert found.max_over_mean == pytest.approx(1.8, abs=0.05)
    assert "one worker has 1.8 × the mean" in found.advice
    assert found.stages[3].useful_s == 36  # of the slowest worker


def test_readers_that_wait_for_their_turn_are_skewed_too():
    """A runner calls a reader without records rarely, so that it is neither idle nor in a stage."""
    others = [worker(f"w{i}", rows=700, idle_s=8.0, scale=0.1) for i in range(1, 4)]
    assert find(worker("w0", rows=18_000), *others, partitions=12).kind == "skew"


def test_uneven_workers_that_are_all_busy_are_not_skewed():
    times = [worker("w0", rows=18_000), worker("w1", rows=2000)]
    assert find(*times, partitions=12).kind == "cpu"


def test_workers_without_a_partition_are_named():
    without = [worker(f"i{index}", rows=0, idle_s=60.0, scale=0.0) for index in range(2)]
    found = find(*workers(2), *without, partitions=2)
    assert found.kind == "partitions"
    assert found.advice == "Add partitions: 4 workers share 2, and 2 of them have no rows."


@pytest.mark.parametrize(
    ("stage", "kind", "advice"),
    [
        ("poll", "source", "add partitions and readers"),
        ("decode", "source", "cheaper format for the records"),
        ("encode", "sink", "fewer columns"),
        ("send", "sink", "quota"),
        ("commit", "sink", "Commit less often"),
    ],
)
@pytest.mark.parametrize("seconds", [(70, 0), (0, 70)])
def test_a_slow_source_or_sink_is_named_by_its_stage(stage, kind, advice, seconds):
    """They are one kind, whether the stage works or waits, and however many workers wait."""
    times = workers(2, **{stage: seconds})
    found = find(*times, cores=4, alone=workers(1))
    assert (found.stage, found.kind) == (stage, kind)
    assert advice in found.advice


def test_a_batch_names_reading_and_staging():
    assert find(worker(read=(80, 0))).advice.startswith("Write larger row groups")
    assert find(worker(stage=(80, 0))).kind == "sink"


def test_idle_workers_with_a_backlog_wait_for_the_source():
    times = workers(2, idle_s=40.0, scale=1 / 3)
    assert (find(*times).kind, find(*times).stage) == ("source", "poll")
    assert find(*times, failed=frozenset()).kind == "none"


def test_no_worker_times_name_nothing():
    found = find()
    assert (found.kind, found.stage, found.predicted_gain) == ("none", "", None)


def test_the_harness_comes_first():
    found = find(*workers(2), limited_by_harness=True)
    assert (found.kind, found.stage) == ("harness", "")
    assert "sender is the limit" in found.advice


def test_growing_memory_is_the_limit_while_the_rest_holds():
    found = find(*workers(2), failed=frozenset(), memory_hours_left=3.25)
    assert (found.kind, found.stage) == ("memory", "")
    assert "in 3.2 hours" in found.advice
    assert find(*workers(2), failed=frozenset({"memory_mb"})).kind == "memory"
    assert find(*workers(2), memory_hours_left=3.25).kind == "cpu"


def test_stalls_are_the_limit_if_only_the_latency_fails():
    stalls = Stalls(every_s=10.0, longest_ms=500.0, number=6)
    found = find(*workers(2), failed=frozenset({"latency_ms"}), stalls=stalls)
    assert (found.kind, found.stage) == ("stalls", "")
    assert "every 10.0 s: scoring pauses then for up to 500 ms" in found.advice
    assert find(*workers(2), stalls=stalls).kind == "cpu"


@pytest.mark.parametrize(
    ("outcome", "ablated", "confirmed", "gain"),
    [
        (Outcome.PASS, None, True, 0.3),
        (Outcome.PASS, 2400.0, True, 1.4),
        (Outcome.FAIL, None, False, None),
        (Outcome.FAIL, 1100.0, False, 0.1),
        (Outcome.UNDECIDED, None, False, None),
        (Outcome.INVALID, None, None, None),
    ],
)
def test_ablation_confirms_or_refutes(outcome, ablated, confirmed, gain):
    suspect = find(*workers(2))
    found = confirm(suspect, outcome, capacity_per_s=1000.0, ablated_per_s=ablated)
    assert found.confirmed is confirmed
    assert found.gain_if_free == (gain if gain is None else pytest.approx(gain))
    assert (found.stage, found.predicted_gain) == (suspect.stage, suspect.predicted_gain)


CASES = st.sampled_from(
    [
        workers(3),
        workers(3, predict=(1, 40)),
        workers(3, send=(0, 70)),
        (worker("w0", rows=18_000), worker("w1", rows=2000, idle_s=54.0, scale=0.1)),
    ]
)


@given(CASES, st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
def test_neither_the_unit_of_time_nor_the_order_of_workers_matters(times, unit, random):
    def scaled(stage):
        return dataclasses.replace(
            stage, useful_s=stage.useful_s * unit, waiting_s=stage.waiting_s * unit
        )

    others = [
        dataclasses.replace(
            found,
            wall_s=found.wall_s * unit,
            cpu_s=found.cpu_s * unit,
            idle_s=found.idle_s * unit,
            stages=tuple(scaled(stage) for stage in found.stages),
        )
        for found in times
    ]
    random.shuffle(others)
    one, other = find(*times, cores=8), find(*others, cores=8)
    assert (one.stage, one.kind, one.advice) == (other.stage, other.kind, other.advice)
    assert other.share == pytest.approx(one.share)
    assert other.max_over_mean == pytest.approx(one.max_over_mean)


def scored_with_stalls(every_s, stall_s, seconds=60, rate=1000):
    """Return when rows are scored if scoring pauses at an interval and then catches up."""
    due = np.arange(seconds * rate) / rate
    into = due % every_s
    return np.where(into < stall_s, due - into + stall_s, due) + 0.005


def test_stalls_at_an_interval_are_found():
    stalls = find_stalls(scored_with_stalls(10, 0.5), 0.0, 60.0, 0.125)
    assert stalls.every_s == pytest.approx(10, rel=0.01)
    assert stalls.longest_ms == pytest.approx(500, rel=0.01)
    assert stalls.number == 5  # the one before the first score has no begin


def test_arrivals_by_chance_are_no_stalls():
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.exponential(1 / 1000, 60_000))
    assert find_stalls(times, 0.0, 60.0, 20 / 1000) is None


def test_pauses_at_no_interval_or_outside_the_window_are_no_stalls():
    times = np.arange(0, 60, 0.01)
    at_random = times[~np.any([abs(times - at) < 0.4 for at in (5, 8, 31, 33)], axis=0)]
    assert find_stalls(at_random, 0.0, 60.0, 0.2) is None
    assert find_stalls(scored_with_stalls(10, 0.5), 35.0, 60.0, 0.125) is None
    assert find_stalls(np.full(10, np.nan), 0.0, 60.0, 0.125) is None


def judged(**outcomes):
    limits = tuple(Limit(name, 1.0, 1.0, outcome) for name, outcome in outcomes.items())
    return Judged(
        outcome=Outcome.FAIL,
        sent_per_s=1000.0,
        scored_per_s=1000.0,
        latency_ms={},
        design_effect=1.0,
        lag_slope_share=Interval(0, 0, 0),
        final_backlog=0,
        send_late_p99_ms=0.0,
        limits=limits,
        checks=(),
        memory_hours_left=7.0,
    )


def test_the_evidence_of_a_window_has_its_stalls_and_failed_limits():
    scored = scored_with_stalls(10, 0.5)
    window = Window(
        phase="confirm",
        shape="even",
        workers=2,
        seed=1,
        offered_per_s=1000.0,
        begin_s=0.0,
        end_s=60.0,
        due_s=scored,
        sent_s=scored,
        scored_s=scored,
        is_dead=np.zeros(len(scored), bool),
        commit_s=0.05,
        worker_times=workers(2),
    )
    outcomes = {"lag_growth_share": Outcome.UNDECIDED, "latency_ms": Outcome.UNDECIDED}
    evidence = evidence_of(window, judged(**outcomes), latency_ms=250.0, partitions=12)
    assert evidence.failed == {"latency_ms"}
    assert evidence.stalls.number == 5
    assert (evidence.partitions, evidence.memory_hours_left) == (12, 7.0)
    assert find_bottleneck(evidence).kind == "stalls"
    rare = dataclasses.replace(window, commit_s=0.2)  # three commits last longer than a stall
    assert evidence_of(rare, judged(), latency_ms=250.0).stalls is None
