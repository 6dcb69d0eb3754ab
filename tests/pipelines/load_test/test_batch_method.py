"""The method of a load test of a batch, against simulated runs with known costs."""

import datetime as dt
import re

import numpy as np
import pytest

from scoreline.pipelines.load_test.batch_method import run_batches
from scoreline.pipelines.load_test.batch_result import to_result
from scoreline.pipelines.load_test.budget import Budget
from scoreline.pipelines.load_test.driver.batch import BatchRun
from scoreline.pipelines.load_test.driver.machine import Use
from scoreline.pipelines.load_test.driver.subject import Facts
from scoreline.pipelines.load_test.judge.elements import Outcome, Slos, StageTimes, WorkerTimes
from scoreline.pipelines.load_test.profile import Need, Prices, Profile
from scoreline.pipelines.load_test.report.page import lines_of

ROWS = 100_000
ARGV = ("--input=flights", "--model=models/flights/7", "--keys=id")


class SimulatedBatch:
    """A batch with a start of `start_s`, stages with costs of a row, and noise of 1 %.

    A commit may grow with the square of the rows.
    """

    def __init__(self, *, start_s=2.0, us_per_row=None, commit_exponent=1.0, dead=0, neighbours=0):
        self.start_s, self.dead, self.neighbours = start_s, dead, neighbours
        self.us_per_row = us_per_row or {"read": 2.0, "predict": 8.0, "stage": 1.0, "commit": 0.5}
        self.commit_exponent = commit_exponent
        self.generator = np.random.default_rng(3)
        self.seconds = 0.0
        self.ran = []

    def run(self, factor, *, workers, replaced=""):
        rows = ROWS * factor
        seconds = {
            name: rows * cost / 1e6 * self.generator.normal(1, 0.01)
            for name, cost in self.us_per_row.items()
            if name != replaced
        }
        if "commit" in seconds:
            seconds["commit"] *= factor ** (self.commit_exponent - 1)
        busy_s = sum(seconds.values())
        wall_s = (self.start_s + busy_s / workers) * self.generator.normal(1, 0.01)
        self.seconds += wall_s
        self.ran.append((factor, workers, replaced))
        times = tuple(
            WorkerTimes(
                worker=f"here:1/{number}",
                wall_s=busy_s / workers,
                cpu_s=busy_s / workers,
                idle_s=0.0,
                stages=tuple(
                    StageTimes(
                        name=name, useful_s=took / workers, waiting_s=0.0, rows=rows // workers
                    )
                    for name, took in seconds.items()
                ),
            )
            for number in range(workers)
        )
        return BatchRun(
            factor=factor,
            workers=workers,
            facts=Facts(model_digest="sha256:1f", rows=rows, rows_dead=self.dead),
            wall_s=wall_s,
            cpu_s=self.start_s + busy_s,
            worker_times=times,
            use=Use(self.neighbours, 0.0, np.array([0.0, wall_s]), np.array([400.0, 500.0])),
            replaced=replaced,
        )


def find_out(batch, *, slos=None, workers=(1,), budget_s=None, need=None, repeats=3):
    budget = Budget(budget_s, lambda: batch.seconds)
    found = run_batches(
        batch,
        volumes=(1, 4, 16),
        workers=workers,
        repeats=repeats,
        budget=budget,
        say=lambda text: None,
    )
    profile = Profile(
        mode="batch",
        argv=ARGV,
        workers=workers,
        slos=slos or Slos(),
        need=need,
        prices=Prices(currency="EUR", worker_hour=0.36, source="profile"),
    )
    return to_result(profile, found, 31, budget.cut, dt.datetime.now(dt.UTC))


def test_the_cost_of_start_and_row_are_those_of_the_batch():
    test = find_out(SimulatedBatch())
    volume = test.volume
    assert volume.start_up_cpu_s.low <= 2.0 <= volume.start_up_cpu_s.high
    assert volume.cpu_us_per_row.low <= 11.5 <= volume.cpu_us_per_row.high
    assert [(run.factor, run.rows, run.runs) for run in volume.runs] == [
        (1, ROWS, 3),
        (4, 4 * ROWS, 3),
        (16, 16 * ROWS, 3),
    ]
    assert volume.growing_stage == ""
    assert test.outcome is Outcome.PASS
    assert test.subject.shape == "offline"


@pytest.mark.parametrize(
    ("deadline_s", "outcome"),
    [(150.0, Outcome.PASS), (80.0, Outcome.FAIL), (117.2, Outcome.UNDECIDED)],
)
def test_a_deadline_is_judged_by_the_forecast_and_its_interval(deadline_s, outcome):
    slos = Slos(rows=10_000_000, deadline_s=deadline_s)  # takes 2 + 115 s
    test = find_out(SimulatedBatch(), slos=slos)
    assert test.outcome is outcome
    assert test.limits[0].name == "deadline_s"
    assert test.limits[0].measured == pytest.approx(117, rel=0.02)
    assert test.headroom == pytest.approx(deadline_s / 117, rel=0.02)
    rows = test.volume.rows_before_deadline
    assert rows.low <= (deadline_s - 2) / 11.5e-6 <= rows.high


def test_a_commit_that_grows_with_the_volume_is_named():
    test = find_out(SimulatedBatch(commit_exponent=2.0))
    assert test.volume.growing_stage == "commit"
    assert test.volume.growth > 3


def test_the_largest_stage_is_left_out_once():
    batch = SimulatedBatch()
    test = find_out(batch)
    assert batch.ran[-1] == (16, 1, "predict")
    assert (test.bottleneck.stage, test.bottleneck.confirmed) == ("predict", True)
    assert test.bottleneck.gain_if_free == pytest.approx(20.4 / 7.6 - 1, rel=0.1)


def test_the_workers_for_a_night_come_from_the_forecast():
    need = Need(rows=1_000_000_000, begin=dt.time(0, 0), by=dt.time(1, 0))
    test = find_out(SimulatedBatch(), need=need)
    assert test.scaling.demand.workers.low <= 4 <= test.scaling.demand.workers.high
    assert test.scaling.demand.kind == "forecast"
    assert (test.scaling.demand.by, test.scaling.demand.deadline_s) == ("01:00", 3600.0)
    # Without a limit, the deadline of the need is that of the rows that fit.
    rows = test.volume.rows_before_deadline
    assert rows.low <= (3600 - 2) / 11.5e-6 <= rows.high


def test_the_page_of_a_night_has_each_line_with_its_intervals():
    need = Need(rows=1_000_000_000, begin=dt.time(0, 0), by=dt.time(6, 0))
    slos = Slos(rows=10_000_000, deadline_s=150.0, cost_per_million=0.01)
    test = find_out(SimulatedBatch(commit_exponent=2.0), need=need, slos=slos)
    shown = {line.label: line.text for line in lines_of(test)}
    number = r"[\d,.]+"
    interval = rf"{number}( µs| s)? \[−?{number}, {number}\]"
    for label, pattern in {
        "volume": r"×1 100,000 rows in .* · ×4 400,000 rows in .* · ×16 1,600,000 rows in .*",
        "cost/row": rf"start-up {interval} CPU · {interval} CPU a row · start-up {interval} wall "
        rf"time · {interval} wall time a row",
        "deadline": rf"{interval} rows fit within 2.5 min",
        "growth": rf"commit grows with the volume: \+{number} % for 10 × the rows",
        "need": "for 1,000,000,000 rows by 06:00, within 6 h: refused: The cost of a row grows .*",
        "cost": rf"{number} EUR per million at the largest volume \(1 worker paid\)   prices: .*",
    }.items():
        assert re.fullmatch(pattern, shown[label]), shown[label]
    even = find_out(SimulatedBatch(), need=need, slos=slos)
    need_line = {line.label: line.text for line in lines_of(even)}["need"]
    assert re.fullmatch(
        r"for 1,000,000,000 rows by 06:00, within 6 h: 1 worker \[1, 1\] \(forecast; .*", need_line
    )


@pytest.mark.parametrize(("limit", "outcome"), [(0.002, Outcome.PASS), (0.0001, Outcome.FAIL)])
def test_a_limit_of_the_cost_counts_the_start(limit, outcome):
    test = find_out(SimulatedBatch(), slos=Slos(cost_per_million=limit))
    assert test.cost.per_million == pytest.approx(0.36 / 3600 * 20.4 / 1.6, rel=0.05)
    assert test.outcome is outcome


def test_more_workers_are_measured_at_the_largest_volume():
    batch = SimulatedBatch()
    test = find_out(batch, workers=(1, 2))
    assert batch.ran[-1] == (16, 2, "")
    one, two = test.scaling.tested
    assert two.per_s / one.per_s == pytest.approx(20.4 / 11.2, rel=0.1)


def test_a_neighbour_makes_the_measurement_invalid():
    test = find_out(SimulatedBatch(neighbours=0.2))
    assert test.outcome is Outcome.INVALID


def test_dead_letters_fail_their_limit():
    test = find_out(SimulatedBatch(dead=5))
    assert test.outcome is Outcome.FAIL
    assert [limit.name for limit in test.limits if limit.outcome is Outcome.FAIL] == ["error_share"]


def test_what_the_budget_does_not_allow_is_left_out_and_named():
    test = find_out(SimulatedBatch(), budget_s=20, slos=Slos(rows=10**7, deadline_s=150.0))
    assert any("volume × 16" in sentence for sentence in test.cut)
    assert test.volume.cpu_us_per_row is None
    assert test.outcome is Outcome.UNDECIDED
