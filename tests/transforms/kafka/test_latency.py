from __future__ import annotations

import random

import pytest

from scoreline.transforms.kafka.latency import LatencyController


class Model:
    """A model and a topic with a simulated clock. Each poll takes the records that have queued up.

    Args:
      controller: sets the size of polls.
      fixed: fixed seconds per call.
      per_row: further seconds per row.
      commit: seconds without reading at the end of each tenth of a second.
      noise: standard deviation of the logarithm of a call's time.
    """

    def __init__(self, controller, fixed, per_row, commit=0.0, noise=0.0):
        self.controller, self.fixed, self.per_row, self.commit = controller, fixed, per_row, commit
        self.noise, self.random = noise, random.Random(7)
        self.now, self.queue = 0.0, []

    def run(self, rate, seconds):
        """Offer records at a rate for some seconds, and return the latency of each record."""
        latencies, due, ends = [], self.now, self.now + seconds
        bundle = self.now
        while self.now < ends:
            while due <= self.now:
                self.queue.append(due)
                due += 1 / rate
            if not self.queue:
                self.now = due
                continue
            taken = self.queue[: self.controller.rows]
            del self.queue[: len(taken)]
            took = self.fixed + len(taken) * self.per_row
            took *= self.random.lognormvariate(0, self.noise)
            self.now += took
            self.controller.record(len(taken), took)
            latencies += [self.now - at for at in taken]
            if self.now - bundle >= 0.1:
                self.now += self.commit
                bundle = self.now
        return latencies


def p99(latencies):
    return sorted(latencies)[int(0.99 * len(latencies))]


def test_rows_fit_into_half_of_the_target_once_costs_are_known():
    controller = LatencyController(100)
    for rows in (10, 20, 40, 20, 10, 40):
        controller.record(rows, 0.010 + rows * 0.001)
    assert controller.rows == pytest.approx(40, abs=1)


@pytest.mark.parametrize("rate", [20, 400, 1200])
def test_latency_stays_inside_the_target_below_four_fifths_of_what_is_possible(rate):
    model = Model(LatencyController(100), fixed=0.010, per_row=0.0005)  # 40 ms: 1,500 rows/s
    model.run(rate, 5)
    assert p99(model.run(rate, 30)) <= 0.100


COSTS = [(0.004, 40e-6), (0.010, 80e-6), (0.0005, 1e-3), (0.020, 1e-3)]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.8])
@pytest.mark.parametrize(("fixed", "per_row"), COSTS)
def test_a_target_is_never_worse_than_none_however_unsteady_calls_are(fixed, per_row, share):
    costs = {"fixed": fixed, "per_row": per_row, "commit": 0.02, "noise": 0.2}
    rate = share / per_row / 1.2  # a commit takes a sixth of the time
    found = [
        p99(Model(LatencyController(target), **costs).run(rate, 30)[-int(25 * rate) :])
        for target in (100, None)
    ]
    assert found[0] <= max(0.100, 1.2 * found[1])  # two runs have different noise


def test_behind_an_outage_the_first_records_do_not_wait_for_the_last():
    costs = {"fixed": 0.001, "per_row": 0.001}
    found = []
    for target in (100, None):
        model = Model(LatencyController(target), **costs)
        model.run(200, 5)
        model.queue = [model.now] * 5000
        found.append(sorted(model.run(1, 6))[1000])
    assert found[0] < 0.4 * found[1]


def test_backlog_is_worked_off_with_larger_polls_and_then_the_target_holds_again():
    model = Model(LatencyController(100), fixed=0.030, per_row=0.0005)
    model.run(500, 5)
    steady = model.controller.rows
    model.run(1500, 10)  # more than polls of that size can sustain
    assert model.controller.rows > 2 * steady
    model.run(200, 60)
    assert max(model.run(200, 10)) <= 0.100


def test_polls_never_take_less_than_one_row_nor_more_than_the_most():
    controller = LatencyController(10, max_rows=100)
    for _ in range(20):
        controller.record(controller.rows, 5.0)
    assert controller.rows >= 1
    for _ in range(50):
        controller.record(controller.rows, 1e-9)
    assert controller.rows == 100


def test_without_a_target_polls_take_the_most():
    controller = LatencyController(None, max_rows=500)
    controller.record(500, 10.0)
    assert controller.rows == 500
