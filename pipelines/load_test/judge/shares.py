"""The time of workers by stage: which worker is the slowest, and what it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scoreline.pipelines.load_test.judge.elements import WorkerTimes
from scoreline.pipelines.load_test.judge.estimates import busy_s_of


class StageShare(NamedTuple):
    """The time of one stage in the slowest worker.

    Attributes:
      name: the stage.
      useful_s, waiting_s: seconds in which it worked and waited.
      share: both as a share of the time of all stages.
      max_over_mean: its time in the worker with the most, divided by the mean of all workers.
    """

    name: str
    useful_s: float
    waiting_s: float
    share: float
    max_over_mean: float


def slowest(workers: Sequence[WorkerTimes]) -> WorkerTimes | None:
    """Return the worker with the smallest share of idle time; None without workers."""
    return min(workers, key=lambda worker: (idle_share(worker), worker.worker), default=None)


def stage_shares(workers: Sequence[WorkerTimes]) -> tuple[StageShare, ...]:
    """Return the stages of the slowest worker, in the order of the graph."""
    worker = slowest(workers)
    if worker is None:
        return ()
    total_s = sum(stage.useful_s + stage.waiting_s for stage in worker.stages)
    return tuple(
        StageShare(
            stage.name,
            stage.useful_s,
            stage.waiting_s,
            (stage.useful_s + stage.waiting_s) / total_s if total_s else 0.0,
            _max_over_mean([sum(_times_of(other, stage.name)) for other in workers]),
        )
        for stage in worker.stages
    )


def evenness(workers: Sequence[WorkerTimes]) -> float:
    """Return rows or busy time of the busiest worker ÷ the mean, whichever is larger."""
    return max(
        _max_over_mean([worker.rows for worker in workers]),
        _max_over_mean([busy_s_of(worker) for worker in workers]),
    )


def idle_share(worker: WorkerTimes) -> float:
    """Return the share of its time without records; 1 for a worker that never ran."""
    return worker.idle_s / worker.wall_s if worker.wall_s else 1.0


def stages_share(worker: WorkerTimes) -> float:
    """Return the share of its time in stages; 0 for a worker that never ran."""
    return min(1.0, _stages_s(worker) / worker.wall_s) if worker.wall_s else 0.0


def _times_of(worker: WorkerTimes, name: str) -> tuple[float, float]:
    found = [stage for stage in worker.stages if stage.name == name]
    return sum(stage.useful_s for stage in found), sum(stage.waiting_s for stage in found)


def _stages_s(worker: WorkerTimes) -> float:
    return sum(stage.useful_s + stage.waiting_s for stage in worker.stages)


def wait_share(worker: WorkerTimes, name: str) -> float:
    """Return the waiting time in a stage as a share of the time of all stages."""
    total_s = _stages_s(worker)
    return _times_of(worker, name)[1] / total_s if total_s else 0.0


def wait_s_per_row(worker: WorkerTimes, name: str) -> float:
    """Return the waiting seconds in a stage for each row."""
    return _times_of(worker, name)[1] / worker.rows if worker.rows else 0.0


def stages_s_per_row(workers: Sequence[WorkerTimes]) -> float:
    """Return the seconds of all stages for each row, the mean of the workers."""
    return sum(map(_stages_s, workers)) / max(sum(worker.rows for worker in workers), 1)


def _max_over_mean(values: Sequence[float]) -> float:
    mean = sum(values) / len(values) if values else 0.0
    return max(values) / mean if mean else 1.0
