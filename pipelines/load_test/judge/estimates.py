"""Estimates of the capacity that need no search: from a drained backlog, and from busy time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scoreline.pipelines.load_test.judge.elements import Floats, WorkerTimes

# The first rows of a drain pay for the start, and the last ones leave some workers without work.
_CUT_SHARE = 0.1

MIN_DRAINED_ROWS = 100


def drain_per_s(scored_s: Floats) -> float | None:
    """Return the rate at which a backlog was scored; None if too little of it was.

    The first and the last tenth of the rows are cut. Scores that became readable at one moment are
    one portion: the rate counts whole portions between two moments.

    Args:
      scored_s: when each row's score could be read, in any order; NaN for never.
    """
    times = np.sort(scored_s[~np.isnan(scored_s)])
    if times.size < MIN_DRAINED_ROWS:
        return None
    moments, rows = np.unique(times, return_counts=True)
    scored = np.cumsum(rows)
    first = int(np.searchsorted(scored, times.size * _CUT_SHARE))
    last = int(np.searchsorted(scored, times.size * (1 - _CUT_SHARE)))
    if last <= first:
        return None
    return float((scored[last] - scored[first]) / (moments[last] - moments[first]))


def busy_time_per_s(workers: Sequence[WorkerTimes]) -> float | None:
    """Return rows ÷ busy seconds of the slowest worker × workers; None without a busy worker.

    It assumes that each worker gets the same share of the rows, and that one worker's speed does
    not depend on how busy it is. Both fail in ways that the comparison with the search shows.
    """
    speeds = [
        worker.rows / busy_s for worker in workers if worker.rows and (busy_s := busy_s_of(worker))
    ]
    return min(speeds) * len(workers) if speeds else None


def busy_s_of(worker: WorkerTimes) -> float:
    """Return the seconds in which a worker had records: useful and waiting."""
    return max(worker.wall_s - worker.idle_s, 0.0)
