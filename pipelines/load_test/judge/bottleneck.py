"""What limits the capacity: stage times of the workers, and signs → stage, kind and advice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from scoreline.pipelines.load_test.judge.advice import Facts, advice_for
from scoreline.pipelines.load_test.judge.elements import Judged, Outcome, Window, WorkerTimes
from scoreline.pipelines.load_test.judge.shares import (
    StageShare,
    evenness,
    idle_share,
    slowest,
    stage_shares,
    stages_s_per_row,
    stages_share,
    wait_s_per_row,
    wait_share,
)
from scoreline.pipelines.load_test.judge.stalls import Stalls, find_stalls
from scoreline.pipelines.load_test.judge.usl import ScalePoint

SOURCE_STAGES = frozenset({"poll", "read", "decode"})
_FETCHING_STAGES = frozenset({"poll", "read"})
SINK_STAGES = frozenset({"encode", "send", "stage", "commit"})

MIN_SKEW = 1.5
MIN_IDLE_BESIDE_SKEW = 0.2
MAX_IDLE = 0.5
MIN_LOCK_SHARE = 0.1
MAX_LOCK_EFFICIENCY = 0.75
MIN_SATURATION = 0.85

# The suspect is replaced by a stage that does nothing, and this multiple of the capacity is tried.
ABLATION_FACTOR = 1.3

# Limits that fail when rows come faster than they are scored. A pause may leave them undecided.
_LAG_LIMITS = frozenset({"lag_growth_share", "scored_share"})

# A pause is longer than so many commit periods or mean times between rows, and than this share of
# the latency target.
_STALL_COMMITS = 3
_STALL_ROWS = 20
_STALL_LATENCY_SHARE = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known about a load that fails, or about the highest one that was tried.

    Attributes:
      worker_times: what each worker did.
      failed: names of the limits that do not hold.
      partitions: number of partitions; None if unknown.
      cores: cores that the workers share; None if unknown.
      alone: what a single worker did at its own capacity; empty if not tested.
      scaling: tested capacities by workers.
      stalls: pauses at an interval; None without.
      memory_hours_left: hours until memory that grows reaches its limit; None if it does not.
      limited_by_harness: whether the sender was the limit.
    """

    worker_times: tuple[WorkerTimes, ...]
    failed: frozenset[str] = frozenset()
    partitions: int | None = None
    cores: float | None = None
    alone: tuple[WorkerTimes, ...] = ()
    scaling: tuple[ScalePoint, ...] = ()
    stalls: Stalls | None = None
    memory_hours_left: float | None = None
    limited_by_harness: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """The stage that limits the capacity.

    Attributes:
      stage: its name; "" for none.
      kind: cpu, wait, lock, skew, partitions, source, sink, memory, stalls, harness or none.
      share: its share of the time of the slowest worker's stages.
      max_over_mean: rows of the busiest worker over the mean of all; 1 is even.
      confirmed: whether the capacity rises without the stage; None if that was not tried.
      predicted_gain: by how much the capacity would rise without the stage, as a share, if nothing
        else became the limit (Amdahl's law); None if unknown.
      gain_if_free: by how much it rose at least when the stage was replaced; None if that was not
        tried, or if it did not rise.
      advice: what to do, in a sentence.
      stages: the stages of the slowest worker, in the order of the graph.
    """

    stage: str
    kind: str
    share: float = 0.0
    max_over_mean: float = 1.0
    confirmed: bool | None = None
    predicted_gain: float | None = None
    gain_if_free: float | None = None
    advice: str = ""
    stages: tuple[StageShare, ...] = ()


def evidence_of(
    window: Window,
    judged: Judged,
    *,
    latency_ms: float | None = None,
    partitions: int | None = None,
    cores: float | None = None,
    alone: Sequence[WorkerTimes] = (),
    scaling: Sequence[ScalePoint] = (),
    limited_by_harness: bool = False,
) -> Evidence:
    """Return the evidence of a window. `latency_ms` is the target; the rest as in `Evidence`."""
    min_gap_s = max(
        _STALL_COMMITS * window.commit_s,
        _STALL_ROWS / max(judged.scored_per_s, 1e-9),
        _STALL_LATENCY_SHARE * (latency_ms or 0.0) / 1e3,
    )
    failed = [
        limit.name
        for limit in judged.limits
        if limit.outcome is Outcome.FAIL
        or (limit.outcome is Outcome.UNDECIDED and limit.name not in _LAG_LIMITS)
    ]
    return Evidence(
        worker_times=window.worker_times,
        failed=frozenset(failed),
        partitions=partitions,
        cores=cores,
        alone=tuple(alone),
        scaling=tuple(scaling),
        stalls=find_stalls(window.scored_s, window.begin_s, window.end_s, min_gap_s),
        memory_hours_left=judged.memory_hours_left,
        limited_by_harness=limited_by_harness,
    )


def find_bottleneck(evidence: Evidence) -> Bottleneck:
    """Return what limits the capacity. The first rule that holds decides.

    The *slowest* worker is the one with the smallest share of idle time.

    1. harness: the sender was the limit.
    2. memory: its limit fails, or it grows steadily, while lag and latency hold.
    3. stalls: latency fails and lag holds, and scoring pauses at an interval.
    4. partitions: fewer partitions than workers, and as many workers without a row.
    5. skew: one worker has at least 1.5 × the mean rows or busy time, and the others are in no
       stage for at least 20 % of their time: idle, or not called, since they have no records.
    6. Even the slowest worker is idle for more than half of its time: source if the lag fails,
       because there were rows; else none.
    7. source or sink: of poll, read, decode, or of encode, send, stage, commit, the sum is larger
       than that of the stages between.
    8. lock: all workers wait in one stage for at least 10 % of their stages' time, while the cores
       are not all used; and by that much more than one worker alone does. Without such a
       test: n workers hold at most 0.75 n times the capacity of one.
    9. wait: the largest stage waits longer than it works, while the cores are not all used.
    10. cpu: else.
    """
    stages = stage_shares(evidence.worker_times)
    largest = max(stages, key=lambda stage: stage.share, default=None)
    kind, stage = _kind(evidence, stages)
    if stage == "" and kind not in ("harness", "memory", "stalls", "none") and largest:
        stage = largest.name
    share = next((found.share for found in stages if found.name == stage), 0.0)
    return Bottleneck(
        stage=stage,
        kind=kind,
        share=share,
        max_over_mean=evenness(evidence.worker_times),
        predicted_gain=share / (1 - share) if 0 < share < 1 else None,
        advice=advice_for(kind, stage, _facts(evidence)),
        stages=stages,
    )


def confirm(
    bottleneck: Bottleneck,
    outcome: Outcome,
    *,
    capacity_per_s: float,
    ablated_per_s: float | None = None,
) -> Bottleneck:
    """Return the bottleneck as confirmed or not by a probe without it.

    Args:
      bottleneck: the suspect.
      outcome: of a probe at `ABLATION_FACTOR` × the capacity with the suspect replaced by a stage
        that does nothing. An invalid probe confirms nothing and refutes nothing.
      capacity_per_s: the capacity before.
      ablated_per_s: the capacity with the suspect replaced; None if only the probe was run. Then a
        probe that passes proves a gain of at least `ABLATION_FACTOR` − 1.
    """
    if outcome is Outcome.INVALID:
        return dataclasses.replace(bottleneck, confirmed=None)
    confirmed = outcome is Outcome.PASS
    gain = ABLATION_FACTOR - 1 if confirmed else None
    if ablated_per_s is not None:
        gain = ablated_per_s / capacity_per_s - 1
    return dataclasses.replace(bottleneck, confirmed=confirmed, gain_if_free=gain)


def _kind(evidence: Evidence, stages: Sequence[StageShare]) -> tuple[str, str]:
    """Return the kind and the stage; "" for the largest stage, or for none."""
    workers = evidence.worker_times
    lags, is_late = bool(_LAG_LIMITS & evidence.failed), "latency_ms" in evidence.failed
    if evidence.limited_by_harness:
        return "harness", ""
    grows = "memory_mb" in evidence.failed or evidence.memory_hours_left is not None
    if grows and not lags and not is_late:
        return "memory", ""
    if is_late and not lags and evidence.stalls is not None:
        return "stalls", ""
    worker = slowest(workers)
    if worker is None or not any(stage.share for stage in stages):
        return "none", ""
    if evidence.partitions is not None and evidence.partitions < len(workers):
        without_rows = sum(not other.rows for other in workers)
        if without_rows >= len(workers) - evidence.partitions:
            return "partitions", ""
    others = [other for other in workers if other is not worker]
    if (
        others
        and evenness(workers) >= MIN_SKEW
        and np.mean([1 - stages_share(other) for other in others]) >= MIN_IDLE_BESIDE_SKEW
    ):
        return "skew", ""
    if idle_share(worker) > MAX_IDLE:
        return ("source", _largest(stages, _FETCHING_STAGES)) if lags else ("none", "")
    source = sum(stage.share for stage in stages if stage.name in SOURCE_STAGES)
    sink = sum(stage.share for stage in stages if stage.name in SINK_STAGES)
    between = 1 - source - sink
    if source > max(sink, between):
        return "source", _largest(stages, SOURCE_STAGES)
    if sink > between:
        return "sink", _largest(stages, SINK_STAGES)
    middle = {stage.name for stage in stages} - SOURCE_STAGES - SINK_STAGES
    if not _is_saturated(evidence):
        if locked := _locked_stage(evidence, middle):
            return "lock", locked
        stage = next(stage for stage in stages if stage.name == _largest(stages, middle))
        if stage.waiting_s > stage.useful_s:
            return "wait", stage.name
    return "cpu", _largest(stages, middle)


def _locked_stage(evidence: Evidence, names: set[str]) -> str:
    """Return the stage in which all workers wait for each other; "" for none."""
    workers = evidence.worker_times
    if len(workers) < 2:
        return ""
    waits = {name: min(wait_share(worker, name) for worker in workers) for name in names}
    stage = max(sorted(names), key=waits.__getitem__)
    if evidence.alone:
        grown = waits[stage] - max(
            wait_s_per_row(worker, stage) / stages_s_per_row(workers) for worker in evidence.alone
        )
        return stage if grown >= MIN_LOCK_SHARE else ""
    by_count = {point.workers: point.per_s for point in evidence.scaling}
    if waits[stage] < MIN_LOCK_SHARE or not {1, len(workers)} <= by_count.keys():
        return ""
    efficiency = by_count[len(workers)] / (len(workers) * by_count[1])
    return stage if efficiency <= MAX_LOCK_EFFICIENCY else ""


def _is_saturated(evidence: Evidence) -> bool:
    """Return whether the workers use all cores: then waiting is waiting for a core."""
    if evidence.cores is None:
        return False
    used = sum(worker.cpu_s / worker.wall_s for worker in evidence.worker_times if worker.wall_s)
    return used >= MIN_SATURATION * evidence.cores


def _facts(evidence: Evidence) -> Facts:
    return Facts(
        workers=len(evidence.worker_times),
        partitions=evidence.partitions,
        without_rows=sum(not worker.rows for worker in evidence.worker_times),
        max_over_mean=evenness(evidence.worker_times),
        is_saturated=_is_saturated(evidence),
        stalls=evidence.stalls,
        memory_hours_left=evidence.memory_hours_left,
    )


def _largest(stages: Sequence[StageShare], names: frozenset[str] | set[str]) -> str:
    found = [stage for stage in stages if stage.name in names]
    return max(found, key=lambda stage: stage.share).name if found else ""
