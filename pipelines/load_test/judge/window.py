"""The judgement of one window of a stream: are its limits held, and is the measurement valid?"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from scoreline.pipelines.load_test.judge import memory, percentiles, recovery, validity
from scoreline.pipelines.load_test.judge.elements import (
    Check,
    Floats,
    Judged,
    Limit,
    Outcome,
    Slos,
    Window,
)
from scoreline.pipelines.load_test.judge.lag import judge_lag
from scoreline.pipelines.load_test.judge.limits import Seen, judge_limits, reported

PERCENTS = (50.0, 95.0, 99.0, 99.9)
WORST_FIRST = (Outcome.FAIL, Outcome.UNDECIDED)


def judge_window(window: Window, slos: Slos, *, percents: tuple[float, ...] = PERCENTS) -> Judged:
    """Return the judgement of a window of a stream.

    Its outcome is INVALID if a check fails, else FAIL, UNDECIDED or PASS by its limits. UNDECIDED
    counts as a failure. A window with a spike or a step is held to the time to recover, the error
    share and the memory only. Shifting all times, or the order of the records, changes nothing.

    Args:
      window: the window.
      slos: the limits. Those of a batch are left out.
      percents: percentiles to report beside the one that has a limit.

    Raises:
      ValueError: the window has no rows, contradicts itself, or is too short for a lag trend.
    """
    _refuse_bad(window)
    begin_s, end_s = window.begin_s, window.end_s
    due_s, sent_s, scored_s, is_dead = _in_order(window)
    within = slice(*np.searchsorted(due_s, [begin_s, end_s]))
    all_latency_s = np.where(np.isnan(scored_s), math.inf, scored_s - due_s)
    latency_s = all_latency_s[within]
    lag = judge_lag(
        due_s,
        scored_s,
        begin_s=begin_s,
        end_s=end_s,
        commit_s=window.commit_s,
        offered_per_s=window.offered_per_s,
        max_growth_share=slos.lag_growth_share,
    )
    seen = Seen(
        lag=lag,
        latency_s=latency_s,
        measured=percentiles.measure(
            latency_s, due_s[within] - begin_s, (*percents, slos.latency_percentile)
        ),
        freshness_s=recovery.max_freshness_s(due_s, scored_s, begin_s=begin_s, end_s=end_s),
        error_share=float(is_dead[within].mean()),
        recovery=None
        if window.spike_s is None
        else recovery.judge_recovery(
            due_s,
            all_latency_s,
            spike_s=window.spike_s,
            begin_s=begin_s,
            end_s=end_s,
            commit_s=window.commit_s,
            capacity_per_s=window.capacity_per_s,
            limit=None
            if slos.latency_ms is None
            else recovery.LatencyLimit(slos.latency_percentile, slos.latency_ms / 1e3),
        ),
    )
    late_ms = validity.send_late_p99_ms(due_s[within], sent_s[within])
    checks = (
        validity.check_sender(late_ms, slos, window.seconds),
        *validity.check_machine(window.neighbour_cpu_share, window.steal_share),
        validity.check_ids(window.extra_ids, _lost_ids(window, seen)),
        validity.check_clocks(sent_s, scored_s),
        *_steady_checks(window, slos, seen),
    )
    limits = judge_limits(window, slos, seen)
    return Judged(
        outcome=_outcome(checks, limits),
        sent_per_s=_per_s(window, sent_s),
        scored_per_s=_per_s(window, scored_s),
        latency_ms={percentiles.name_of(p): reported(p, seen) for p in seen.measured},
        design_effect=seen.measured[slos.latency_percentile].design_effect,
        lag_slope_share=lag.slope_share,
        final_backlog=lag.final,
        send_late_p99_ms=late_ms,
        limits=limits,
        checks=checks,
        freshness_s=seen.freshness_s,
        error_share=seen.error_share,
        memory_growth_mb_per_h=memory.growth_mb_per_h(window),
        memory_hours_left=memory.hours_left(window, slos),
        recovery=seen.recovery,
    )


def _steady_checks(window: Window, slos: Slos, seen: Seen) -> list[Check]:
    """Return the checks that suppose a steady state: neither a spike nor a growing backlog."""
    if window.spike_s is not None:
        return []
    checks = [
        validity.check_steady(
            seen.lag.bins,
            window_rows=window.offered_per_s * window.seconds,
            max_growth_share=slos.lag_growth_share,
        )
    ]
    mean_s = float(seen.latency_s.mean())
    if seen.lag.outcome is Outcome.PASS and math.isfinite(mean_s):
        mean_rows = float(seen.lag.bins.mean())
        checks.append(validity.check_little(mean_rows, window.offered_per_s, mean_s))
    return checks


def _lost_ids(window: Window, seen: Seen) -> int:
    if window.lost_ids is not None:
        return window.lost_ids
    is_caught_up = seen.lag.outcome is Outcome.PASS
    if seen.recovery is not None:
        is_caught_up = seen.recovery.recovered_s is not None
    return int(np.isnan(window.scored_s).sum()) if is_caught_up else 0


def _outcome(checks: tuple[Check, ...], limits: tuple[Limit, ...]) -> Outcome:
    if not all(check.is_ok for check in checks):
        return Outcome.INVALID
    outcomes = {limit.outcome for limit in limits}
    return next((o for o in WORST_FIRST if o in outcomes), Outcome.PASS)


def _per_s(window: Window, at_s: Floats) -> float:
    within = (at_s >= window.begin_s) & (at_s < window.end_s)
    return float(np.count_nonzero(within) / window.seconds)


def _in_order(window: Window) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    columns = window.due_s, window.sent_s, window.scored_s, window.is_dead
    if (np.diff(window.due_s) >= 0).all():
        return columns
    order = np.argsort(window.due_s, kind="stable")
    due_s, sent_s, scored_s, is_dead = columns
    return due_s[order], sent_s[order], scored_s[order], is_dead[order]


def _refuse_bad(window: Window) -> None:
    wrong = []
    if not window.seconds > 0:
        wrong.append(f"it ends at {window.end_s:g} s, before it begins at {window.begin_s:g} s")
    lengths = {
        name: len(getattr(window, name)) for name in ("due_s", "sent_s", "scored_s", "is_dead")
    }
    if len(set(lengths.values())) > 1:
        wrong.append(f"its arrays differ in length: {lengths}")
    if len(window.memory_at_s) != len(window.memory_mb):
        wrong.append("memory_at_s and memory_mb differ in length")
    if not np.isfinite(window.due_s).all():
        wrong.append("a due time is not a number")
    elif not ((window.due_s >= window.begin_s) & (window.due_s < window.end_s)).any():
        wrong.append("no row is due within it")
    if not window.offered_per_s > 0:
        wrong.append(f"its offered rate is {window.offered_per_s:g} per second")
    if window.spike_s is not None and not (
        window.begin_s <= window.spike_s[0] <= window.spike_s[1] <= window.end_s
    ):
        wrong.append(f"its spike {window.spike_s} is not within it")
    if wrong:
        raise ValueError(f"The {window.phase} window cannot be judged: {'; '.join(wrong)}.")
