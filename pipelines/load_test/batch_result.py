"""What was found out about a batch → the result that the report shows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import statistics
from collections.abc import Sequence

from scoreline.pipelines.load_test import result
from scoreline.pipelines.load_test.batch_method import Found
from scoreline.pipelines.load_test.driver.batch import BatchRun
from scoreline.pipelines.load_test.judge import validity
from scoreline.pipelines.load_test.judge.cost import limit_cost
from scoreline.pipelines.load_test.judge.demand import Demand
from scoreline.pipelines.load_test.judge.elements import Check, Interval, Judged, Limit, Outcome
from scoreline.pipelines.load_test.judge.usl import ScalePoint
from scoreline.pipelines.load_test.judge.volume import rows_before, workers_for
from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.scaling_result import describe_scaling
from scoreline.pipelines.load_test.tested_subject import describe_cost, describe_subject
from scoreline.pipelines.load_test.this_machine import describe_machine

_WORST_FIRST = (Outcome.INVALID, Outcome.FAIL, Outcome.UNDECIDED)
_NOTHING = Interval(0.0, 0.0, 0.0)


def to_result(
    profile: Profile,
    found: Found,
    partitions: int,
    cut: Sequence[str],
    began: dt.datetime,
) -> result.LoadTest:
    """Return the result of a load test of a batch.

    Args:
      profile: the profile.
      found: what was found out.
      partitions: partitions of volume 1.
      cut: what the budget cut.
      began: when the test began.
    """
    largest = max(found.runs, key=lambda run: run.facts.rows)
    checks = _checks(largest)
    limits = _limits(profile, found, largest)
    rate = found.rates[profile.workers[0]]
    outcomes = [limit.outcome for limit in limits]
    if not all(check.is_ok for check in checks):
        outcomes.append(Outcome.INVALID)
    deadline = next((x for x in limits if x.name == "deadline_s" and x.measured), None)
    return result.LoadTest(
        started=began,
        ended=dt.datetime.now(dt.UTC),
        subject=describe_subject(profile, largest.facts.model_digest, partitions, "offline"),
        machine=describe_machine(shared_with_sender=False),
        target=profile.slos,
        outcome=next((worst for worst in _WORST_FIRST if worst in outcomes), Outcome.PASS),
        limits=tuple(limits),
        headroom=deadline.limit / deadline.measured if deadline and deadline.measured else None,
        probes=tuple(_to_probe(run, profile) for run in found.runs),
        at_target=_to_probe(largest, profile),
        bottleneck=found.bottleneck,
        scaling=_scaling(profile, found),
        volume=_volume(profile, found),
        cost=describe_cost(profile, rate, None),
        checks=checks,
        facts={"rows": sum(run.facts.rows for run in found.runs)},
        cut=tuple(cut),
    )


def _checks(run: BatchRun) -> tuple[Check, ...]:
    return validity.check_machine(run.use.neighbour_share, run.use.steal_share)


def _limits(profile: Profile, found: Found, largest: BatchRun) -> list[Limit]:
    """Return each limit of the profile, held against the largest volume or the forecast."""
    slos, limits = profile.slos, []
    if slos.rows is not None and slos.deadline_s is not None:
        limits.append(_deadline(slos.rows, slos.deadline_s, found))
    share = largest.facts.rows_dead / largest.facts.rows
    limits.append(_at_most("error_share", slos.error_share, share))
    if slos.memory_mb is not None:
        limits.append(_at_most("memory_mb", slos.memory_mb, largest.peak_rss_mb))
    cost = describe_cost(profile, found.rates[profile.workers[0]], None)
    return [*limits, *limit_cost(cost, slos.cost_per_million)]


def _deadline(rows: int, deadline_s: float, found: Found) -> Limit:
    """Hold the time that so many rows take against the deadline: by the fit, with its interval."""
    if found.volume is None:
        return Limit("deadline_s", deadline_s, None, Outcome.UNDECIDED)
    start_up, per_row = found.volume.wall
    took, best, worst = (
        start + rows * each / 1e6 for start, each in zip(start_up[:3], per_row[:3], strict=True)
    )
    outcome = Outcome.UNDECIDED
    if worst <= deadline_s:
        outcome = Outcome.PASS
    elif best > deadline_s:
        outcome = Outcome.FAIL
    return Limit("deadline_s", deadline_s, took, outcome)


def _at_most(name: str, limit: float, measured: float) -> Limit:
    return Limit(name, limit, measured, Outcome.PASS if measured <= limit else Outcome.FAIL)


def _to_probe(run: BatchRun, profile: Profile) -> result.Probe:
    rate = run.facts.rows / run.wall_s
    checks = _checks(run)
    is_valid = all(check.is_ok for check in checks)
    judged = Judged(
        outcome=Outcome.PASS if is_valid else Outcome.INVALID,
        sent_per_s=rate,
        scored_per_s=rate,
        latency_ms={},
        design_effect=1.0,
        lag_slope_share=_NOTHING,
        final_backlog=0,
        send_late_p99_ms=0.0,
        limits=(),
        checks=checks,
        error_share=run.facts.rows_dead / run.facts.rows,
    )
    return result.Probe(
        phase="ablation" if run.replaced else "volume",
        shape="offline",
        workers=run.workers,
        offered_per_s=rate,
        window_s=run.wall_s,
        rows=run.facts.rows,
        judged=judged,
        worker_times=run.worker_times,
        cpu_us_per_row=run.cpu_s / run.facts.rows * 1e6,
        peak_rss_mb=run.peak_rss_mb,
        replaced=run.replaced,
    )


def _volume(profile: Profile, found: Found) -> result.Volume:
    runs: dict[int, list[BatchRun]] = {}
    for run in found.runs:
        runs.setdefault(run.factor, []).append(run)
    shown = tuple(
        result.VolumeRun(
            factor=factor,
            rows=same[0].facts.rows,
            wall_s=statistics.median(run.wall_s for run in same),
            cpu_s=statistics.median(run.cpu_s for run in same),
            runs=len(same),
        )
        for factor, same in sorted(runs.items())
    )
    fit, deadline_s = found.volume, profile.slos.deadline_s
    if deadline_s is None and profile.need is not None:
        deadline_s = profile.need.deadline_s
    if fit is None:
        return result.Volume(runs=shown)
    return result.Volume(
        runs=shown,
        start_up_cpu_s=fit.cpu.start_up_s,
        cpu_us_per_row=fit.cpu.us_per_row,
        start_up_s=fit.wall.start_up_s,
        wall_us_per_row=fit.wall.us_per_row,
        deadline_s=deadline_s,
        rows_before_deadline=rows_before(deadline_s, fit.wall) if deadline_s else None,
        growing_stage=fit.growing_stage,
        growth=fit.growth,
    )


def _scaling(profile: Profile, found: Found) -> result.Scaling | None:
    """Return the rates by workers, and the workers for the rows that are needed."""
    need, scaling = profile.need, None
    if len(found.rates) > 1:
        scaling = describe_scaling(found.rates, need_per_s=None, max_workers=None, precision=0.05)
    if need is None or need.rows is None or need.deadline_s is None or found.volume is None:
        return scaling
    workers = profile.workers[0]
    answer = workers_for(need.rows, need.deadline_s, found.volume, tested_workers=workers)
    demand = Demand(
        rows=need.rows,
        deadline_s=need.deadline_s,
        by=f"{need.by:%H:%M}" if need.by else "",
        utilization=1.0,
        workers=answer.workers,
        kind="refused" if answer.workers is None else "forecast",
        largest_tested=max(found.rates),
        refused_because=answer.refused_because,
    )
    tested = tuple(ScalePoint(n, r) for n, r in sorted(found.rates.items()))
    if scaling is None:
        few = "a fit needs several numbers of workers"
        scaling = result.Scaling(tested=tested, refused_because=few)
    return dataclasses.replace(scaling, demand=demand)
