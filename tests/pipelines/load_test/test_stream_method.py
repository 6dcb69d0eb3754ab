"""The method of a load test, against a simulated stream whose capacity is known."""

import dataclasses
import datetime as dt

import numpy as np
import pytest

from scoreline.pipelines.load_test.budget import Budget
from scoreline.pipelines.load_test.driver.subject import Facts
from scoreline.pipelines.load_test.judge.elements import Outcome, Slos
from scoreline.pipelines.load_test.judge.search import End, Precision
from scoreline.pipelines.load_test.profile import Need, Prices, Profile, Records
from scoreline.pipelines.load_test.stream_method import StreamTest
from scoreline.pipelines.load_test.stream_plan import Plan
from scoreline.pipelines.load_test.stream_result import to_result
from tests.pipelines.load_test.simulated import SimulatedStream

ARGV = ("--brokers=localhost:9092", "--model=models/flights/7", "--keys=id")


def find_out(stream, *, slos, workers=(1,), budget_s=None, need=None, window_s=20.0, soak_s=None):
    """Return what is found out, and the result for the report."""
    budget = Budget(budget_s, lambda: stream.seconds)
    plan = Plan(
        slos=slos,
        workers=workers,
        precision=Precision(0.1, window_s),
        seed=5,
        partitions=12,
        soak_s=soak_s,
    )
    said = []
    found = StreamTest(stream, plan, budget, said.append).run()
    profile = Profile(
        mode="stream",
        argv=ARGV,
        records=Records(path="flights", format="parquet"),
        workers=workers,
        slos=slos,
        prices=Prices(currency="EUR", worker_hour=0.9, source="profile"),
        need=need,
    )
    facts = Facts(model_digest="sha256:1f", commit_s=0.5)
    return found, to_result(profile, found, facts, budget.cut, dt.datetime.now(dt.UTC))


@pytest.mark.parametrize(
    ("target_per_s", "outcome"), [(500.0, Outcome.PASS), (800.0, Outcome.FAIL)]
)
def test_the_verdict_is_that_of_the_capacity(target_per_s, outcome):
    stream = SimulatedStream(600, gain={"predict": 2.0})
    slos = Slos(rate_per_s=target_per_s, latency_ms=250)
    _, test = find_out(stream, slos=slos)
    assert test.outcome is outcome
    # Random arrivals near the limit wait longer than the latency allows.
    assert 500 <= test.capacity.passes_per_s <= 600
    assert test.capacity.fails_per_s >= 540
    assert test.capacity.fails_per_s / test.capacity.passes_per_s < 1.11
    assert (test.capacity.passed, test.capacity.pass_windows) == (3, 3)
    assert test.capacity.failed >= 2
    assert test.headroom == pytest.approx(test.capacity.passes_per_s / target_per_s)
    assert test.at_target.offered_per_s == pytest.approx(target_per_s, rel=0.05)
    assert test.estimates.drain_per_s == pytest.approx(600, rel=0.01)
    assert test.estimates.busy_time_per_s == pytest.approx(600, rel=0.05)


def test_without_a_target_the_capacity_is_found_from_the_backlog():
    stream = SimulatedStream(600)
    _, test = find_out(stream, slos=Slos(latency_ms=250))
    assert test.outcome is Outcome.PASS
    assert stream.offered[0].due_s.size / 25 == pytest.approx(300, rel=0.05)
    assert test.headroom is None
    assert test.at_target.offered_per_s == pytest.approx(test.capacity.passes_per_s, rel=0.05)


def test_a_neighbour_makes_the_measurement_invalid():
    stream = SimulatedStream(600, neighbours=0.2)
    found, test = find_out(stream, slos=Slos(rate_per_s=200, latency_ms=250))
    assert test.outcome is Outcome.INVALID
    assert found.capacities[1].end is End.INVALID
    assert [check.name for check in test.checks if not check.is_ok] == ["neighbour_cpu_share"]
    assert len(found.tried) == 2  # one retry, then nothing more
    assert test.capacity.passes_per_s is None


def test_a_late_sender_makes_the_measurement_invalid():
    stream = SimulatedStream(600, late_s=0.1)
    _, test = find_out(stream, slos=Slos(rate_per_s=200, latency_ms=250))
    assert test.outcome is Outcome.INVALID
    assert [check.name for check in test.checks if not check.is_ok] == ["sender_late_p99_ms"]


def test_the_harness_bounds_the_capacity():
    stream = SimulatedStream(5_000, harness_per_s=800)
    _, test = find_out(stream, slos=Slos(rate_per_s=300, latency_ms=250))
    assert test.capacity.limited_by_harness
    assert test.capacity.passes_per_s == pytest.approx(800 / 1.3)
    assert test.capacity.fails_per_s is None
    assert test.outcome is Outcome.PASS


def test_a_stage_is_confirmed_if_the_stream_holds_more_without_it():
    free, same = (
        find_out(
            SimulatedStream(600, gain={"predict": gain}),
            slos=Slos(rate_per_s=400, latency_ms=250),
        )[1].bottleneck
        for gain in (2.0, 1.0)
    )
    assert (free.stage, free.confirmed) == ("predict", True)
    assert free.gain_if_free >= 0.3
    assert (same.stage, same.confirmed, same.gain_if_free) == ("predict", False, None)


@pytest.mark.parametrize(("serial", "kind"), [(0.1, "lock"), (0.5, "lock"), (0.01, "cpu")])
def test_workers_that_wait_for_each_other_are_compared_with_one_alone(serial, kind):
    stream = SimulatedStream(200, serial=serial)
    _, test = find_out(stream, slos=Slos(rate_per_s=200, latency_ms=250), workers=(4,))
    assert (test.bottleneck.stage, test.bottleneck.kind) == ("predict", kind)
    assert (1, "") in stream.starts


def test_the_time_to_recover_from_a_spike_is_that_of_its_backlog():
    stream = SimulatedStream(600)
    _, test = find_out(stream, slos=Slos(rate_per_s=400, latency_ms=250, recover_s=30))
    assert test.spike.peak_per_s / test.spike.base_per_s == pytest.approx(4, rel=0.1)
    assert test.spike.recovered_s == pytest.approx(test.spike.predicted_s, abs=2)
    assert "recover_s" in [limit.name for limit in test.limits]


def test_the_starts_of_the_whole_pipeline_are_measured():
    stream = SimulatedStream(600)
    _, test = find_out(stream, slos=Slos(rate_per_s=400, latency_ms=250))
    # The first two starts have a backlog; that of the harness and of the ablation lack stages.
    whole = [number for number, start in enumerate(stream.starts, 1) if start == (1, "")][1:]
    assert test.start.starts == len(whole)
    assert test.start.longest_s == 4.0 + whole[-1] / 100
    assert test.start.median_s == pytest.approx(4.0 + np.median(whole) / 100)


def test_a_step_at_half_of_the_capacity_settles():
    slos = Slos(rate_per_s=400, latency_ms=250, recover_s=30)
    found, test = find_out(SimulatedStream(600), slos=slos)
    assert test.step.to_per_s / test.step.base_per_s == pytest.approx(1.5, rel=0.1)
    assert test.step.base_per_s == pytest.approx(test.capacity.passes_per_s / 2, rel=0.1)
    assert test.step.settled_s == 0
    assert [limit.name for limit in test.limits].count("recover_s") == 2  # of spike and step
    # A step that does not settle fails the test.
    judged = found.step.judged
    never = tuple(dataclasses.replace(judged, recovery=None).limits)
    never = tuple(x._replace(measured=None, outcome=Outcome.FAIL) for x in never)
    found.step = dataclasses.replace(found.step, judged=dataclasses.replace(judged, limits=never))
    profile = Profile(mode="stream", argv=ARGV, slos=slos)
    facts = Facts(model_digest="sha256:1f", commit_s=0.5)
    assert to_result(profile, found, facts, (), dt.datetime.now(dt.UTC)).outcome is Outcome.FAIL


@pytest.mark.parametrize(("target_per_s", "load_per_s"), [(300.0, 300.0), (None, None)])
def test_a_soak_is_at_the_target_or_at_the_planned_utilization(target_per_s, load_per_s):
    slos = Slos(rate_per_s=target_per_s, latency_ms=250)
    stream = SimulatedStream(600)
    _, test = find_out(stream, slos=slos, soak_s=900.0)
    wanted = load_per_s or 0.7 * test.capacity.passes_per_s
    assert test.soak.rate_per_s == pytest.approx(wanted, rel=0.02)
    assert (test.soak.seconds, test.soak.outcome) == (900.0, Outcome.PASS)
    assert stream.offered[-1].phase == "soak"
    # Fifteen minutes resolve a growth that windows of the search cannot.
    width = test.soak.lag_slope_share.high - test.soak.lag_slope_share.low
    assert width < 0.001
    assert test.soak.memory_growth_mb_per_h.value == pytest.approx(0, abs=1e-6)


def test_a_leak_shows_in_the_soak_with_the_hours_that_it_leaves():
    stream = SimulatedStream(600, leak_mb_per_s=0.01)
    slos = Slos(rate_per_s=300, latency_ms=250, memory_mb=1000.0)
    _, test = find_out(stream, slos=slos, soak_s=900.0)
    assert test.soak.memory_growth_mb_per_h.value == pytest.approx(36.0, rel=0.01)
    assert test.soak.memory_hours_left == pytest.approx((500 - 9) / 36, rel=0.02)
    assert test.outcome is Outcome.PASS


def test_a_soak_that_fails_or_is_invalid_decides_the_test():
    slos = Slos(rate_per_s=300, latency_ms=250, memory_mb=508.0)
    _, failed = find_out(SimulatedStream(600, leak_mb_per_s=0.01), slos=slos, soak_s=900.0)
    assert failed.outcome is Outcome.FAIL
    assert [limit.name for limit in failed.soak.limits if limit.outcome is Outcome.FAIL] == [
        "memory_mb"
    ]

    class Disturbed(SimulatedStream):
        def offer(self, offer):
            self.neighbours = 0.2 if offer.phase == "soak" else 0.0
            return super().offer(offer)

    slos = Slos(rate_per_s=300, latency_ms=250)
    _, invalid = find_out(Disturbed(600), slos=slos, soak_s=900.0)
    assert invalid.outcome is Outcome.INVALID
    assert all(check.is_ok for check in invalid.checks)


def test_a_soak_that_cannot_be_run_is_named():
    slos = Slos(rate_per_s=300, latency_ms=250)
    _, cut = find_out(SimulatedStream(600), slos=slos, soak_s=900.0, budget_s=900)
    assert cut.soak is None
    assert cut.cut[-1].startswith("the soak (needs 917 s, ")
    _, test = find_out(SimulatedStream(600), slos=Slos(latency_ms=1.0), soak_s=900.0)
    assert test.capacity.passes_per_s is None
    assert test.cut[-1] == "the soak: no tested load passes"


def test_no_more_records_are_sent_than_can_be_followed(monkeypatch):
    monkeypatch.setattr("scoreline.pipelines.load_test.stream_method.MAX_RECORDS", 60_000)
    stream = SimulatedStream(600, max_records=60_000)
    _, test = find_out(stream, slos=Slos(rate_per_s=300, latency_ms=250), soak_s=900.0)
    assert test.outcome is Outcome.PASS  # the search starts the stream again in time
    (sentence,) = test.cut
    assert sentence.startswith("the soak after 193 s: at 300/s it has more than the 60,000 records")
    assert test.soak.seconds == pytest.approx(193, abs=1)
    stream = SimulatedStream(6_000, harness_per_s=60_000, max_records=60_000)
    _, test = find_out(stream, slos=Slos(rate_per_s=1_000, latency_ms=250))
    assert test.capacity.fails_per_s is None
    assert test.cut[0] == (
        "the rest of the search with 1 workers: a window of 4,000/s has more than the 60,000 "
        "records that a test can follow"
    )


def test_a_stream_too_slow_for_a_spike_says_so():
    _, test = find_out(SimulatedStream(2.0, latency_s=0.1), slos=Slos(rate_per_s=1.0))
    assert (test.spike, test.step) == (None, None)
    assert any(sentence.startswith("spike and step from ") for sentence in test.cut)


def test_what_the_budget_does_not_allow_is_left_out_and_named():
    stream = SimulatedStream(600)
    _, test = find_out(stream, slos=Slos(rate_per_s=200, latency_ms=250), budget_s=130)
    assert stream.seconds < 200
    assert test.cut
    assert test.cut[0].startswith("the rest of the search with 1 workers")


def test_the_workers_for_a_need_are_the_fewest_that_hold_it_with_reserve():
    stream = SimulatedStream(200, serial=0.03)
    need = Need(rate_per_s=600)
    slos = Slos(rate_per_s=100, latency_ms=250)
    _, test = find_out(stream, slos=slos, workers=(1, 2, 4, 8), need=need)
    per_s = {point.workers: point.per_s for point in test.scaling.tested}
    assert set(per_s) == {1, 2, 4, 8}
    for workers, capacity in per_s.items():
        truth = 200 * workers / (1 + 0.03 * (workers - 1))
        assert truth / 1.2 <= capacity <= truth * 1.01
    assert test.scaling.alpha.low <= 0.03 <= test.scaling.alpha.high
    assert (test.scaling.demand.kind, test.scaling.demand.workers.value) == ("measured", 8)


def test_windows_of_a_slow_stream_are_longer():
    stream = SimulatedStream(40.0)
    found, test = find_out(stream, slos=Slos(rate_per_s=10, latency_ms=500))
    assert test.outcome is Outcome.PASS
    at_target = [offer for offer in stream.offered if offer.window_s > 20.0]
    assert at_target
    assert max(offer.window_s for offer in at_target) <= 600
    assert found.at_target.judged.outcome is Outcome.PASS


def test_a_stream_too_slow_for_its_percentile_is_no_pass():
    stream = SimulatedStream(5.0)
    _, test = find_out(stream, slos=Slos(rate_per_s=0.2, latency_ms=5000))
    assert test.outcome is Outcome.UNDECIDED
    assert "a window needs 459 records" in test.cut[0]


def test_costs_are_those_of_the_paid_workers():
    _, test = find_out(SimulatedStream(600), slos=Slos(rate_per_s=200, latency_ms=250))
    assert test.cost.per_million == pytest.approx(0.9 / 3600 / 200 * 1e6)
    assert test.cost.per_million_at_capacity < test.cost.per_million / 2


@pytest.mark.parametrize(("limit", "outcome"), [(1.3, Outcome.PASS), (1.2, Outcome.FAIL)])
def test_a_limit_of_the_cost_is_that_of_the_target(limit, outcome):
    slos = Slos(rate_per_s=200, latency_ms=250, cost_per_million=limit)
    _, test = find_out(SimulatedStream(600), slos=slos)  # 0.9 an hour ÷ 0.72 million rows
    assert test.outcome is outcome
    assert test.limits[-1] == ("cost_per_million", limit, pytest.approx(1.25), outcome)


def test_seeds_make_a_test_repeatable():
    one, two = (
        find_out(SimulatedStream(600), slos=Slos(rate_per_s=200, latency_ms=250))[1]
        for _ in range(2)
    )
    assert one.capacity == dataclasses.replace(two.capacity)
    assert [probe.seed for probe in one.probes] == [probe.seed for probe in two.probes]
