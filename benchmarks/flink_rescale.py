"""Measure a running job's rows/s before and after a TaskManager is added to its cluster.

    python -m benchmarks.flink_rescale --rows 16000000

The job may use two slots and starts on one TaskManager with one slot. A second TaskManager starts
30 s after the first shard. Rates come from the times at which the files of shards appear. Writes
build/bench/flink_rescale.md.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.compare import check
from benchmarks.data import KEY, demo_workload, tile
from benchmarks.designs import SCORELINE, Case, command_of
from benchmarks.flink import SHAPES, cluster_of
from benchmarks.shard_times import Staged, read_staged, rows_per_s

_BUILD = Path("build")
_ALONE_SECONDS = 30.0
_PATIENCE_SECONDS = 300.0


def describe(staged: Staged, added: float, joined: float) -> str:
    """Return the effect of adding a TaskManager, as a Markdown table.

    Args:
      staged: the shards.
      added: time at which the second TaskManager was started.
      joined: time at which it had a worker.
    """
    ends = staged.at[-1]
    before = rows_per_s(staged, 0, added)
    after = staged.at[staged.at > joined]
    faster = rows_per_s(staged, float(after[1]), ends)
    return "\n".join(
        [
            "| | rows/s |",
            "|---|--:|",
            f"| one TaskManager | {before:,.0f} |",
            f"| two TaskManagers | {faster:,.0f} ({faster / before:.2f} ×) |",
            "",
            f"The second TaskManager started {added - staged.at[0]:.0f} s after the first shard. "
            f"It had a worker {joined - added:.0f} s later. The next shard was staged "
            f"{after[0] - joined:.0f} s after that.",
            "",
        ]
    )


def run(rows: int, model: str) -> str:
    """Run a job, add a TaskManager to it, check its table, and return the observations."""
    folder = _BUILD / "bench"
    workload = demo_workload(_BUILD)
    dataset = tile(workload.flights, folder, [rows])[rows]
    output = folder / "flink-scores"
    shutil.rmtree(output, ignore_errors=True)
    with cluster_of(SHAPES["flink-1x1"], folder) as cluster:
        case = Case(SCORELINE, model, 1, rows)
        command = [
            *command_of(case, workload, dataset, output),
            *cluster.arguments,
            "--parallelism=2",
        ]
        log = folder / "logs" / "flink_rescale.log"
        with log.open("wb") as stream:
            job = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            _wait(job, log, lambda: next(output.rglob("*.parquet"), None) is not None)
            time.sleep(_ALONE_SECONDS)
            added = time.time()
            cluster.scale(2)
            _wait(job, log, lambda: len(cluster.workers()) == 2)
            joined = time.time()
            if job.wait(1800):
                raise RuntimeError(f"expected the job to succeed, see {log}")
        finally:
            job.terminate()
            job.wait()
    check("Flink", dataset, output, KEY, workload.keep)
    return describe(read_staged(output), added, joined)


def _wait(job: subprocess.Popen[bytes], log: Path, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if job.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"expected the job to run on, see {log}")
        time.sleep(0.1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=16_000_000)
    parser.add_argument("--model", choices=("small", "large"), default="large")
    given = parser.parse_args(argv)
    text = run(given.rows, given.model)
    (_BUILD / "bench" / "flink_rescale.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
