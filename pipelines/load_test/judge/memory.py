"""The memory of the workers: its peak, and the time that a leak leaves."""

from __future__ import annotations

import numpy as np

from scoreline.pipelines.load_test.judge import trend
from scoreline.pipelines.load_test.judge.elements import Floats, Interval, Slos, Window
from scoreline.pipelines.load_test.judge.percentiles import scaled

_SECONDS_PER_HOUR = 3600.0


def growth_mb_per_h(window: Window) -> Interval | None:
    """Return the trend of the memory; None with too few looks at it."""
    if len(window.memory_mb) < trend.MIN_BINS:
        return None
    series_mb, width_s = _evenly(window)
    return scaled(trend.slope(series_mb, width_s), _SECONDS_PER_HOUR)


def hours_left(window: Window, slos: Slos) -> float | None:
    """Return the hours until the limit, if the memory grows in the window and in its second half.

    Memory that only grows in the first half is that of caches.
    """
    if slos.memory_mb is None or len(window.memory_mb) < 2 * trend.MIN_BINS:
        return None
    series_mb, width_s = _evenly(window)
    growth = trend.slope(series_mb, width_s)
    if growth.low <= 0 or trend.slope(series_mb[len(series_mb) // 2 :], width_s).low <= 0:
        return None
    left_mb = max(0.0, slos.memory_mb - float(window.memory_mb[-1]))
    return left_mb / growth.value / _SECONDS_PER_HOUR


def _evenly(window: Window) -> tuple[Floats, float]:
    """Return the memory at equal distances, and the distance in seconds."""
    count = min(len(window.memory_mb), trend.MAX_BINS)
    at_s = np.linspace(window.memory_at_s[0], window.memory_at_s[-1], count)
    return np.interp(at_s, window.memory_at_s, window.memory_mb), float(at_s[1] - at_s[0])


def peak_mb(window: Window) -> float | None:
    """Return the highest resident memory of all workers; None if nobody looked."""
    return float(window.memory_mb.max()) if len(window.memory_mb) else None
