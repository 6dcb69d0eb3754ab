"""A window over time, in bins, for plots."""

from __future__ import annotations

import itertools

import numpy as np

from scoreline.pipelines.load_test.judge.elements import Floats, Window
from scoreline.pipelines.load_test.result import Series

MAX_BINS = 120


def bin_window(window: Window) -> Series:
    """Return rates, backlog and latencies of a window in bins of equal length.

    A bin is a second long, or longer if the window has more than MAX_BINS seconds. Latencies belong
    to the bin in which a record was due; records without a score have none.
    """
    bins = int(min(MAX_BINS, max(1, round(window.seconds))))
    edges = np.linspace(window.begin_s, window.end_s, bins + 1)
    each_s = window.seconds / bins
    scored = np.sort(window.scored_s[~np.isnan(window.scored_s)])
    due_before = np.searchsorted(window.due_s, edges)
    scored_before = np.searchsorted(scored, edges)
    latency_ms = (window.scored_s - window.due_s) * 1000
    cut = [latency_ms[a:b] for a, b in itertools.pairwise(due_before)]
    return Series(
        at_s=(edges[:-1] + edges[1:]) / 2 - window.begin_s,
        offered_per_s=np.diff(due_before) / each_s,
        scored_per_s=np.diff(scored_before) / each_s,
        backlog=(due_before[1:] - scored_before[1:]).astype(float),
        latency_p50_ms=_percentiles(cut, 50),
        latency_p99_ms=_percentiles(cut, 99),
    )


def _percentiles(cut: list[Floats], percent: float) -> Floats:
    kept = [part[~np.isnan(part)] for part in cut]
    return np.array([np.percentile(part, percent) if part.size else np.nan for part in kept])
