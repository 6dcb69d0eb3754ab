"""Stage times as workers wrote them → what the judge takes."""

from __future__ import annotations

from scoreline.pipelines.load_test.judge.elements import StageTimes, WorkerTimes
from scoreline.transforms.stage_times import WorkerSums


def to_worker_times(worker: WorkerSums) -> WorkerTimes:
    """Return the times of a worker; percentiles of its calls are left out."""
    stages = [
        StageTimes(
            name=name,
            useful_s=stage.useful_s,
            waiting_s=stage.waiting_s,
            rows=stage.rows,
            longest_ms=stage.longest_ms,
        )
        for name, stage in worker.stages.items()
    ]
    return WorkerTimes(
        worker=worker.name,
        wall_s=worker.wall_s,
        cpu_s=worker.cpu_s,
        idle_s=worker.idle_s,
        stages=tuple(stages),
    )
