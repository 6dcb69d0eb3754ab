"""The rules that the load test is compared with, on queues whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import load_rules
from benchmarks.load_rules import Plant
from scoreline.pipelines.load_test.judge.elements import Outcome

STALLS = Plant(0.8, stall_s=0.5)


@pytest.mark.parametrize("plant", [Plant(0.9, is_random=True), STALLS])
def test_a_closed_loop_with_enough_in_flight_is_an_open_loop(plant):
    due_s, service_s = load_rules.draw(plant, 3, 0.1)
    sent_s, done_s = load_rules.serve_in_closed_loop(due_s, service_s, plant, len(due_s))
    assert np.array_equal(sent_s, due_s)
    assert np.allclose(done_s, load_rules.serve(due_s, service_s, plant))


def test_nothing_is_served_in_a_stall():
    due_s = np.array([9.9, 10.1, 10.2])
    done_s = load_rules.serve(due_s, np.full(3, 0.01), STALLS)
    assert done_s == pytest.approx([9.91, 10.51, 10.52])


def test_a_closed_loop_never_has_more_in_flight():
    due_s, service_s = load_rules.draw(Plant(1.1), 3, 0.1)
    sent_s, done_s = load_rules.serve_in_closed_loop(due_s, service_s, Plant(1.1), 4)
    in_flight = np.arange(1, len(sent_s) + 1) - np.searchsorted(done_s, sent_s, side="right")
    assert in_flight.max() == 4


def test_the_lag_trend_is_the_growth_of_the_backlog():
    due_s = np.arange(0, 180, 0.01)
    scored_s = due_s * 1.25  # 80 of 100 a second
    assert load_rules.lag_trend(due_s, scored_s, 60.0, 180.0) == pytest.approx(20, rel=0.01)


def test_who_sees_stalls_and_an_overload():
    stalls, overload = (load_rules.try_window(plant, 1) for plant in (STALLS, Plant(1.1)))
    assert load_rules.conclude([stalls] * 3) == (Outcome.FAIL, True, True, True)
    assert load_rules.conclude([overload] * 3) == (Outcome.FAIL, True, False, True)
    assert stalls.truth_ms > 400 > 30 > stalls.closed_ms
    assert stalls.reported_ms == pytest.approx(stalls.truth_ms)
