"""A night, and one with twice the rows, each with the workers that end before the deadline."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
from rich.console import Console

from demo.data import KEY, PARTITION_COLUMN
from demo.run_local import DATASET
from demo.waiting_model import save_waiting
from deploy.local.flink_cluster import FlinkCluster
from scoreline.pipelines.load_test.judge.elements import Interval
from scoreline.pipelines.load_test.judge.volume import Line, Volume, workers_for
from scoreline.pipelines.report.console import say

US_PER_ROW = 1000
_SMALL, _NIGHT = 5, 40  # days of flights, about 900 rows each
# The deadline is this multiple of the time that one worker takes for a night: twice the rows need
# another worker.
_DEADLINE = 1.25


class Night(NamedTuple):
    """A batch with a deadline; times in seconds from the start of the command."""

    rows: int
    workers: int
    took_s: float
    deadline_s: float


def run_nights(
    flink: FlinkCluster, build: Path, further: Sequence[str], console: Console
) -> list[Night]:
    """Score a night with one worker, and twice the rows with as many as they need."""
    model = build / "models" / "waiting-batch"
    if not model.exists():
        save_waiting(model, us_per_row=US_PER_ROW, column="distance")
    files = sorted(Path(DATASET).glob("*=*/*.parquet"))

    def run(days: int) -> float:
        return _run(flink, model, files[:days], build / "autoscale" / "scores", further)

    flink.cancel_jobs()
    flink.scale(1)
    small, night, twice = (_rows(files[:days]) for days in (_SMALL, _NIGHT, 2 * _NIGHT))
    small_s, night_s = run(_SMALL), run(_NIGHT)
    volume = fit_two(small, small_s, night, night_s)
    deadline_s = _DEADLINE * night_s
    nights = [Night(night, 1, night_s, deadline_s)]
    _say(console, nights[-1])
    needed = workers_for(twice, deadline_s, volume, tested_workers=1)
    if needed.workers is None:
        raise ValueError(needed.refused_because)
    workers = int(needed.workers.value)
    alone_s = volume.wall.start_up_s.value + twice * volume.wall.us_per_row.value / 1e6
    say(
        console,
        f"twice the rows take {alone_s:.0f} s with 1 worker; before the deadline with {workers}",
    )
    flink.scale(workers)
    nights.append(Night(twice, workers, run(2 * _NIGHT), deadline_s))
    _say(console, nights[-1])
    return nights


def fit_two(rows: int, seconds: float, more_rows: int, more_seconds: float) -> Volume:
    """Return start-up and cost per row from two runs, as `scoreline load-test` does from many.

    Raises:
      ValueError: more rows took no longer.
    """
    us_per_row = (more_seconds - seconds) / (more_rows - rows) * 1e6
    if us_per_row <= 0:
        raise ValueError(
            f"expected {more_rows:,} rows to take longer than {rows:,}, got {more_seconds:.0f} s "
            f"and {seconds:.0f} s. Wait until the machine is quiet"
        )
    start_up_s = seconds - rows * us_per_row / 1e6
    line = Line(*(Interval(value, value, value) for value in (start_up_s, us_per_row)))
    return Volume(line, line, "", None, None)


def _run(
    flink: FlinkCluster, model: Path, files: Sequence[Path], output: Path, further: Sequence[str]
) -> float:
    """Return the seconds of a batch on the cluster."""
    shutil.rmtree(output, ignore_errors=True)
    first, last = (file.parent.name.partition("=")[2] for file in (files[0], files[-1]))
    command = [sys.executable, "-m", "scoreline", "batch", f"--input={DATASET}"]
    command += [f"--model={model}", f"--keys={KEY}", f"--output={output}"]
    command += ["--columns=distance=float32(distance)"]
    command += [f"--partitions={PARTITION_COLUMN}={first}..{last}", *flink.arguments, *further]
    began = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"expected the batch to end with 0, got {done.returncode}: {done.stderr}"
        )
    return time.monotonic() - began


def _rows(files: Sequence[Path]) -> int:
    return sum(pq.ParquetFile(file).metadata.num_rows for file in files)


def _say(console: Console, night: Night) -> None:
    say(
        console,
        f"night of {night.rows:,} rows with {night.workers} worker{'s' * (night.workers > 1)}: "
        f"{night.took_s:.0f} s of {night.deadline_s:.0f} s",
    )
