"""The method of a load test of a batch: which volumes are scored, and in which order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from scoreline.pipelines.load_test.budget import Budget
from scoreline.pipelines.load_test.driver.batch import BatchRun
from scoreline.pipelines.load_test.judge.bottleneck import (
    Bottleneck,
    Evidence,
    confirm,
    find_bottleneck,
)
from scoreline.pipelines.load_test.judge.elements import Outcome
from scoreline.pipelines.load_test.judge.volume import BatchRun as Cost
from scoreline.pipelines.load_test.judge.volume import Volume, fit_volume
from scoreline.transforms.null_stages import OF_BATCH

# Runs of each volume, by precision.
REPEATS = {"quick": 2, "normal": 3, "fine": 5}


class Batch(Protocol):
    """A batch that can be run on volumes; `driver.batch.BatchDriver` is one."""

    def run(self, factor: int, *, workers: int, replaced: str = "") -> BatchRun:
        """Run it."""


@dataclasses.dataclass(kw_only=True)
class Found:
    """What was found out about a batch.

    Attributes:
      runs: all runs of the whole command, in the order of time.
      volume: its cost over the volume; None with too few volumes.
      rates: rows per second of the whole command at the largest volume, by number of workers.
      bottleneck: the stage with the largest share; None without a run.
    """

    runs: list[BatchRun] = dataclasses.field(default_factory=list)
    volume: Volume | None = None
    rates: dict[int, float] = dataclasses.field(default_factory=dict)
    bottleneck: Bottleneck | None = None


def run_batches(
    batch: Batch,
    *,
    volumes: Sequence[int],
    workers: Sequence[int],
    repeats: int,
    budget: Budget,
    say: Callable[[str], None],
) -> Found:
    """Run a batch on each volume several times, in turns, then with other numbers of workers.

    The first run is not counted: it fills the cache of the disk. The largest volume is run once
    more without the stage that takes most of the time. What does not fit into the budget is left
    out.

    Args:
      batch: the batch.
      volumes: multiples of the input, ascending.
      workers: numbers of workers; the first one is that of the verdict.
      repeats: runs of each volume.
      budget: the time that the test may take.
      say: tells the user about progress.

    Raises:
      BadOptions: the command refuses its options, or it fails.
    """
    found = Found()
    first = batch.run(volumes[0], workers=workers[0])
    say(_describe(first))
    fixed_s, row_s = first.wall_s, 0.0

    def run(factor: int, count: int, replaced: str = "") -> BatchRun | None:
        nonlocal fixed_s, row_s
        expected_s = fixed_s + row_s * first.facts.rows * factor
        if not budget.allows(expected_s, f"volume × {factor} with {count} workers"):
            return None
        done = batch.run(factor, workers=count, replaced=replaced)
        if factor > volumes[0]:
            more = done.facts.rows - first.facts.rows
            row_s = max(row_s, (done.wall_s - fixed_s) / more)
        say(_describe(done))
        return done

    for _ in range(repeats):
        for factor in volumes:
            done = run(factor, workers[0])
            if done is not None:
                found.runs.append(done)
    if not found.runs:
        found.runs.append(first)
    found.volume = _fit(found.runs)
    largest = max(found.runs, key=lambda each: each.facts.rows)
    found.rates[workers[0]] = largest.facts.rows / largest.wall_s
    found.bottleneck = find_bottleneck(Evidence(worker_times=largest.worker_times))
    stage = found.bottleneck.stage
    without = run(largest.factor, workers[0], stage) if stage in OF_BATCH else None
    if without is not None:
        gained = without.facts.rows / without.wall_s
        found.bottleneck = confirm(
            found.bottleneck,
            Outcome.PASS if without.wall_s < largest.wall_s else Outcome.FAIL,
            capacity_per_s=found.rates[workers[0]],
            ablated_per_s=gained,
        )
    for count in workers[1:]:
        done = run(largest.factor, count)
        if done is not None:
            found.rates[count] = done.facts.rows / done.wall_s
    return found


def _fit(runs: Sequence[BatchRun]) -> Volume | None:
    costs = [Cost(run.facts.rows, run.wall_s, run.cpu_s, _stages_s(run)) for run in runs]
    try:
        return fit_volume(costs)
    except ValueError:  # the budget left too few volumes
        return None


def _stages_s(run: BatchRun) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for worker in run.worker_times:
        for stage in worker.stages:
            took = stage.useful_s + stage.waiting_s
            seconds[stage.name] = seconds.get(stage.name, 0.0) + took
    return seconds


def _describe(run: BatchRun) -> str:
    without = f" without {run.replaced}" if run.replaced else ""
    return (
        f"volume × {run.factor} with {run.workers} workers{without}: {run.facts.rows:,} rows in "
        f"{run.wall_s:.1f} s, {run.cpu_s:.1f} CPU s"
    )
