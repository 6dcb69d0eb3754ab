"""The limits of one window of a stream, held against what was seen in it."""

from __future__ import annotations

from typing import NamedTuple

from scoreline.pipelines.load_test.judge import memory, percentiles, recovery
from scoreline.pipelines.load_test.judge.elements import (
    Floats,
    Grows,
    Insufficient,
    Limit,
    Outcome,
    Percentile,
    Recovery,
    Slos,
    Window,
)
from scoreline.pipelines.load_test.judge.lag import MIN_SCORED_SHARE, Lag

MAX_RISE_SHARE = 0.1  # of the latency limit, in one window


class Seen(NamedTuple):
    """What was seen in a window.

    Attributes:
      lag: its backlog.
      latency_s: latencies of the rows that were due in it, infinite without a score.
      measured: percentiles of these latencies.
      freshness_s: maximum age of the oldest row without a score.
      error_share: share of dead letters.
      recovery: after its spike; None without one.
    """

    lag: Lag
    latency_s: Floats
    measured: dict[float, percentiles.Measured]
    freshness_s: float
    error_share: float
    recovery: Recovery | None


def judge_limits(window: Window, slos: Slos, seen: Seen) -> tuple[Limit, ...]:
    """Return the limits that apply to a window, and whether they hold."""
    limits = [_at_most("error_share", slos.error_share, seen.error_share)]
    if slos.memory_mb is not None:
        limits.append(_at_most("memory_mb", slos.memory_mb, memory.peak_mb(window)))
    if window.spike_s is not None and seen.recovery is not None:
        if slos.recover_s is not None:
            watched_s = window.end_s - window.spike_s[1]
            outcome = recovery.judge_recover_limit(seen.recovery, slos.recover_s, watched_s)
            measured = seen.recovery.recovered_s
            limits.append(Limit("recover_s", slos.recover_s, measured, outcome))
        return tuple(limits)
    lag = seen.lag
    growth = Limit("lag_growth_share", slos.lag_growth_share, lag.slope_share.value, lag.outcome)
    is_kept = lag.scored_share >= MIN_SCORED_SHARE
    kept = Outcome.PASS if is_kept else Outcome.FAIL
    limits += [growth, Limit("scored_share", MIN_SCORED_SHARE, lag.scored_share, kept)]
    if slos.latency_ms is not None:
        limits.append(_latency_limit(window, slos, slos.latency_ms, seen))
    if slos.freshness_s is not None:
        limits.append(_at_most("freshness_s", slos.freshness_s, seen.freshness_s))
    patience_s = slos.freshness_s if slos.latency_ms is None else slos.latency_ms / 1e3
    if patience_s is not None:
        standing = window.offered_per_s * patience_s
        limits.append(_at_most("standing_queue", standing, float(lag.bins[-1])))
    return tuple(limits)


def _latency_limit(window: Window, slos: Slos, limit_ms: float, seen: Seen) -> Limit:
    percent = slos.latency_percentile
    found = reported(percent, seen)
    if isinstance(found, Grows):
        return Limit("latency_ms", limit_ms, None, Outcome.FAIL)
    effect = seen.measured[percent].design_effect
    outcome = percentiles.judge_limit(seen.latency_s, limit_ms / 1e3, percent, effect)
    # A backlog may grow by 0.5 % within the lag limit. The latency then rises by 0.3 s a minute,
    # and a longer window would have a higher percentile.
    rise_ms = 1e3 * seen.lag.slope_share.low * window.seconds
    if outcome is Outcome.PASS and rise_ms > MAX_RISE_SHARE * limit_ms:
        outcome = Outcome.UNDECIDED
    measured = None if isinstance(found, Insufficient) else found.value
    return Limit("latency_ms", limit_ms, measured, outcome)


def reported(percent: float, seen: Seen) -> Percentile:
    """Return a percentile in ms; a backlog that grows has none."""
    if seen.recovery is None and seen.lag.outcome is Outcome.FAIL:
        return Grows()
    return percentiles.in_ms(seen.measured[percent].percentile)


def _at_most(name: str, limit: float, measured: float | None) -> Limit:
    if measured is None:
        return Limit(name, limit, None, Outcome.UNDECIDED)
    return Limit(name, limit, measured, Outcome.PASS if measured <= limit else Outcome.FAIL)
