from __future__ import annotations

import pytest

from transforms.latency import LatencyController


class Model:
    """A model and a topic on a clock of their own: each poll takes what has queued up."""

    def __init__(self, controller, fixed, per_row):
        self.controller, self.fixed, self.per_row = controller, fixed, per_row
        self.now, self.queue = 0.0, []

    def run(self, rate, seconds):
        """Offer records at a rate for so long, and return each record's latency."""
        latencies, due, ends = [], self.now, self.now + seconds
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
            self.now += took
            self.controller.record(len(taken), took)
            latencies += [self.now - at for at in taken]
        return latencies


def test_rows_fit_into_half_of_the_target_once_costs_are_known():
    controller = LatencyController(100)
    for rows in (10, 20, 40, 20, 10, 40):
        controller.record(rows, 0.010 + rows * 0.001)
    assert controller.rows == pytest.approx(40, abs=1)


@pytest.mark.parametrize("rate", [20, 400, 1200])
def test_latency_stays_inside_the_target_below_four_fifths_of_what_is_possible(rate):
    model = Model(LatencyController(100), fixed=0.010, per_row=0.0005)  # 40 ms: 1,500 rows/s
    model.run(rate, 5)
    latencies = sorted(model.run(rate, 30))
    assert latencies[int(0.99 * len(latencies))] <= 0.100


def test_backlog_is_worked_off_with_larger_polls_and_then_the_target_holds_again():
    model = Model(LatencyController(100), fixed=0.030, per_row=0.0005)
    model.run(500, 5)
    steady = model.controller.rows
    model.run(1500, 10)  # more than polls of that size can do
    assert model.controller.rows > 2 * steady
    model.run(200, 60)
    assert max(model.run(200, 10)) <= 0.100
    assert model.controller.rows <= 2 * steady


def test_polls_never_take_less_than_one_row_nor_more_than_the_most():
    controller = LatencyController(10, most_rows=100)
    for _ in range(20):
        controller.record(controller.rows, 5.0)
    assert controller.rows >= 1
    for _ in range(50):
        controller.record(controller.rows, 1e-9)
    assert controller.rows == 100


def test_without_a_target_polls_take_the_most():
    controller = LatencyController(None, most_rows=500)
    controller.record(500, 10.0)
    assert controller.rows == 500
