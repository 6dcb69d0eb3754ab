"""What is known of a flight the night before: its schedule, and how earlier days went.

A lagged column of a flight is computed from flights of earlier dates alone, and is null where there
were none. It takes the previous day as known in full; the few flights of an evening that land after
midnight are thereby known an hour or two early.
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
# A flight that lands more than this before it starts, by the two local clocks, lands the next day:
# the widest gap of time zones is New York to Honolulu.
_MAX_ZONES_MINUTES = 300
# The mean of a group counts as if it held this many flights more, of the overall mean.
_PRIOR_FLIGHTS = 5.0


class Lag(NamedTuple):
    """A mean over the flights of the same group on the days before.

    Attributes:
      by: the columns that make the group.
      days: how many days back, the previous one included.
      value: what is averaged: `late` (0 or 1) or `gain` (minutes lost in the air, arrival delay
        less departure delay; negative when time was made up).
      evening: only flights scheduled for 17:00 or later.
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
    """Return the label: whether a flight arrived more than 15 minutes late; null if it did not."""
    return pc.greater(arr_delay, pa.scalar(LATE_MINUTES, arr_delay.type))


def schedule_columns(flights: pa.Table, days: np.ndarray) -> dict[str, pa.Array]:
    """Return the columns that follow from the schedule.

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
    """Return the columns of `LAGS` as float32: means over flights of earlier days, or null."""
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
    """Return, for each row, the mean over the rows of its group on the days before its own.

    A group's mean is drawn towards the mean of all groups over the same days, as if it held 5 rows
    more of that value: a group of two rows says little.

    Args:
      groups: the group of each row, from 0.
      day: the day of each row, from 0.
      values: what is averaged; NaN does not count.
      days_back: how many days count, the last being the one before the row's own.

    Returns:
      The means; NaN where the group had no row on those days.
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
    """Return sums by group and day over the `days_back` days before that day."""
    height, width = int(groups.max()) + 1, int(day.max()) + 1
    daily = np.bincount(groups * width + day, weights, minlength=height * width)
    running = np.zeros((height, width + 1))  # running[:, d]: the sum over the days before d
    running[:, 1:] = daily.reshape(height, width).cumsum(axis=1)
    first = np.maximum(np.arange(width) - days_back, 0)
    return running[:, :width] - running[:, first]


def _groups(flights: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Return a number from 0 for each row, the same for rows with the same values in columns."""
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
