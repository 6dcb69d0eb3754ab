"""Percentiles with intervals: known truths, bursts, LoadGen's numbers."""

import math

import numpy as np
import pytest

from scoreline.pipelines.load_test.judge import percentiles
from scoreline.pipelines.load_test.judge.elements import Insufficient, Interval, Outcome
from tests.pipelines.load_test.judge import queues

RATE, SECONDS, RUNS = 300.0, 60.0, 200


def measured(rng_of_run, make, percents=(50.0, 95.0, 99.0)):
    return [percentiles.measure(*make(rng_of_run(run)), percents) for run in range(RUNS)]


def queue_latencies(rng, load, kind):
    due_s, scored_s = queues.queue(rng, RATE, load, SECONDS, kind=kind)
    within = due_s >= 0
    return (scored_s - due_s)[within], due_s[within]


def stall_latencies(rng):
    due_s, latency_s = queues.stalls(rng, RATE, SECONDS)
    return latency_s, due_s


def md1_latency_s(percent, load, rate):
    """Return a percentile of M/D/1: waiting time by Crommelin's series (1932), plus service."""
    service_s = load / rate

    def below(wait_s):
        k = np.arange(int(wait_s / service_s) + 1)
        terms = rate * (k * service_s - wait_s)
        factorial = np.array([math.factorial(i) for i in k], float)
        return (1 - load) * float(np.sum(terms**k * np.exp(-terms) / factorial))

    low_s, high_s = 0.0, 15 * service_s
    for _ in range(60):
        middle_s = (low_s + high_s) / 2
        low_s, high_s = (middle_s, high_s) if below(middle_s) < percent / 100 else (low_s, middle_s)
    return low_s + service_s


def coverage(found, truths):
    """Return the share of intervals that cover the truth, by percentile."""
    return {
        percent: np.mean(
            [
                isinstance(run[percent].percentile, Interval)
                and run[percent].percentile.low <= truth <= run[percent].percentile.high
                for run in found
            ]
        )
        for percent, truth in truths.items()
    }


@pytest.mark.parametrize("load", [0.3, 0.5, 0.6])
def test_the_interval_covers_the_percentiles_of_mm1(load):
    def run(seed):
        return np.random.default_rng([seed, 4])

    truths = {p: -math.log(1 - p / 100) / (RATE / load - RATE) for p in (50.0, 95.0, 99.0)}
    found = measured(run, lambda rng: queue_latencies(rng, load, "mm1"))
    assert all(0.90 <= share <= 0.99 for share in coverage(found, truths).values())


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_the_interval_covers_the_percentiles_of_md1(load):
    def run(seed):
        return np.random.default_rng([seed, 5])

    truths = {p: md1_latency_s(p, load, RATE) for p in (95.0, 99.0)}
    found = measured(run, lambda rng: queue_latencies(rng, load, "md1"))
    assert all(0.90 <= share <= 0.99 for share in coverage(found, truths).values())


def test_the_interval_covers_the_truth_under_bursts_only_with_the_design_effect(monkeypatch):
    def run(seed):
        return np.random.default_rng([seed, 6])

    many = np.concatenate([stall_latencies(run(seed))[0] for seed in range(1000, 1100)])
    truths = {p: float(np.percentile(many, p)) for p in (95.0, 99.0)}
    found = measured(run, stall_latencies)
    assert all(0.90 <= share <= 0.99 for share in coverage(found, truths).values())
    assert np.median([r[99.0].design_effect for r in found]) > 3

    monkeypatch.setattr(percentiles, "design_effect", lambda *_: 1.0)
    without = measured(run, stall_latencies)
    assert all(share < 0.90 for share in coverage(without, truths).values())


@pytest.mark.parametrize(
    ("percent", "over", "needed"),
    [(99, 0, 459), (99, 1, 662), (99, 2, 838), (99.9, 0, 4603), (95, 0, 90), (50, 0, 7)],
)
def test_samples_needed_are_those_of_loadgen(percent, over, needed):
    assert percentiles.samples_needed(percent, over) == needed
    for samples, outcome in ((needed, Outcome.PASS), (needed - 1, Outcome.UNDECIDED)):
        latency_s = np.where(np.arange(samples) < over, 2.0, 0.5)
        assert percentiles.judge_limit(latency_s, 1.0, percent, 1.0) is outcome


def test_a_limit_is_shown_to_be_broken_only_when_chance_is_no_excuse():
    latency_s = np.full(1000, 0.5)
    outcomes = []
    for over in (0, 10, 20):
        latency_s[:over] = 2.0
        outcomes.append(percentiles.judge_limit(latency_s, 1.0, 99.0, 1.0))
    assert outcomes == [Outcome.PASS, Outcome.UNDECIDED, Outcome.FAIL]
    assert percentiles.judge_limit(latency_s, 1.0, 99.0, 10.0) is Outcome.UNDECIDED
    assert percentiles.judge_limit(np.full(10, 2.0), 1.0, 99.0, 1.0) is Outcome.FAIL


def test_too_few_samples_name_the_number_that_is_needed():
    latency_s = 0.1 + np.arange(458) * 283 % 458 / 4580  # evenly spread: no bursts
    found = percentiles.measure(latency_s, np.linspace(0, 60, 458), (95.0, 99.0, 99.9))
    assert isinstance(found[95.0].percentile, Interval)
    assert found[99.0].percentile == Insufficient(459)
    assert found[99.9].percentile == Insufficient(4603)
    # In bursts of ten, ten times as many.
    bursts = np.repeat(np.random.default_rng(7).exponential(size=3000), 10)
    found = percentiles.measure(bursts, np.arange(30000) / 500.0, (99.9,))
    assert found[99.9].percentile.needed > 5 * 4603


def test_rows_without_a_score_are_later_than_all_others():
    latency_s = np.full(2000, 0.1)
    due_s = np.arange(2000) / 100
    latency_s[::150] = math.inf  # 0.7 %: the upper end cannot be known
    found = percentiles.measure(latency_s, due_s, (50.0, 99.0))
    assert found[99.0].percentile[:3] == (0.1, 0.1, math.inf)
    assert found[50.0].percentile[:3] == (0.1, 0.1, 0.1)
    latency_s[::50] = math.inf
    assert percentiles.measure(latency_s, due_s, (99.0,))[99.0].value_s == math.inf
    assert percentiles.judge_limit(latency_s, 1e9, 99.0, 1.0) is Outcome.FAIL


def test_no_rows_and_impossible_percentiles_are_refused():
    with pytest.raises(ValueError, match="at least one row, got none"):
        percentiles.measure(np.empty(0), np.empty(0), (50.0,))
    with pytest.raises(ValueError, match=r"between 0 and 100, got \[0.0, 100.0\]"):
        percentiles.measure(np.ones(9), np.ones(9), (0.0, 50.0, 100.0))


def test_a_limit_that_is_the_truth_hardly_ever_passes_and_twice_of_it_does():
    truth_s = -math.log(1 - 0.99) / (RATE / 0.6 - RATE)
    outcomes = {0.9: [], 1.0: [], 2.0: []}
    for seed in range(RUNS):
        latency_s, due_s = queue_latencies(np.random.default_rng([seed, 9]), 0.6, "mm1")
        effect = percentiles.measure(latency_s, due_s, (95.0, 99.0))[99.0].design_effect
        for factor, found in outcomes.items():
            found.append(percentiles.judge_limit(latency_s, factor * truth_s, 99.0, effect))
    passed = {factor: found.count(Outcome.PASS) / RUNS for factor, found in outcomes.items()}
    assert passed[0.9] == 0
    assert passed[1.0] <= 0.02
    assert passed[2.0] >= 0.9
    assert outcomes[1.0].count(Outcome.FAIL) <= 0.04 * RUNS
