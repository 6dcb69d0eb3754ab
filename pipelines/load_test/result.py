"""The result of a load test: what the driver hands to the report. Unknown values are None."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping

from scoreline.pipelines.load_test.judge.bottleneck import Bottleneck
from scoreline.pipelines.load_test.judge.cost import Cost
from scoreline.pipelines.load_test.judge.demand import Demand
from scoreline.pipelines.load_test.judge.elements import (
    Check,
    Floats,
    Interval,
    Judged,
    Limit,
    Outcome,
    Slos,
    WorkerTimes,
)
from scoreline.pipelines.load_test.judge.usl import ScalePoint
from scoreline.pipelines.load_test.load_results import Soak, Spike, Start, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What was tested.

    Attributes:
      mode: stream or batch.
      runner: name of the runner.
      model: its path, or the last parts of it, such as flights/7.
      model_digest: sha256:… of its files.
      version: version of Scoreline.
      commit: git commit of Scoreline; "" if it is installed.
      partitions: partitions of the topic, or of the dataset at volume 1.
      workers: number of workers of the verdict.
      shape: arrivals of the stream; "offline" for a batch.
      options: argv of the tested command, without the flags that the load test sets.
    """

    mode: str
    runner: str
    model: str
    model_digest: str
    version: str
    commit: str = ""
    partitions: int
    workers: int
    shape: str
    options: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine of the test.

    Attributes:
      cores: processors that the test may use.
      cpu: name of the processor.
      flags: its vector extensions, such as avx2.
      memory_mb: its memory, in MB (10^6 bytes).
      shared_with_sender: whether sender and workers share it.
    """

    cores: int
    cpu: str
    flags: tuple[str, ...] = ()
    memory_mb: float
    shared_with_sender: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """A stream over time, for plots. All arrays have the length of `at_s`.

    Attributes:
      at_s: middles of bins, in seconds from the begin of the window.
      offered_per_s, scored_per_s: rates within a bin.
      backlog: records without a score at the end of a bin.
      latency_p50_ms, latency_p99_ms: percentiles of the records due within a bin; NaN for none.
    """

    at_s: Floats
    offered_per_s: Floats
    scored_per_s: Floats
    backlog: Floats
    latency_p50_ms: Floats
    latency_p99_ms: Floats


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """One window of load on the stream, or one run of the batch, with its judgement.

    Attributes:
      phase: as of `Window`, or volume for a batch.
      shape: as of `Window`; "offline" for a batch.
      workers: number of workers.
      seed: seed of the arrivals.
      offered_per_s: mean rate of the load; of a batch, its rows per second.
      window_s: duration of the window, or wall seconds of the batch.
      rows: records sent within the window, or rows of the batch.
      judged: the judgement.
      worker_times: what each worker did.
      cpu_us_per_row: CPU time of all workers for a row.
      peak_rss_mb: maximum resident memory of all workers.
      recovered_s, predicted_recovery_s: of a spike or a step; None for never, or another phase.
      replaced: the stage that was replaced by one that does nothing; "" for none.
      series: the window over time; None without a plot.
    """

    phase: str
    shape: str
    workers: int
    seed: int = 0
    offered_per_s: float
    window_s: float
    rows: int
    judged: Judged
    worker_times: tuple[WorkerTimes, ...] = ()
    cpu_us_per_row: float | None = None
    peak_rss_mb: float | None = None
    recovered_s: float | None = None
    predicted_recovery_s: float | None = None
    replaced: str = ""
    series: Series | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Capacity:
    """The highest load that holds, and the lowest that does not. Never a value between them.

    Attributes:
      workers: number of workers.
      passes_per_s: highest tested load at which all limits hold; None if none does.
      passed, pass_windows: windows in which it held, of how many.
      fails_per_s: lowest tested load at which a limit fails; None if none was found.
      failed, fail_windows: windows in which it failed, of how many.
      fails_because: the limit that fails there, as measured; None if nothing fails.
      lag_at_fail: growth of the backlog there, as a share of the load.
      precision: maximum ratio of the two loads, minus 1.
      limited_by_harness: whether the sender, not the pipeline, was the limit.
    """

    workers: int
    passes_per_s: float | None
    passed: int = 0
    pass_windows: int = 0
    fails_per_s: float | None = None
    failed: int = 0
    fail_windows: int = 0
    fails_because: Limit | None = None
    lag_at_fail: Interval | None = None
    precision: float
    limited_by_harness: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimates:
    """Other estimates of the capacity, in rows per second, to compare it with.

    Attributes:
      drain_per_s: rate at which a held backlog is scored.
      busy_time_per_s: rows divided by the busy seconds of the slowest worker.
      harness_per_s: rate with a scorer that does nothing.
    """

    drain_per_s: float | None = None
    busy_time_per_s: float | None = None
    harness_per_s: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelAlone:
    """What the model holds without the pipeline.

    Attributes:
      single_row_p90_ms: p90 of the time of a call with one row.
      offline_per_s: rows per second in calls with many rows.
      server_p99_ms: p99 at the target rate; None without a target.
      server_rate_per_s: that rate; None without a target.
    """

    single_row_p90_ms: float
    offline_per_s: float
    server_p99_ms: float | None = None
    server_rate_per_s: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling:
    """The capacity over the number of workers: the Universal Scalability Law.

    X(n) = lambda n / (1 + alpha (n - 1) + beta n (n - 1)), N. J. Gunther, Guerrilla Capacity
    Planning (2007).

    Attributes:
      tested: the tested numbers of workers.
      lambda_per_s: rows per second of one worker in the fit; None without a fit.
      alpha, beta: contention and coherency; None without a fit.
      refused_because: why there is no fit; "" if there is one.
      max_workers: number of partitions or slots: more workers would not help; None for no limit.
      held_out_error: error of the fit for the held out point, as a share; None if none was.
      demand: the workers for the need of the profile; None without one.
    """

    tested: tuple[ScalePoint, ...]
    lambda_per_s: float | None = None
    alpha: Interval | None = None
    beta: Interval | None = None
    refused_because: str = ""
    max_workers: int | None = None
    held_out_error: float | None = None
    demand: Demand | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumeRun:
    """A batch of one volume.

    Attributes:
      factor: its multiple of volume 1.
      rows: its rows.
      wall_s, cpu_s: medians of its runs.
      runs: number of its runs.
    """

    factor: float
    rows: int
    wall_s: float
    cpu_s: float
    runs: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Volume:
    """The cost of a batch over its volume.

    Attributes:
      runs: the tested volumes.
      start_up_cpu_s, cpu_us_per_row: CPU of a job without rows, and of each row.
      start_up_s, wall_us_per_row: the same in wall time, with the workers of the verdict.
      deadline_s: seconds for the batch, of the limits or else of the need; None without one.
      rows_before_deadline: rows that fit before the deadline; None without one.
      growing_stage: the stage whose cost of a row grows with the volume; "" for none.
      growth: by how much it grows for ten times the rows, as a share.
    """

    runs: tuple[VolumeRun, ...]
    start_up_cpu_s: Interval | None = None
    cpu_us_per_row: Interval | None = None
    start_up_s: Interval | None = None
    wall_us_per_row: Interval | None = None
    deadline_s: float | None = None
    rows_before_deadline: Interval | None = None
    growing_stage: str = ""
    growth: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """The last run of the same subject on the same machine.

    Attributes:
      started: when it began.
      passes_per_s: its capacity.
      capacity_change: change of the capacity since then, as a share; None if one has none.
      capacity_within_noise: whether that is less than the precision of the two.
      p99_ms: its p99 at the target; None if it had too few samples.
      p99_change: change of p99 since then, as a share.
      p99_within_noise: whether the intervals of the two overlap.
      row_us: of a batch, its CPU time for a row; None for a stream.
      row_change, row_within_noise: as for p99.
      same_model: whether the model's digest is the same.
    """

    started: dt.datetime
    passes_per_s: float | None
    capacity_change: float | None
    capacity_within_noise: bool
    p99_ms: float | None = None
    p99_change: float | None = None
    p99_within_noise: bool = True
    row_us: float | None = None
    row_change: float | None = None
    row_within_noise: bool = True
    same_model: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadTest:
    """The result of a load test.

    Attributes:
      started, ended: times in UTC.
      subject: what was tested.
      machine: where.
      target: the limits.
      outcome: the verdict: of the target if it has a rate or rows, else of the capacity.
      limits: each limit, as measured at the target, or at the capacity without one.
      headroom: capacity divided by the target's rate, or its deadline by the time; None if unknown.
      probes: all probes, in the order of time.
      at_target: the probe that the page shows: at the target, or at the capacity without one.
      capacity: the capacity with `subject.workers` workers; None for a batch.
      estimates: other estimates of it.
      start: the time to start a stream; None if it was never started without a backlog.
      spike, step, soak: loads that are not those of the search; None if there was none.
      bottleneck: the bottleneck; None if it was not looked for.
      model_alone: what the model holds without the pipeline; None if it was not measured.
      scaling: the capacity over workers; None if only one number was tested.
      volume: the cost of a batch over its volume; None for a stream.
      cost: the cost of a million rows; None without prices.
      checks: the conditions of a valid measurement, as the worst probe of the verdict has them.
      facts: other facts of the measurement, by name: `records` counts those of all probes.
      cut: what the budget cut, one sentence each.
      compared_with: the last run of the same subject; None for none. The report finds it.
    """

    started: dt.datetime
    ended: dt.datetime
    subject: Subject
    machine: Machine
    target: Slos
    outcome: Outcome
    limits: tuple[Limit, ...]
    headroom: float | None = None
    probes: tuple[Probe, ...]
    at_target: Probe | None = None
    capacity: Capacity | None = None
    estimates: Estimates = dataclasses.field(default_factory=Estimates)
    start: Start | None = None
    spike: Spike | None = None
    step: Step | None = None
    soak: Soak | None = None
    bottleneck: Bottleneck | None = None
    model_alone: ModelAlone | None = None
    scaling: Scaling | None = None
    volume: Volume | None = None
    cost: Cost | None = None
    checks: tuple[Check, ...] = ()
    facts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    cut: tuple[str, ...] = ()
    compared_with: Compared | None = None
