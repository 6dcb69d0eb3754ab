"""The cost of a batch over its volume, against runs with planted costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.pipelines.load_test.judge.elements import Interval
from scoreline.pipelines.load_test.judge.volume import (
    BatchRun,
    Line,
    Volume,
    exponent_of,
    fit_line,
    fit_volume,
    rows_before,
    workers_for,
)

ROWS = np.repeat([100_000.0, 400_000.0, 1_600_000.0], 3)


def noisy(seconds, rng, noise=0.03):
    return seconds * (1 + rng.normal(0, noise, len(seconds)))


def runs(rng, **stages):
    """Return runs of three volumes, three times each: 2 s to start, then 10 µs a row."""
    seconds = {"read": ROWS * 4e-6, "predict": ROWS * 6e-6, "commit": 0.05 + ROWS * 1e-8} | stages
    seconds = {name: noisy(values, rng) for name, values in seconds.items()}
    total = 2 + sum(seconds.values())
    cpu = noisy(total, rng)
    wall = noisy(total / 2, rng)
    return [
        BatchRun(
            int(rows), wall[i], cpu[i], {name: float(values[i]) for name, values in seconds.items()}
        )
        for i, rows in enumerate(ROWS)
    ]


def exactly(value):
    return Interval(value, value, value)


def line(start_up_s, us_per_row):
    return Line(exactly(start_up_s), exactly(us_per_row))


def test_the_intervals_of_start_up_and_rows_cover_the_truth():
    rng = np.random.default_rng(17)
    covered, widths = np.zeros(2), []
    for _ in range(300):
        start_up, per_row = fit_line(ROWS, noisy(2 + ROWS * 1e-5, rng))
        covered += [start_up.low <= 2 <= start_up.high, per_row.low <= 10 <= per_row.high]
        widths.append((per_row.high - per_row.low) / 10)
    assert (covered >= 0.92 * 300).all()
    assert np.median(widths) < 0.12


def test_linear_costs_do_not_grow_with_the_volume():
    rng = np.random.default_rng(1)
    found = [fit_volume(runs(rng)) for _ in range(20)]
    assert sum(volume.growing_stage != "" for volume in found) <= 1
    volume = found[0]
    assert volume.cpu.start_up_s.low < 2 < volume.cpu.start_up_s.high
    assert volume.wall.us_per_row.value == pytest.approx(5, rel=0.1)
    assert (volume.exponent, volume.growth) == (None, None)


def test_a_quadratic_commit_is_named():
    """It takes a quarter of the time at the largest volume, and 2 % at the smallest."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(20):
        volume = fit_volume(runs(rng, commit=0.05 + 2e-12 * ROWS**2))
        assert volume.growing_stage == "commit"
        covered += volume.exponent.low <= 2 <= volume.exponent.high
        assert volume.growth == pytest.approx(9, rel=0.5)  # ten times the cost of a row
    assert covered >= 17


def test_of_two_stages_that_grow_the_larger_is_named():
    rng = np.random.default_rng(3)
    volume = fit_volume(runs(rng, commit=1e-12 * ROWS**2, read=3e-12 * ROWS**2))
    assert volume.growing_stage == "read"


@pytest.mark.parametrize(
    ("seconds", "exponent"),
    [
        (ROWS * 1e-5, 1.0),
        (1.0 + 1e-12 * ROWS**2, 2.0),
        (5.0 + 1e-5 * ROWS, 1.0),
        (ROWS**1.5 * 1e-9, 1.5),
    ],
)
def test_exact_times_give_their_exponent(seconds, exponent):
    found = exponent_of(ROWS, seconds)
    assert found.value == pytest.approx(exponent, abs=0.011)
    assert found.high - found.low < 0.1


def test_a_start_up_does_not_hide_growth_and_does_not_feign_it():
    """The slope on log scales of 5 s + quadratic is below 1: it would call this harmless."""
    rng = np.random.default_rng(4)
    hidden = 1.0 + 1e-12 * ROWS**2
    assert np.polyfit(np.log(ROWS), np.log(hidden), 1)[0] < 1
    assert all(exponent_of(ROWS, noisy(hidden, rng)).low > 1.1 for _ in range(10))
    linear = [exponent_of(ROWS, noisy(5 + ROWS * 1e-5, rng)) for _ in range(10)]
    assert all(found.low < 1.1 < found.high + 0.2 for found in linear)


@pytest.mark.parametrize("seconds", [np.zeros(9), np.full(9, 2.0)])
def test_a_stage_that_does_not_depend_on_the_rows_shows_no_growth(seconds):
    found = exponent_of(ROWS, seconds)
    assert (found.low, found.high) == pytest.approx((0.2, 3.0))


def test_too_few_volumes_or_runs_are_rejected():
    rng = np.random.default_rng(5)
    with pytest.raises(ValueError, match="got 6 runs of 2 volumes"):
        fit_volume(runs(rng)[:6])
    with pytest.raises(ValueError, match="got 3 runs of 3 volumes"):
        fit_volume(runs(rng)[::3])


def test_rows_before_a_deadline_leave_time_for_the_start():
    assert rows_before(102.0, line(2.0, 10.0)) == exactly(10_000_000)
    assert rows_before(1.0, line(2.0, 10.0)) == exactly(0)
    wide = Line(Interval(2, -1, 5), Interval(10, 8, 12.5))
    assert rows_before(105.0, wide) == (10_300_000, 8_000_000, 13_125_000, 0.95)
    assert rows_before(105.0, Line(Interval(2, 1, 3), Interval(1, -1, 3))).high == math.inf


def volume_of(wall, growing_stage=""):
    return Volume(wall, wall, growing_stage, None, None)


def test_workers_for_a_deadline_share_the_rows():
    """10⁹ rows at 10 µs with 2 workers are 20,000 s of work; 5,000 s are left."""
    volume = volume_of(Line(Interval(20, 10, 30), Interval(10, 9, 11)))
    found = workers_for(10**9, 5020, volume, tested_workers=2)
    assert found == ((4, 4, 5, 0.95), "")


def test_workers_for_a_deadline_are_refused_with_a_reason():
    grown = workers_for(10**9, 5000, volume_of(line(1, 1), "commit"), tested_workers=2)
    assert grown.workers is None
    assert "grows with the volume in commit" in grown.refused_because
    late = workers_for(10**9, 5, volume_of(line(10, 1)), tested_workers=2)
    assert late.workers is None
    assert "The start alone takes up to 10 s of 5 s" in late.refused_because


@given(st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_the_fit_ignores_the_unit_of_time_and_the_order_of_runs(unit, seed):
    seconds = noisy(2 + ROWS * 1e-5, np.random.default_rng(6))
    order = np.random.default_rng(seed).permutation(len(ROWS))
    one, other = fit_line(ROWS, seconds), fit_line(ROWS[order], seconds[order] * unit)
    for mine, scaled in zip(one, other, strict=True):
        assert scaled[:3] == pytest.approx([end * unit for end in mine[:3]], rel=1e-6)


@given(st.integers(1, 10**10), st.floats(0, 1e3), st.floats(0.01, 1e4), st.integers(1, 64))
def test_the_workers_for_a_deadline_hold_it(rows, start_up_s, us_per_row, tested_workers):
    deadline_s = start_up_s * 2 + 60
    found = workers_for(
        rows, deadline_s, volume_of(line(start_up_s, us_per_row)), tested_workers=tested_workers
    )
    number = found.workers.value

    def seconds(workers):
        return start_up_s + rows * us_per_row * tested_workers / workers / 1e6

    assert seconds(number) <= deadline_s * (1 + 1e-6)
    assert number == 1 or seconds(number - 1) > deadline_s * (1 - 1e-6)
