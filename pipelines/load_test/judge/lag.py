"""The lag trend: does the backlog grow?

backlog(t) is the rows due by `t` minus the rows scored by `t`. Theodolite (Henning and Hasselbring
2022, doi 10.1007/s10664-022-10162-1) compares its least squares slope with a threshold. A queue
that is overloaded by 2 % then passes a limit of 1 % in a quarter of short windows. Here the slope
is a share of the offered rate, and its whole interval must lie on one side of the limit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from scoreline.pipelines.load_test.judge import trend
from scoreline.pipelines.load_test.judge.elements import Floats, Interval, Outcome
from scoreline.pipelines.load_test.judge.percentiles import scaled

MIN_SCORED_SHARE = 0.99


class Lag(NamedTuple):
    """The backlog of a window.

    Attributes:
      slope_share: its growth as a share of the offered rate, with a 95 % interval.
      outcome: PASS if the upper end is within the limit, FAIL if the lower end is above it.
      bins: mean backlog in rows, per bin of `width_s` seconds.
      width_s: two commit periods, or a multiple that gives at most 64 bins.
      final: rows without a score at the end of the window.
      scored_share: rate out ÷ rate in.
    """

    slope_share: Interval
    outcome: Outcome
    bins: Floats
    width_s: float
    final: int
    scored_share: float


def min_window_s(commit_s: float) -> float:
    """Return the shortest window that has a lag trend: 6 bins of two commit periods."""
    return trend.MIN_BINS * 2 * commit_s


def judge_lag(
    due_s: Floats,
    scored_s: Floats,
    *,
    begin_s: float,
    end_s: float,
    commit_s: float,
    offered_per_s: float,
    max_growth_share: float = 0.01,
) -> Lag:
    """Return the backlog of a window, and whether it grows.

    `scored_s` has NaN or infinity for a row that never got a score.

    Raises:
      ValueError: the window is shorter than 6 bins of two commit periods, or the offered rate is
        not positive.
    """
    if not offered_per_s > 0:
        raise ValueError(f"expected a positive offered rate, got {offered_per_s} per second")
    width_s = _width_s(end_s - begin_s, commit_s)
    count = int((end_s - begin_s) / width_s + 1e-9)
    edges_s = end_s - width_s * np.arange(count, -1, -1, dtype=np.float64)
    bins = mean_backlog(due_s, scored_s, edges_s)
    growth = trend.slope(bins, width_s)
    share = scaled(growth, 1 / offered_per_s)
    rate_in = np.count_nonzero((due_s >= begin_s) & (due_s < end_s)) / (end_s - begin_s)
    grown_per_s = (bins[-1] - bins[0]) / (width_s * (count - 1))
    return Lag(
        slope_share=share,
        outcome=_side(share, max_growth_share),
        bins=bins,
        width_s=width_s,
        final=backlog(due_s, scored_s, end_s),
        # Counting the scores in the window would err by one commit: they come in portions.
        scored_share=float(1 - grown_per_s / rate_in) if rate_in else math.inf,
    )


def backlog(due_s: Floats, scored_s: Floats, at_s: float) -> int:
    """Return rows due by a moment − rows scored by it."""
    return int(np.count_nonzero(due_s <= at_s) - np.count_nonzero(scored_s <= at_s))


def mean_backlog(due_s: Floats, scored_s: Floats, edges_s: Floats) -> Floats:
    """Return the mean backlog between each two edges: exact integrals, not samples."""
    area = _events_area(due_s, edges_s) - _events_area(scored_s, edges_s)
    return np.diff(area) / np.diff(edges_s)


def _events_area(events_s: Floats, edges_s: Floats) -> Floats:
    """Return the integral of the number of events so far, up to each edge."""
    origin_s = edges_s[0]
    past = events_s[events_s <= edges_s[-1]] - origin_s  # leaves out NaN and infinity
    past.sort(kind="stable")  # linear time for the usual series, which is all but sorted
    total = np.concatenate([[0.0], np.cumsum(past)])
    number = np.searchsorted(past, edges_s - origin_s, side="right")
    return number * (edges_s - origin_s) - total[number]


def _width_s(seconds: float, commit_s: float) -> float:
    pair_s = 2 * commit_s
    if seconds < min_window_s(commit_s) - 1e-9:
        raise ValueError(
            f"expected a window of at least {min_window_s(commit_s):g} s for commits every "
            f"{commit_s:g} s ({trend.MIN_BINS} bins of two commit periods), got {seconds:g} s. "
            "Make the window longer, or commit more often."
        )
    narrowest_s = seconds / trend.MAX_BINS
    if pair_s < 1e-6 * narrowest_s:  # each row is committed by itself
        return narrowest_s
    return pair_s * max(1, math.ceil(narrowest_s / pair_s - 1e-9))


def _side(share: Interval, limit: float) -> Outcome:
    if share.high <= limit:
        return Outcome.PASS
    return Outcome.FAIL if share.low > limit else Outcome.UNDECIDED
