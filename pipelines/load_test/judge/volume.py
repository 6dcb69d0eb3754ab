"""What a batch costs over its volume: the start, each row, and what grows faster than its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from scoreline.pipelines.load_test.judge.elements import Floats, Interval

MIN_VOLUMES = 3

# A stage grows with the volume if its seconds rise faster than rows to this power: more than a
# sort, whose n log n looks like a power of 1.07.
MIN_EXPONENT = 1.1

_EXPONENTS = np.linspace(0.2, 3.0, 141)
_CONFIDENCE = 0.95


class BatchRun(NamedTuple):
    """One run of a batch.

    Attributes:
      rows: its rows.
      wall_s: its duration, from the start of the command to its end.
      cpu_s: CPU seconds of all its processes.
      stages_s: seconds of each stage, useful and waiting, summed over the workers.
    """

    rows: int
    wall_s: float
    cpu_s: float
    stages_s: Mapping[str, float]


class Line(NamedTuple):
    """Seconds = start-up + rows × seconds of a row.

    Attributes:
      start_up_s: seconds of a job without rows.
      us_per_row: microseconds of a row.
    """

    start_up_s: Interval
    us_per_row: Interval


class Volume(NamedTuple):
    """What a batch costs over its volume.

    Attributes:
      cpu: its CPU time.
      wall: its duration, with the workers of the runs.
      growing_stage: the stage whose cost of a row grows with the volume; of several, the one with
        the most seconds at the largest volume; "" for none.
      exponent: k of seconds = a + b·rowsᵏ of the stage that grows; None for none.
      growth: by how much ten times the rows raise its cost of a row, as a share; None for none.
    """

    cpu: Line
    wall: Line
    growing_stage: str
    exponent: Interval | None
    growth: float | None


class Workers(NamedTuple):
    """The workers for a batch that ends before its deadline.

    Attributes:
      workers: their number, with its interval; None if refused.
      refused_because: the reason; "" if not refused.
    """

    workers: Interval | None
    refused_because: str = ""


def fit_volume(runs: Sequence[BatchRun]) -> Volume:
    """Fit the cost of a batch to runs of at least 3 volumes, some of them repeated.

    Raises:
      ValueError: there are fewer than 3 volumes, or no more runs than volumes.
    """
    rows = np.array([run.rows for run in runs], float)
    volumes = len(set(rows.tolist()))
    if volumes < MIN_VOLUMES or len(runs) <= volumes:
        raise ValueError(
            f"Costs over the volume need at least {MIN_VOLUMES} volumes and a repeated run, got "
            f"{len(runs)} runs of {volumes} volumes. Run each volume three times."
        )
    names = dict.fromkeys(name for run in runs for name in run.stages_s)
    seconds = {name: np.array([run.stages_s.get(name, 0.0) for run in runs]) for name in names}
    exponents = {name: exponent_of(rows, values) for name, values in seconds.items()}
    largest = rows == rows.max()
    growing = max(
        (name for name in names if exponents[name].low > MIN_EXPONENT),
        key=lambda name: seconds[name][largest].mean(),
        default="",
    )
    exponent = exponents.get(growing)
    return Volume(
        fit_line(rows, np.array([run.cpu_s for run in runs])),
        fit_line(rows, np.array([run.wall_s for run in runs])),
        growing,
        exponent,
        None if exponent is None else 10 ** (exponent.value - 1) - 1,
    )


def fit_line(rows: Floats, seconds: Floats) -> Line:
    """Fit start-up and cost per row by weighted least squares, with t intervals.

    A run's noise is a share of its time, so the weights are 1 ÷ time². The times are first those
    measured, then those of the fit.
    """
    basis = np.stack([np.ones_like(rows), rows / rows.max()], axis=1)
    expected = np.maximum(seconds, 1e-12)
    for _ in range(2):
        scaled = basis / expected[:, None]
        found, *_ = np.linalg.lstsq(scaled, seconds / expected, rcond=None)
        fitted = basis @ found
        residuals = (seconds - fitted) / expected
        covariance = np.linalg.inv(scaled.T @ scaled)
        expected = np.maximum(fitted, seconds.min() / 2 + 1e-12)
    freedom = len(rows) - 2
    errors = np.sqrt(np.diag(covariance) * float(residuals @ residuals) / freedom)
    margins = stats.t.ppf((1 + _CONFIDENCE) / 2, freedom) * errors
    start_up, per_row = (
        Interval(float(value * unit), float((value - m) * unit), float((value + m) * unit))
        for value, m, unit in zip(found, margins, (1.0, 1e6 / rows.max()), strict=True)
    )
    return Line(start_up, per_row)


def exponent_of(rows: Floats, seconds: Floats) -> Interval:
    """Return k of seconds = a + b·rowsᵏ, with a and b of at least 0, and its interval.

    It is the slope on log scales without the start-up, which would hide growth at small volumes.
    Residuals are relative. The interval holds each k that an F test against the best one does
    not reject; a stage whose time does not depend on the rows has them all, up to the ends of the
    grid, 0.2 and 3.
    """
    if not (seconds > 0).all():
        return Interval(1.0, float(_EXPONENTS[0]), float(_EXPONENTS[-1]), _CONFIDENCE)
    misfits = np.array([_misfit(rows / rows.max(), seconds, k) for k in _EXPONENTS])
    freedom = len(rows) - 3
    best = float(misfits.min())
    limit = best * (1 + stats.f.ppf(_CONFIDENCE, 1, freedom) / freedom) + 1e-12
    inside = _EXPONENTS[misfits <= limit]
    value = float(_EXPONENTS[misfits.argmin()])
    return Interval(value, float(inside[0]), float(inside[-1]), _CONFIDENCE)


def rows_before(deadline_s: float, wall: Line) -> Interval:
    """Return the rows that fit before a deadline, with the workers of the runs; 0 for none.

    The ends combine the ends of start-up and cost per row, so the interval is a cautious one.
    """

    def rows(start_up_s: float, us_per_row: float) -> float:
        left_s = max(deadline_s - max(start_up_s, 0.0), 0.0)
        if us_per_row <= 0:
            return math.inf if left_s else 0.0
        return math.floor(left_s / us_per_row * 1e6)

    start_up, per_row = wall
    return Interval(
        rows(start_up.value, per_row.value),
        rows(start_up.high, per_row.high),
        rows(start_up.low, per_row.low),
        per_row.confidence,
    )


def workers_for(rows: int, deadline_s: float, volume: Volume, *, tested_workers: int) -> Workers:
    """Return the fewest workers that score so many rows before the deadline.

    It assumes that workers share the rows evenly, that the start takes as long for any number of
    them, and that one does not slow down another. It is refused if a stage grows with the volume,
    or if the start alone takes until the deadline.

    Args:
      rows: rows of the batch.
      deadline_s: seconds from the start of the command to the deadline.
      volume: the fit to runs with `tested_workers` workers.
      tested_workers: number of workers of these runs.
    """
    if volume.growing_stage:
        return Workers(
            None,
            f"The cost of a row grows with the volume in {volume.growing_stage}, so a forecast for "
            f"{rows:,} rows would be too low. Remove that growth first.",
        )
    start_up, per_row = volume.wall
    if deadline_s <= start_up.high:
        return Workers(
            None,
            f"The start alone takes up to {start_up.high:,.0f} s of {deadline_s:,.0f} s. Begin "
            "earlier.",
        )

    def fewest(start_up_s: float, us_per_row: float) -> float:
        work_s = rows * max(us_per_row, 0.0) * tested_workers / 1e6
        return float(max(1, math.ceil(work_s / (deadline_s - max(start_up_s, 0.0)) - 1e-9)))

    return Workers(
        Interval(
            fewest(start_up.value, per_row.value),
            fewest(start_up.low, per_row.low),
            fewest(start_up.high, per_row.high),
            per_row.confidence,
        )
    )


def _misfit(rows: Floats, seconds: Floats, exponent: float) -> float:
    """Return the smallest sum of squared relative residuals of a + b·rowsᵏ, with a, b ≥ 0."""
    basis = np.stack([np.ones_like(rows), rows**exponent], axis=1) / seconds[:, None]
    return float(optimize.nnls(basis, np.ones(len(rows)))[1] ** 2)
