"""What the judge takes and returns: limits, windows, stage times, outcomes."""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Outcome(enum.StrEnum):
    """The outcome of a limit, a window or a test. UNDECIDED counts as a failure."""

    PASS = "pass"  # noqa: S105  not a password
    FAIL = "fail"
    UNDECIDED = "undecided"
    INVALID = "invalid"


class Interval(NamedTuple):
    """An estimate with its confidence interval.

    Attributes:
      value: the estimate.
      low, high: the ends of the interval; `high` is infinite if rows that never got a score
        reach into it.
      confidence: its confidence, such as 0.95.
    """

    value: float
    low: float
    high: float
    confidence: float = 0.95


class Insufficient(NamedTuple):
    """A percentile that too few samples cannot show.

    Attributes:
      needed: number of samples that could, without one above the limit.
    """

    needed: int


class Grows(NamedTuple):
    """A percentile that does not exist, because the queue grows as long as the load lasts."""


Percentile = Interval | Insufficient | Grows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slos:
    """The limits that a load must hold; None is no limit.

    Attributes:
      rate_per_s: rows per second of a stream.
      latency_percentile: the percentile, such as 99, that `latency_ms` is for.
      latency_ms: maximum of that percentile of the time from a row's due time to its score.
      lag_growth_share: maximum growth of the backlog, as a share of the offered rate.
      freshness_s: maximum age of the oldest row without a score.
      recover_s: maximum time from the end of a spike until the latency is as before, and from a
        step until it is within its limit.
      error_share: maximum share of rows that become dead letters.
      memory_mb: maximum resident memory of all workers, in MB (10^6 bytes).
      rows, deadline_s: a batch of so many rows ends within this time.
      cost_per_million: maximum cost of a million rows, in the currency of the prices.
    """

    rate_per_s: float | None = None
    latency_percentile: float = 99.0
    latency_ms: float | None = None
    lag_growth_share: float = 0.01
    freshness_s: float | None = None
    recover_s: float | None = None
    error_share: float = 0.0
    memory_mb: float | None = None
    rows: int | None = None
    deadline_s: float | None = None
    cost_per_million: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageTimes:
    """The time of one stage in one worker during a window.

    Attributes:
      name: poll, read, decode, features, predict, encode, send, stage or commit.
      useful_s: seconds in which it worked.
      waiting_s: seconds in which it waited: for a lock, a disk, a broker, a model that sleeps.
      rows: rows that passed through it.
      longest_ms: its longest call.
    """

    name: str
    useful_s: float
    waiting_s: float
    rows: int
    longest_ms: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerTimes:
    """The stage times of one worker during a window.

    Attributes:
      worker: its name: host and process, and its slot if the process has several.
      wall_s: seconds of the window in which it ran.
      cpu_s: CPU seconds of its process, divided by the workers in the process.
      idle_s: seconds in which it waited for records that were not there.
      stages: the stages, in the order of the graph.
    """

    worker: str
    wall_s: float
    cpu_s: float
    idle_s: float
    stages: tuple[StageTimes, ...]

    @property
    def rows(self) -> int:
        """Rows that it scored."""
        return max((stage.rows for stage in self.stages), default=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """What a driver saw of a stream under one load.

    Times are seconds on one clock. Row `i` of the arrays is one record. Records that are due in the
    warm-up belong to them: their rest is part of the backlog. Percentiles and shares are those of
    the records that are due within the window.

    Attributes:
      phase: harness, warm_up, ramp, bisect, confirm, step, spike, soak or ablation.
      shape: poisson, even, trace, step or spike.
      workers: number of workers.
      seed: seed of the arrivals.
      offered_per_s: mean rate of the load within the window.
      begin_s, end_s: the window, without the warm-up before it.
      due_s: when each record should have been sent, sorted.
      sent_s: when it was sent.
      scored_s: when its score or its dead letter could be read; NaN for never.
      is_dead: whether it became a dead letter.
      commit_s: seconds between two commits of the stream: scores come in such portions.
      extra_ids: scores beyond the first of a record, and of records that were never sent.
      lost_ids: records without a score though the offsets after them are committed. None if nobody
        counted: then each record without a score is lost, unless the backlog grows.
      spike_s: begin and end of the spike, None without one; for a step both are its moment.
      capacity_per_s: capacity known before the spike, for the predicted time to recover.
      worker_times: what each worker did within the window.
      memory_at_s, memory_mb: resident memory of all workers over time.
      neighbour_cpu_share: CPU of other processes, as a share of the machine's.
      steal_share: CPU that the hypervisor took, as a share of the machine's.
      replaced: the stage that was replaced by one that does nothing; "" for none.
    """

    phase: str
    shape: str
    workers: int
    seed: int
    offered_per_s: float
    begin_s: float
    end_s: float
    due_s: Floats
    sent_s: Floats
    scored_s: Floats
    is_dead: npt.NDArray[np.bool_]
    commit_s: float
    extra_ids: int = 0
    lost_ids: int | None = None
    spike_s: tuple[float, float] | None = None
    capacity_per_s: float | None = None
    worker_times: tuple[WorkerTimes, ...] = ()
    memory_at_s: Floats = dataclasses.field(default_factory=lambda: np.empty(0))
    memory_mb: Floats = dataclasses.field(default_factory=lambda: np.empty(0))
    neighbour_cpu_share: float = 0.0
    steal_share: float = 0.0
    replaced: str = ""

    @property
    def seconds(self) -> float:
        """Duration of the window."""
        return self.end_s - self.begin_s


class Check(NamedTuple):
    """One condition of a valid measurement."""

    name: str
    limit: float
    value: float
    is_ok: bool


class Limit(NamedTuple):
    """One limit, held against a measurement.

    Attributes:
      name: its name in Slos; `standing_queue` (rows) and `scored_share` belong to the lag.
      limit: the limit.
      measured: what was measured; None if nothing could be.
      outcome: whether it holds.
    """

    name: str
    limit: float
    measured: float | None
    outcome: Outcome


class Recovery(NamedTuple):
    """How a stream came back from a spike or a step.

    Attributes:
      recovered_s: seconds from its end until the latency was normal; None if it never was.
      backlog: rows without a score at its end.
      predicted_s: backlog ÷ (capacity − rate after it); None without a capacity above that rate.
    """

    recovered_s: float | None
    backlog: int
    predicted_s: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """The judgement of one window.

    Attributes:
      outcome: INVALID if a check fails; else FAIL, UNDECIDED or PASS by its limits.
      sent_per_s, scored_per_s: rates within the window.
      latency_ms: percentiles by name: p50, p95, p99, p99.9.
      design_effect: by how much bursts of late rows shrink the number of samples; 1 for none.
      lag_slope_share: growth of the backlog as a share of the offered rate.
      final_backlog: rows without a score at the end of the window.
      send_late_p99_ms: p99 of the time by which rows were sent late.
      limits: the limits.
      checks: the conditions of a valid measurement.
      freshness_s: maximum age of the oldest row without a score.
      error_share: share of rows that became dead letters.
      memory_growth_mb_per_h: growth of the memory of all workers; None if nobody looked.
      memory_hours_left: hours until the memory reaches its limit, if it grows steadily.
      recovery: after the spike or the step of the window.
    """

    outcome: Outcome
    sent_per_s: float
    scored_per_s: float
    latency_ms: dict[str, Percentile]
    design_effect: float
    lag_slope_share: Interval
    final_backlog: int
    send_late_p99_ms: float
    limits: tuple[Limit, ...]
    checks: tuple[Check, ...]
    freshness_s: float = 0.0
    error_share: float = 0.0
    memory_growth_mb_per_h: Interval | None = None
    memory_hours_left: float | None = None
    recovery: Recovery | None = None

    @property
    def invalid_because(self) -> list[str]:
        """The names of the checks that fail."""
        return [check.name for check in self.checks if not check.is_ok]
