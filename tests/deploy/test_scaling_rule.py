"""The rule by which workers are added and removed, alone and with a simulated stream."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from deploy.local.scaling_rule import UNKNOWN, Known, Load, Reading, Rule, decide, observe

RULE = Rule(max_workers=4, readers=4, window_s=6.0, remove_after_s=20.0)
QUIET = Load(
    rate_per_s=70.0, lag=0, worker_per_s=100.0, workers=1, since_change_s=60.0, restart_s=None
)


def workers(rule=RULE, **fields):
    return decide(QUIET._replace(**fields), rule).workers


def test_a_load_at_the_planned_utilization_changes_nothing():
    assert workers() == 1
    assert workers(rate_per_s=140.0, workers=2) == 2


def test_workers_are_added_above_the_margin():
    assert workers(rate_per_s=89.0) == 1
    assert workers(rate_per_s=91.0) == 2  # 91 ÷ 0.7 + 91 × 10 ÷ 30 = 160


def test_a_backlog_adds_workers_though_the_rate_alone_would_not():
    assert workers(rate_per_s=50.0, lag=3000) == 2  # 3000 ÷ 30 + 50 × 10 ÷ 30 + 50 ÷ 0.7 = 188
    assert workers(rate_per_s=50.0, lag=9000) == 4


def test_workers_are_removed_below_the_margin():
    assert workers(rate_per_s=100.0, workers=4) == 2
    assert workers(rate_per_s=20.0, workers=4) == 1
    assert workers(rate_per_s=0.0, workers=4) == 1


def test_workers_are_not_removed_while_a_backlog_remains():
    assert workers(rate_per_s=50.0, lag=9000, workers=4) == 4
    few = QUIET._replace(rate_per_s=20.0, lag=1500, workers=4)  # 2 workers would be enough
    assert decide(few, RULE) == (4, "a backlog is being worked off")
    assert workers(rate_per_s=20.0, lag=1000, workers=4) == 1


def test_a_backlog_may_use_workers_up_to_their_true_rate():
    assert workers(rate_per_s=190.0, workers=2) == 4
    assert workers(rate_per_s=190.0, workers=2, lag=0, worker_per_s=110.0) == 2
    assert workers(rate_per_s=90.0, lag=299) == 2
    assert workers(rate_per_s=89.0, lag=301) == 1


def test_the_time_of_a_restart_counts_when_workers_are_removed():
    assert workers(rate_per_s=55.0, workers=2) == 1
    assert workers(rate_per_s=55.0, workers=2, restart_s=40.0) == 2


def test_bounds_hold_and_a_count_outside_of_them_is_corrected():
    assert workers(rate_per_s=9000.0, lag=10**6) == 4
    assert decide(QUIET._replace(rate_per_s=9000.0, workers=4), RULE) == (
        4,
        "more workers are not allowed",
    )
    assert workers(dataclasses.replace(RULE, min_workers=2), rate_per_s=1.0, workers=4) == 2
    assert workers(dataclasses.replace(RULE, min_workers=2)) == 2
    assert workers(dataclasses.replace(RULE, max_workers=2), rate_per_s=1000.0, workers=4) == 2


def test_only_counts_that_share_the_readers_evenly_are_chosen():
    assert workers(rate_per_s=150.0) == 4  # 3 would leave one worker with two of four readers
    six = dataclasses.replace(RULE, max_workers=6, readers=6)
    assert workers(six, rate_per_s=150.0) == 3
    assert workers(dataclasses.replace(RULE, max_workers=3), rate_per_s=150.0) == 3


def test_workers_are_removed_only_some_time_after_the_newest_change():
    assert workers(rate_per_s=20.0, workers=4, since_change_s=19.0) == 4
    assert workers(rate_per_s=20.0, workers=4, since_change_s=20.0) == 1
    assert workers(rate_per_s=900.0, workers=2, since_change_s=7.0) == 4  # added at once


def test_nothing_changes_while_the_true_rate_is_unknown():
    assert workers(rate_per_s=900.0, worker_per_s=None) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"min_workers": 0},
        {"min_workers": 5},
        {"readers": 3},
        {"margin": 0.0},
        {"margin": 0.7},
        {"utilization": 1.1},
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(fields):
    with pytest.raises(ValueError, match="expected"):
        Rule(**{"max_workers": 4, "readers": 4, **fields})


def readings(*rows):
    return [Reading(*row) for row in rows]


def every_second(count, *, per_s=50, done_per_s=50, waiting=0, workers=1):
    return [
        Reading(float(t), waiting + per_s * t, done_per_s * t, workers, workers)
        for t in range(count)
    ]


def test_rates_are_those_of_the_window():
    load = observe(every_second(20), RULE, Known(100.0))
    assert load == Load(50.0, 0, 100.0, 1, 19.0, None)
    assert observe(every_second(6), RULE, Known(100.0)) is None  # 5 s


def test_the_true_rate_is_known_only_if_records_waited():
    behind = every_second(20, waiting=5000, done_per_s=80, workers=2)
    assert observe(behind, RULE).worker_per_s == 40.0
    assert observe(behind, RULE, Known(99.0)).worker_per_s == 40.0
    assert observe(every_second(20), RULE).worker_per_s is None
    caught_up = [*behind, Reading(20.0, behind[-1].sent, behind[-1].sent, 2, 2)]
    assert observe(caught_up, RULE, Known(99.0)).worker_per_s == 99.0


def test_nothing_is_known_while_the_job_restarts():
    before = every_second(20)
    added = [*before, Reading(20.0, 1000, 950, 1, 2), Reading(21.0, 1050, 950, 0, 2)]
    assert observe(added[:-1], RULE, Known(100.0)) is None
    assert observe(added, RULE, Known(100.0)) is None
    # All tasks run, but their workers are still starting.
    runs = [*added, *(Reading(22.0 + t, 1100 + 50 * t, 950, 2, 2) for t in range(20))]
    assert observe(runs, RULE, Known(100.0)) is None
    resumed = [*runs, *(Reading(42.0 + t, 2100 + 50 * t, 990 + 150 * t, 2, 2) for t in range(7))]
    load = observe(resumed, RULE, Known(100.0))
    assert (load.workers, load.since_change_s, load.restart_s) == (2, 6.0, 23.0)


def test_the_first_window_after_a_restart_shows_no_true_rate():
    """Workers load their model and take their first calls in it."""
    before = every_second(5)
    after = [Reading(10.0 + t, 5000 + 50 * t, 300 + 60 * t, 2, 2) for t in range(20)]
    assert observe([*before, *after[:-8]], RULE, Known(100.0)).worker_per_s == 100.0
    assert observe([*before, *after], RULE, Known(100.0)).worker_per_s == 30.0


def test_a_job_without_records_settles():
    idle = [Reading(float(t), 0, 0, 1, 1) for t in range(10)]
    assert observe(idle, RULE) == Load(0.0, 0, None, 1, 9.0, None)


class Simulated:
    """A stream in steps of a second, whose changes take a restart in which nothing is scored."""

    def __init__(self, per_s, *, worker_per_s=100.0, restart_s=8, seed=0, known=UNKNOWN):
        self.generator = np.random.default_rng(seed)
        self.per_s, self.worker_per_s, self.restart_s = per_s, worker_per_s, restart_s
        self.known, self.readings, self.counts = known, [], []
        self.sent = self.done = 0
        self.workers, self.resumes_at = 1, 0

    def run(self, seconds, rule=RULE):
        for at in range(seconds):
            self.sent += int(self.generator.poisson(self.per_s(at)))
            runs = at >= self.resumes_at
            if runs:
                able = int(self.workers * self.worker_per_s)
                self.done = min(self.sent, self.done + able)
            running = self.workers if runs else 0
            self.readings.append(Reading(float(at), self.sent, self.done, running, self.workers))
            load = observe(self.readings, rule, self.known)
            if load is not None:
                self.known = Known(load.worker_per_s, load.restart_s)
                wanted = decide(load, rule).workers
                if wanted != self.workers:
                    self.workers, self.resumes_at = wanted, at + self.restart_s
            self.counts.append(self.workers)
        return [count for count, _ in itertools.groupby(self.counts)]

    @property
    def lag(self):
        return self.sent - self.done


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [1, 2, 4])
def test_noise_around_the_target_changes_nothing(count, seed):
    simulated = Simulated(lambda at: 70.0 * count, seed=seed, known=Known(100.0))
    simulated.workers = count
    assert simulated.run(600) == [count]


@pytest.mark.parametrize("per_s", range(30, 300, 30))
def test_a_steady_load_comes_to_rest(per_s):
    """No load makes workers come and go, wherever it lies between the thresholds."""
    simulated = Simulated(lambda at: per_s, seed=per_s, known=Known(100.0))
    simulated.run(600)
    assert len(set(simulated.counts[300:])) == 1
    assert simulated.workers * 100.0 > per_s


def test_a_spike_adds_workers_at_once_and_they_are_removed_after_it():
    def per_s(at):
        return 500.0 if 100 <= at < 130 else 50.0

    simulated = Simulated(per_s, known=Known(100.0))
    assert simulated.run(400) == [1, 4, 2, 1]
    added = simulated.counts.index(4)
    assert 100 <= added <= 106
    assert simulated.lag < 100
    removed = simulated.counts.index(2, added)
    assert simulated.readings[removed].lag <= 4 * 100 * RULE.backlog_s  # of 12,000 before


def test_the_true_rate_is_learned_from_the_first_backlog():
    simulated = Simulated(lambda at: 150.0 if at > 50 else 50.0)
    assert simulated.run(200) == [1, 4]
    assert simulated.known.worker_per_s == pytest.approx(100.0, rel=0.01)
    assert simulated.lag < 200
