"""The load of the stream benchmark, and the numbers that it derives from results."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.stream import Case, Found, main, percentiles, recovery_seconds, report
from benchmarks.stream_load import SPIKE_FACTOR, SPIKE_SECONDS, due_seconds


def test_steady_flights_are_spread_evenly():
    due = due_seconds("steady", 50, 4)
    assert due.size == 200
    np.testing.assert_allclose(np.diff(due), 0.02)


def test_a_spike_is_so_many_times_the_rate_for_so_long():
    due = due_seconds("spike", 100, 60)
    within = (due >= 30) & (due < 30 + SPIKE_SECONDS)
    assert within.sum() == pytest.approx(100 * SPIKE_FACTOR * SPIKE_SECONDS, abs=2)
    assert (due < 30).sum() == 3000
    assert (np.diff(due) >= 0).all()


def test_flights_keep_the_shape_of_their_day():
    departures = np.array([6.0] * 75 + [12.0] * 5 + [18.0] * 20) * 3600
    due = due_seconds("flights", 10, 60, departures)
    assert due.size == 600
    times, counts = np.unique(due, return_counts=True)
    assert times.tolist() == [0, 30, 60]
    assert counts.tolist() == [450, 30, 120]
    with pytest.raises(ValueError, match="departures"):
        due_seconds("flights", 10, 60)


def test_percentiles_count_every_flight_to_three_digits():
    found = percentiles(np.arange(1, 1001, dtype=float))
    assert found == pytest.approx((500, 950, 990, 1000), rel=2e-3)
    assert all(np.isnan(percentiles(np.array([]))))


def test_latency_is_from_when_a_flight_was_due_and_leaves_out_the_warm_up():
    due = np.arange(0, 10_000, 10.0)
    late = np.where(due < 2000, 500.0, 20.0)
    case = Case(design="bare", pattern="steady", partitions=1, rate=100, seconds=10, warm_up=2)
    cells = report(case, Found(due + late, due, wanted=1003, cores=0.5, peak_mb=900))
    assert cells[5:9] == ["20.0"] * 4
    assert cells[9] == "3"


def test_recovery_ends_with_the_last_second_in_which_most_flights_are_late():
    due = np.arange(0, 60_000, 10.0)
    late = np.full(due.size, 10.0)
    late[(due >= 30_000) & (due < 44_500)] = 900
    late[::150] = 800  # a few flights are late on a normal day too
    assert recovery_seconds(due + late, due, 30_000, 40_000) == 5
    late[due >= 30_000] = 10
    assert recovery_seconds(due + late, due, 30_000, 40_000) == 0


def test_an_unknown_design_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--designs=bare,spark"])
    assert "expected designs of bare, scoreline" in capsys.readouterr().err
