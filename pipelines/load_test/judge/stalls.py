"""Pauses of a stream at an interval: throughput holds, but the rows that wait are late."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scoreline.pipelines.load_test.judge.elements import Floats

MIN_STALLS = 3

# Pauses come at an interval if the times between them vary by at most this share of their mean.
MAX_INTERVAL_VARIATION = 0.25


class Stalls(NamedTuple):
    """Pauses in which no row was scored, at an interval.

    Attributes:
      every_s: mean time from the beginning of one to the next.
      longest_ms: the longest.
      number: how many there were.
    """

    every_s: float
    longest_ms: float
    number: int


def find_stalls(scored_s: Floats, begin_s: float, end_s: float, min_gap_s: float) -> Stalls | None:
    """Return the pauses of a window, or None if there are fewer than 3, or at no interval.

    Args:
      scored_s: when each row's score could be read, in any order; NaN for never.
      begin_s: begin of the window.
      end_s: its end.
      min_gap_s: shortest time without a score that is a pause: longer than the time between two
        commits, and than what the arrivals leave free by chance.
    """
    times = np.sort(scored_s[(scored_s >= begin_s) & (scored_s <= end_s)])
    gaps = np.diff(times)
    is_stall = gaps > min_gap_s
    if is_stall.sum() < MIN_STALLS:
        return None
    between = np.diff(times[:-1][is_stall])
    if between.std() > MAX_INTERVAL_VARIATION * between.mean():
        return None
    return Stalls(float(between.mean()), float(gaps.max() * 1e3), int(is_stall.sum()))
