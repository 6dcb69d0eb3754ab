"""Freshness, and the way back from a spike or a step.

The prediction is that of a fluid queue: a backlog of B rows is gone after B ÷ (capacity − rate)
seconds (Kleinrock 1976, Queueing Systems 2, section 2.7).
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scoreline.pipelines.load_test.judge.elements import Floats, Outcome, Recovery
from scoreline.pipelines.load_test.judge.lag import backlog

MIN_ROWS_BEFORE = 100
NORMAL_PERCENT = 95
NORMAL_BINS = 3  # a single quiet second amid a backlog is chance


class LatencyLimit(NamedTuple):
    """A percentile, such as 99, and the latency that it may have."""

    percent: float
    latency_s: float

    def is_held(self, latency_s: Floats) -> bool:
        """Return whether rows are within the limit; infinite for rows that never got a score."""
        found = np.percentile(latency_s, self.percent, method="inverted_cdf")
        return bool(found <= self.latency_s)


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
    limit: LatencyLimit | None = None,
) -> Recovery:
    """Return how long a stream took after a spike or a step until its latency was normal.

    After a spike the load is as before, and so must be the latency: from the first of three bins in
    a row whose median is within the 95th percentile of the rows before. After a step the load stays
    another one, so the latency must be within its limit, or as before if there is none. It has
    settled behind the last three bins in a row in which it is not: a queue fills up only after the
    step. Bins are those of the due times, of 1 s or two commit periods.

    Args:
      due_s: due times, sorted.
      latency_s: latencies, infinite for a row that never got a score.
      spike_s: begin and end of the spike; for a step, both are its moment.
      begin_s: begin of the window.
      end_s: end of the window.
      commit_s: the commit period of the stream.
      capacity_per_s: capacity known before.
      limit: the latency that is normal after a step; None for that before it.

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
    is_step = spike_begin_s == spike_end_s
    normal = LatencyLimit(50, float(np.percentile(before, NORMAL_PERCENT, method="inverted_cdf")))
    if is_step and limit is not None:
        normal = limit
    waiting = backlog(due_s, due_s + latency_s, spike_end_s)
    width_s = max(1.0, 2 * commit_s)
    edges_s = spike_end_s + width_s * np.arange(math.floor((end_s - spike_end_s) / width_s) + 1)
    bounds = np.searchsorted(due_s, edges_s)
    is_normal = np.array(
        [
            last > first and normal.is_held(latency_s[first:last])
            for first, last in itertools.pairwise(bounds)
        ],
        dtype=np.bool_,
    )
    normal_bin = _settled_bin(is_normal) if is_step else _first_bin(is_normal)
    after_s = end_s - spike_end_s
    rate = np.count_nonzero((due_s >= spike_end_s) & (due_s < end_s)) / after_s if after_s else 0.0
    spare = capacity_per_s - rate if capacity_per_s is not None else 0.0
    return Recovery(
        recovered_s=None if normal_bin is None else float(normal_bin * width_s),
        backlog=waiting,
        predicted_s=waiting / spare if spare > 0 else None,
    )


def _first_bin(is_normal: npt.NDArray[np.bool_]) -> int | None:
    """Return the first of the first `NORMAL_BINS` bins in a row that are normal; None for none."""
    starts = _runs(is_normal)
    return int(starts[0]) if len(starts) else None


def _settled_bin(is_normal: npt.NDArray[np.bool_]) -> int | None:
    """Return the bin behind the last `NORMAL_BINS` in a row that are not normal.

    None if fewer than `NORMAL_BINS` are behind them.
    """
    starts = _runs(~is_normal)
    settled = int(starts[-1]) + NORMAL_BINS if len(starts) else 0
    return settled if len(is_normal) - settled >= NORMAL_BINS else None


def _runs(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return where `NORMAL_BINS` flags in a row are set."""
    so_far = np.concatenate([[0], np.cumsum(flags)])
    return np.flatnonzero(so_far[NORMAL_BINS:] - so_far[:-NORMAL_BINS] == NORMAL_BINS)


def judge_recover_limit(recovery: Recovery, limit_s: float, watched_s: float) -> Outcome:
    """Return whether a stream recovered in time; UNDECIDED if it was not watched long enough."""
    if recovery.recovered_s is not None:
        return Outcome.PASS if recovery.recovered_s <= limit_s else Outcome.FAIL
    return Outcome.FAIL if watched_s > limit_s + NORMAL_BINS else Outcome.UNDECIDED
