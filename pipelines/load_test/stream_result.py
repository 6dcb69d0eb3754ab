"""What was found out about a stream → the result that the report shows."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Sequence

import numpy as np

from scoreline.pipelines.load_test import result
from scoreline.pipelines.load_test.driver.subject import Facts
from scoreline.pipelines.load_test.judge import memory, validity
from scoreline.pipelines.load_test.judge.cost import limit_cost
from scoreline.pipelines.load_test.judge.elements import Check, Limit, Outcome, Recovery, Window
from scoreline.pipelines.load_test.judge.search import End
from scoreline.pipelines.load_test.load_results import Soak, Spike, Start, Step
from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.scaling_result import describe_scaling
from scoreline.pipelines.load_test.series import bin_window
from scoreline.pipelines.load_test.stream_plan import STEADY, Found, Tried
from scoreline.pipelines.load_test.tested_subject import describe_cost, describe_subject
from scoreline.pipelines.load_test.this_machine import describe_machine, is_here

# Limits that no window of the search is held to.
_OF_NO_WINDOW = ("recover_s", "cost_per_million")
_WORST_FIRST = (Outcome.INVALID, Outcome.FAIL, Outcome.UNDECIDED)


def to_result(
    profile: Profile, found: Found, facts: Facts, cut: Sequence[str], began: dt.datetime
) -> result.LoadTest:
    """Return the result of a load test of a stream."""
    workers = profile.workers[0]
    capacity = found.capacities[workers]
    shown = found.at_target or _last_at(found, capacity.passes_per_s)
    target = profile.slos.rate_per_s
    checks = _checks(found, shown)
    cost = describe_cost(profile, target, capacity.passes_per_s)
    limits = (
        *(shown.judged.limits if shown else ()),
        *_recovery_limits(found),
        *limit_cost(cost, profile.slos.cost_per_million),
    )
    headroom = capacity.passes_per_s / target if capacity.passes_per_s and target else None
    return result.LoadTest(
        started=began,
        ended=dt.datetime.now(dt.UTC),
        subject=describe_subject(profile, facts.model_digest, profile.partitions, profile.shape),
        machine=describe_machine(shared_with_sender=is_here(profile)),
        target=profile.slos,
        outcome=_verdict(profile, found, shown, checks, limits),
        limits=limits,
        headroom=headroom,
        probes=tuple(map(to_probe, found.tried)),
        at_target=to_probe(shown) if shown else None,
        capacity=_capacity(found, workers),
        estimates=result.Estimates(
            drain_per_s=found.drain_per_s,
            busy_time_per_s=found.busy_time_per_s,
            harness_per_s=found.harness_per_s,
        ),
        start=_start(found.starts_s),
        spike=_spike(found),
        step=_step(found),
        soak=_soak(found),
        bottleneck=found.bottleneck,
        model_alone=found.model_alone,
        scaling=describe_scaling(
            {n: c.passes_per_s for n, c in found.capacities.items() if c.passes_per_s},
            need_per_s=profile.need.rate_per_s if profile.need else None,
            max_workers=profile.partitions,
            precision=capacity.precision,
        ),
        cost=cost,
        checks=checks,
        facts=_facts(found, shown),
        cut=tuple(cut),
    )


def to_probe(tried: Tried) -> result.Probe:
    """Return a window as the report shows it."""
    window, judged = tried.window, tried.judged
    rows = int(np.count_nonzero(window.due_s >= window.begin_s))
    scored = judged.scored_per_s * window.seconds
    cpu_s = sum(worker.cpu_s for worker in window.worker_times)
    recovery = judged.recovery or Recovery(None, 0, None)
    return result.Probe(
        phase=window.phase,
        shape=window.shape,
        workers=window.workers,
        seed=window.seed,
        offered_per_s=window.offered_per_s,
        window_s=window.seconds,
        rows=rows,
        judged=judged,
        worker_times=window.worker_times,
        cpu_us_per_row=cpu_s / scored * 1e6 if cpu_s and scored else None,
        peak_rss_mb=memory.peak_mb(window),
        recovered_s=recovery.recovered_s,
        predicted_recovery_s=recovery.predicted_s,
        replaced=window.replaced,
        series=bin_window(window),
    )


def _last_at(found: Found, load_per_s: float | None) -> Tried | None:
    """Return the last steady window at a load, or of all; None if there is none."""
    steady = [t for t in found.tried if t.window.phase in STEADY]
    at = [t for t in steady if load_per_s is None or t.load_per_s == load_per_s]
    return at[-1] if at else None


def _checks(found: Found, shown: Tried | None) -> tuple[Check, ...]:
    """Return the checks of the shown window, and that of the harness against the result."""
    checks = shown.judged.checks if shown else ()
    if not found.harness_per_s or not shown:
        return checks
    ceiling = validity.check_ceiling(found.harness_per_s, shown.judged.scored_per_s)
    return (*checks, ceiling)


def _recovery_limits(found: Found) -> list[Limit]:
    changes = [tried for tried in (found.spike, found.step) if tried is not None]
    return [limit for t in changes for limit in t.judged.limits if limit.name == "recover_s"]


def _verdict(
    profile: Profile,
    found: Found,
    shown: Tried | None,
    checks: Sequence[Check],
    limits: Sequence[Limit],
) -> Outcome:
    """Return the worst of the capacity against the target, the checks, the limits and the soak."""
    capacity = found.capacities[profile.workers[0]]
    target = profile.slos.rate_per_s
    outcomes = [limit.outcome for limit in limits if limit.name in _OF_NO_WINDOW]
    if found.soak is not None:
        outcomes.append(found.soak.judged.outcome)
    if capacity.end is End.INVALID or not all(check.is_ok for check in checks):
        outcomes.append(Outcome.INVALID)
    passes, fails = capacity.passes_per_s, capacity.fails_per_s
    if passes is not None and (target is None or passes >= target):
        outcomes.append(Outcome.PASS)
    elif fails is not None and (target is None or fails <= target):
        outcomes.append(Outcome.FAIL)
    elif shown is not None and target is not None and found.at_target is not None:
        # One window at the target is not three: it can fail, but it cannot pass.
        is_failed = shown.judged.outcome is Outcome.FAIL
        outcomes.append(Outcome.FAIL if is_failed else Outcome.UNDECIDED)
    else:
        outcomes.append(Outcome.UNDECIDED)
    return next((worst for worst in _WORST_FIRST if worst in outcomes), Outcome.PASS)


def _capacity(found: Found, workers: int) -> result.Capacity:
    capacity = found.capacities[workers]
    passes, fails = capacity.passes_per_s, capacity.fails_per_s
    at_pass, at_fail = _outcomes_at(found, workers, passes), _outcomes_at(found, workers, fails)
    failed = [tried for tried in at_fail if tried.judged.outcome is not Outcome.PASS]
    because = None
    if failed:
        broken = [x for x in failed[-1].judged.limits if x.outcome is not Outcome.PASS]
        because = broken[0] if broken else None
    return result.Capacity(
        workers=workers,
        passes_per_s=passes,
        passed=sum(tried.judged.outcome is Outcome.PASS for tried in at_pass),
        pass_windows=len(at_pass),
        fails_per_s=fails,
        failed=len(failed),
        fail_windows=len(at_fail),
        fails_because=because,
        lag_at_fail=failed[-1].judged.lag_slope_share if failed else None,
        precision=capacity.precision,
        limited_by_harness=capacity.limited_by_harness,
    )


def _outcomes_at(found: Found, workers: int, load_per_s: float | None) -> list[Tried]:
    """Return the valid windows of the search at a load."""
    if load_per_s is None:
        return []
    return [
        tried
        for tried in found.tried
        if tried.load_per_s == load_per_s
        and tried.window.workers == workers
        and tried.window.phase in STEADY
        and tried.judged.outcome is not Outcome.INVALID
        and not tried.is_repeated
    ]


def _start(starts_s: Sequence[float]) -> Start | None:
    if not starts_s:
        return None
    return Start(
        median_s=statistics.median(starts_s), longest_s=max(starts_s), starts=len(starts_s)
    )


def _spike(found: Found) -> Spike | None:
    if found.spike is None or found.spike.window.spike_s is None:
        return None
    window, (from_s, until_s) = found.spike.window, found.spike.window.spike_s
    recovery = found.spike.judged.recovery or Recovery(None, 0, None)
    return Spike(
        base_per_s=_offered_per_s(window, window.begin_s, from_s),
        peak_per_s=_offered_per_s(window, from_s, until_s),
        for_s=until_s - from_s,
        recovered_s=recovery.recovered_s,
        predicted_s=recovery.predicted_s,
    )


def _step(found: Found) -> Step | None:
    if found.step is None or found.step.window.spike_s is None:
        return None
    window, (at_s, _) = found.step.window, found.step.window.spike_s
    recovery = found.step.judged.recovery or Recovery(None, 0, None)
    return Step(
        base_per_s=_offered_per_s(window, window.begin_s, at_s),
        to_per_s=_offered_per_s(window, at_s, window.end_s),
        settled_s=recovery.recovered_s,
    )


def _offered_per_s(window: Window, from_s: float, until_s: float) -> float:
    due_s = window.due_s
    return float(np.count_nonzero((due_s >= from_s) & (due_s < until_s)) / (until_s - from_s))


def _soak(found: Found) -> Soak | None:
    if found.soak is None:
        return None
    window, judged = found.soak.window, found.soak.judged
    return Soak(
        rate_per_s=window.offered_per_s,
        seconds=window.seconds,
        outcome=judged.outcome,
        limits=judged.limits,
        checks=judged.checks,
        lag_slope_share=judged.lag_slope_share,
        memory_mb=memory.peak_mb(window),
        memory_growth_mb_per_h=judged.memory_growth_mb_per_h,
        memory_hours_left=judged.memory_hours_left,
    )


def _facts(found: Found, shown: Tried | None) -> dict[str, float]:
    """Return what the line "valid" of the page shows."""
    facts: dict[str, float] = {"records": sum(t.window.due_s.size for t in found.tried)}
    if found.harness_per_s:
        facts["harness_per_s"] = found.harness_per_s
    if shown:
        facts["sender_late_p99_ms"] = shown.judged.send_late_p99_ms
        facts["neighbour_cpu_share"] = shown.window.neighbour_cpu_share
    return facts
