"""Freshness, and the way back from a spike or a step.

The prediction is that of a fluid queue: a backlog of B rows is gone after B ÷ (capacity − rate)
seconds (Kleinrock 1976, Queueing Systems 2, section 2.7).
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from scoreline.pipelines.load_test.judge.elements import Floats, Outcome, Recovery
from scoreline.pipelines.load_test.judge.lag import backlog

MIN_ROWS_BEFORE = 100
NORMAL_PERCENT = 95
NORMAL_BINS = 3  # a single quiet second amid a backlog is chance


def max_freshness_s(due_s: Floats, scored_s: Floats, *, begin_s: float, end_s: float) -> float:
    """Return the maximum age of the oldest row without a score, within a window.

    It is the longest wait of a row, up to its score or the end of the window: just before that
    score, no row without one was older.
    """
    until_s = np.fmin(scored_s, end_s)  # NaN: never scored
    waiting = (due_s <= end_s) & (until_s >= begin_s)
    return float(np.max(until_s[waiting] - due_s[waiting], initial=0.0))


def judge_recovery(
    due_s: Floats,
    latency_s: Floats,
    *,
    spike_s: tuple[float, float],
    begin_s: float,
    end_s: float,
    commit_s: float,
    capacity_per_s: float | None = None,
) -> Recovery:
    """Return how long a stream took after a spike until its latency was as before.

    It is as before from the first of three bins in a row whose median latency is within the 95th
    percentile of the rows before the spike. Bins are those of the due times, of 1 s or two commit
    periods.

    Args:
      due_s: due times, sorted.
      latency_s: latencies, infinite for a row that never got a score.
      spike_s: begin and end of the spike; for a step, both are its moment.
      begin_s: begin of the window.
      end_s: end of the window.
      commit_s: the commit period of the stream.
      capacity_per_s: capacity known before.

    Raises:
      ValueError: fewer than 100 rows were due before the spike.
    """
    spike_begin_s, spike_end_s = spike_s
    before = latency_s[(due_s >= begin_s) & (due_s < spike_begin_s)]
    if len(before) < MIN_ROWS_BEFORE:
        raise ValueError(
            f"expected at least {MIN_ROWS_BEFORE} rows before a spike, got {len(before)}. "
            "Begin the spike later."
        )
    normal_s = float(np.percentile(before, NORMAL_PERCENT, method="inverted_cdf"))
    waiting = backlog(due_s, due_s + latency_s, spike_end_s)
    width_s = max(1.0, 2 * commit_s)
    edges_s = spike_end_s + width_s * np.arange(math.floor((end_s - spike_end_s) / width_s) + 1)
    bounds = np.searchsorted(due_s, edges_s)
    is_normal = np.array(
        [
            last > first and bool(np.median(latency_s[first:last]) <= normal_s)
            for first, last in itertools.pairwise(bounds)
        ],
        dtype=np.bool_,
    )
    so_far = np.concatenate([[0], np.cumsum(is_normal)])
    starts = np.flatnonzero(so_far[NORMAL_BINS:] - so_far[:-NORMAL_BINS] == NORMAL_BINS)
    after_s = end_s - spike_end_s
    rate = np.count_nonzero((due_s >= spike_end_s) & (due_s < end_s)) / after_s if after_s else 0.0
    spare = capacity_per_s - rate if capacity_per_s is not None else 0.0
    return Recovery(
        recovered_s=float(starts[0] * width_s) if len(starts) else None,
        backlog=waiting,
        predicted_s=waiting / spare if spare > 0 else None,
    )


def judge_recover_limit(recovery: Recovery, limit_s: float, watched_s: float) -> Outcome:
    """Return whether a stream recovered in time; UNDECIDED if it was not watched long enough."""
    if recovery.recovered_s is not None:
        return Outcome.PASS if recovery.recovered_s <= limit_s else Outcome.FAIL
    return Outcome.FAIL if watched_s > limit_s + NORMAL_BINS else Outcome.UNDECIDED
