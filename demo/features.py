"""Features that are known the night before a flight: its schedule and the delays of earlier days.

A lagged column is computed from flights of earlier dates only, and is null if there are none. It
treats the previous day as fully known. The few flights that land after midnight are therefore used
an hour or two too early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LATE_MINUTES = 15
_EVENING_HOUR = 17
_MINUTES_PER_DAY = 1440
# By local clocks, a flight may land before it starts. If the gap is larger than this, it lands the
# next day: the largest difference of time zones is New York to Honolulu.
_MAX_ZONES_MINUTES = 300
# Smoothing: a group counts as if it had this many more flights, with the overall mean.
_PRIOR_FLIGHTS = 5.0


class Lag(NamedTuple):
    """A mean over the flights of the same group on previous days.

    Attributes:
      by: the columns that define the group.
      days: number of days back, including the previous one.
      value: the value to average: `late` (0 or 1) or `gain` (minutes lost in the air: arrival delay
        minus departure delay, negative if the flight made up time).
      evening: whether only flights scheduled for 17:00 or later count.
    """

    by: tuple[str, ...]
    days: int
    value: str
    evening: bool = False


LAGS: Mapping[str, Lag] = {
    "origin_evening_late_rate_prev_day": Lag(("origin",), 1, "late", evening=True),
    "origin_late_rate_7d": Lag(("origin",), 7, "late"),
    "carrier_late_rate_7d": Lag(("carrier",), 7, "late"),
    "flight_late_rate_28d": Lag(("carrier", "flight"), 28, "late"),
    "origin_hour_late_rate_28d": Lag(("origin", "hour"), 28, "late"),
    "route_gain_28d": Lag(("carrier", "origin", "dest"), 28, "gain"),
    "dest_gain_prev_day": Lag(("dest",), 1, "gain"),
}


def is_late(arr_delay: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Return the label: whether a flight arrived over 15 minutes late; null if it never arrived."""
    return pc.greater(arr_delay, pa.scalar(LATE_MINUTES, arr_delay.type))


def schedule_columns(flights: pa.Table, days: np.ndarray) -> dict[str, pa.Array]:
    """Return the columns derived from the schedule.

    Args:
      flights: the flights, with the columns of the source.
      days: the date of each flight, as days since 1970-01-01.
    """
    departs = _minute_of_day(flights["sched_dep_time"])
    elapsed = _minute_of_day(flights["sched_arr_time"]) - departs
    elapsed += np.where(elapsed < -_MAX_ZONES_MINUTES, _MINUTES_PER_DAY, 0)
    _, group, sizes = np.unique(
        _groups(flights, ["origin"]) * (days.max() + 1) + days,
        return_inverse=True,
        return_counts=True,
    )
    columns = {
        "weekday": (days + 3) % 7,  # 1970-01-01 was a Thursday; Monday is 0
        "sched_dep_minute": departs,
        "sched_clock_minutes": elapsed,
        "origin_flights_in_day": sizes[group],
    }
    return {name: pa.array(values, pa.int32()) for name, values in columns.items()}


def lagged_columns(flights: pa.Table, days: np.ndarray) -> dict[str, pa.Array]:
    """Return the columns of `LAGS` as float32: means over flights of earlier days, or nulls."""
    day = days - days.min()
    arrival = _to_float(flights["arr_delay"])
    values = {
        "late": np.where(np.isnan(arrival), np.nan, arrival > LATE_MINUTES),
        "gain": arrival - _to_float(flights["dep_delay"]),
    }
    is_evening = flights["hour"].to_numpy() >= _EVENING_HOUR
    columns = {}
    for name, lag in LAGS.items():
        value = values[lag.value]
        if lag.evening:
            value = np.where(is_evening, value, np.nan)
        mean = mean_before(_groups(flights, lag.by), day, value, lag.days)
        columns[name] = pa.array(mean.astype(np.float32), mask=np.isnan(mean))
    return columns


def mean_before(
    groups: np.ndarray, day: np.ndarray, values: np.ndarray, days_back: int
) -> np.ndarray:
    """Return, for each row, the mean over the rows of its group on the days before.

    The mean of a group is smoothed towards the mean of all groups on the same days, as if the group
    had 5 more rows of that value. A group of two rows alone would be mostly noise.

    Args:
      groups: the group of each row, counted from 0.
      day: the day of each row, counted from 0.
      values: the values to average; NaN does not count.
      days_back: number of days that count; the last is the day before the row's.

    Returns:
      The means; NaN if the group has no row on those days.
    """
    counts_row = ~np.isnan(values)
    counts, sums = (
        _sums_before(groups, day, weights, days_back)
        for weights in (counts_row.astype(float), np.where(counts_row, values, 0.0))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        overall = sums.sum(axis=0) / counts.sum(axis=0)
        means = (sums + _PRIOR_FLIGHTS * overall) / (counts + _PRIOR_FLIGHTS)
    return np.where(counts > 0, means, np.nan)[groups, day]


def _sums_before(
    groups: np.ndarray, day: np.ndarray, weights: np.ndarray, days_back: int
) -> np.ndarray:
    """Return the sum over the previous `days_back` days, by group and day."""
    height, width = int(groups.max()) + 1, int(day.max()) + 1
    daily = np.bincount(groups * width + day, weights, minlength=height * width)
    running = np.zeros((height, width + 1))  # running[:, d] is the sum over the days before d
    running[:, 1:] = daily.reshape(height, width).cumsum(axis=1)
    first = np.maximum(np.arange(width) - days_back, 0)
    return running[:, :width] - running[:, first]


def _groups(flights: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Return a group number for each row: equal if the values of the columns are equal."""
    group = np.zeros(flights.num_rows, np.int64)
    for name in names:
        codes = flights[name].combine_chunks().dictionary_encode().indices.to_numpy()
        group = np.unique(group * (int(codes.max()) + 1) + codes, return_inverse=True)[1]
    return group


def _minute_of_day(hhmm: pa.ChunkedArray) -> np.ndarray:
    clock = hhmm.to_numpy()
    return clock // 100 * 60 + clock % 100


def _to_float(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column as float64, with NaN for null."""
    return column.cast(pa.float64()).to_numpy()
