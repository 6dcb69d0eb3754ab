"""The memory of the workers: its peak, and the time that a leak leaves."""

from __future__ import annotations

import numpy as np

from scoreline.pipelines.load_test.judge import trend
from scoreline.pipelines.load_test.judge.elements import Slos, Window


def hours_left(window: Window, slos: Slos) -> float | None:
    """Return the hours until the limit, if the memory grows in the window and in its second half.

    Memory that only grows in the first half is that of caches.
    """
    if slos.memory_mb is None or len(window.memory_mb) < 2 * trend.MIN_BINS:
        return None
    count = min(len(window.memory_mb), trend.MAX_BINS)
    at_s = np.linspace(window.memory_at_s[0], window.memory_at_s[-1], count)
    series_mb = np.interp(at_s, window.memory_at_s, window.memory_mb)
    width_s = float(at_s[1] - at_s[0])
    growth = trend.slope(series_mb, width_s)
    if growth.low <= 0 or trend.slope(series_mb[count // 2 :], width_s).low <= 0:
        return None
    return max(0.0, slos.memory_mb - float(window.memory_mb[-1])) / growth.value / 3600


def peak_mb(window: Window) -> float | None:
    """Return the highest resident memory of all workers; None if nobody looked."""
    return float(window.memory_mb.max()) if len(window.memory_mb) else None
