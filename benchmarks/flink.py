"""Measure a batch job on Flink against the local runner and a bare loop, on one machine.

    python -m benchmarks.flink --rows 5000000

Rows/s are measured between the first and the last staged shard, by the times of their files. The
first quarter of that time is left out, so that all workers run and start-up does not count. For the
bare loop, which has no shards, start-up is a run on 1,000 rows. Numbers are medians over repeats.
Each shape (TaskManagers × slots) gets its own cluster. Memory is the peak of each process. Writes
build/bench/flink.json and build/bench/flink.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.compare import check
from benchmarks.data import KEY, Workload, demo_workload, tile
from benchmarks.designs import BARE_LOOP, SCORELINE, START_UP_ROWS, Case, command_of
from benchmarks.measure import measure
from benchmarks.shard_times import read_staged, rows_per_s
from deploy.local.flink_cluster import FlinkCluster, own_cluster

_BUILD = Path("build")
_POLL_SECONDS = 0.1
_POLLS_PER_LOOK = 20
_PYTHON = "Python workers"


class Shape(NamedTuple):
    """The workers of a run: `task_managers` × `slots` on Flink, or `slots` local workers."""

    runner: str
    task_managers: int
    slots: int
    sharing: str = "machine"

    def __str__(self) -> str:
        if self.runner != "flink":
            return self.runner if self.slots == 1 else f"{self.runner}, {self.slots} workers"
        shape = f"Flink, {self.task_managers} TaskManager × {self.slots} slots"
        return shape if self.sharing == "machine" else f"{shape}, a model for each slot"


SHAPES = {
    "bare_loop": Shape(BARE_LOOP, 0, 1),
    "local-1": Shape(SCORELINE, 0, 1),
    "local-2": Shape(SCORELINE, 0, 2),
    "flink-1x1": Shape("flink", 1, 1),
    "flink-1x2": Shape("flink", 1, 2),
    "flink-2x1": Shape("flink", 2, 1),
    "flink-1x2-process": Shape("flink", 1, 2, "process"),
}


@dataclasses.dataclass(kw_only=True)
class Sample:
    """The cost of one run.

    Attributes:
      rows_per_s: throughput while all workers run; 0 for a job of one shard.
      wall_s: time of the whole command.
      first_row_s: time from its start to the first staged shard; None if nothing is staged.
      memory_mb: peak resident size by process, of all processes of the run.
      cpu_s: CPU time by process.
    """

    rows_per_s: float
    wall_s: float
    first_row_s: float | None
    memory_mb: dict[str, float]
    cpu_s: dict[str, float]


class _Watcher(threading.Thread):
    """Samples a cluster's processes, and detects the first staged shard, until it is stopped."""

    def __init__(self, cluster: FlinkCluster | None, output: Path) -> None:
        super().__init__(daemon=True)
        self._cluster, self._output = cluster, output
        self._stopped = threading.Event()
        self._began = time.perf_counter()
        self.first_row_s: float | None = None
        self._memory: dict[str, float] = {}
        self._cpu_before: dict[int, float] = {}
        self._cpu: dict[int, tuple[str, float]] = {}

    def run(self) -> None:
        polls = 0
        while not self._stopped.wait(_POLL_SECONDS):
            receipts = (self._output / "_scoreline" / "receipts").glob("*/*-scores.json")
            if self.first_row_s is None and next(receipts, None):
                self.first_row_s = time.perf_counter() - self._began
            # Sampling all processes takes 8 ms of CPU time from them.
            if polls % _POLLS_PER_LOOK == 0:
                self._look()
            polls += 1

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    @property
    def memory_mb(self) -> dict[str, float]:
        return self._memory

    @property
    def cpu_s(self) -> dict[str, float]:
        total: dict[str, float] = {}
        for pid, (name, seconds) in self._cpu.items():
            total[name] = total.get(name, 0) + seconds - self._cpu_before[pid]
        return total

    def _look(self) -> None:
        if self._cluster is None:
            return
        named = {
            record.name: [psutil.Process(record.pid)]
            for record in self._cluster.processes.running().values()
        }
        named[_PYTHON] = self._cluster.workers()
        for name, processes in named.items():
            size = 0.0
            for process in processes:
                try:
                    size += process.memory_info().rss / 1e6
                    times = process.cpu_times()
                except psutil.Error:
                    continue
                seconds = times.user + times.system
                # A worker that starts with the job has used no CPU time before.
                known = 0.0 if name == _PYTHON else seconds
                self._cpu_before.setdefault(process.pid, known)
                self._cpu[process.pid] = (name, seconds)
            self._memory[name] = max(self._memory.get(name, 0.0), size)


def cluster_of(shape: Shape, folder: Path) -> AbstractContextManager[FlinkCluster]:
    """Start a cluster of a shape on free ports, and stop it at the end."""
    return own_cluster(folder / "flink", shape.task_managers, shape.slots)


def run_once(
    shape: Shape,
    model: str,
    rows: int,
    workload: Workload,
    dataset: Path,
    folder: Path,
    cluster: FlinkCluster | None,
) -> Sample:
    """Run a shape once, and return its cost."""
    output = folder / "flink-scores"
    for left in folder.glob(f"{output.name}*"):
        shutil.rmtree(left)
    design = SCORELINE if cluster else shape.runner
    command = command_of(Case(design, model, shape.slots, rows), workload, dataset, output)
    if cluster is not None:
        command += [*cluster.arguments, f"--model_sharing={shape.sharing}"]
    watcher = _Watcher(cluster, output)
    watcher.start()
    try:
        usage = measure(command, folder / "logs" / "flink.log")
    finally:
        watcher.stop()
    check(str(shape), dataset, output, KEY, workload.keep)
    if shape.runner == BARE_LOOP:
        speed = rows / usage.wall_s
    else:
        staged = read_staged(output)
        first, last = staged.at[[0, -1]]
        several = last > first
        speed = rows_per_s(staged, first + (last - first) / 4, last) if several else 0.0
    return Sample(
        rows_per_s=speed,
        wall_s=usage.wall_s,
        first_row_s=watcher.first_row_s,
        memory_mb={"launcher": usage.peak_rss_mb, **watcher.memory_mb},
        cpu_s={"launcher": usage.cpu_s, **watcher.cpu_s},
    )


def run(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Run every shape on every model, and return one summary per combination."""
    workload = demo_workload(_BUILD)
    datasets = tile(workload.flights, folder, [START_UP_ROWS, args.rows])
    results = []
    for model in args.models.split(","):
        for shape in (SHAPES[name] for name in args.shapes.split(",")):
            is_flink = shape.runner == "flink"
            with cluster_of(shape, folder) if is_flink else nullcontext() as cluster:
                samples = [
                    _run_and_tell(shape, model, args.rows, workload, datasets, folder, cluster)
                    for _ in range(args.repeats)
                ]
            results.append(_summarize(shape, model, samples))
    return results


def _run_and_tell(
    shape: Shape,
    model: str,
    rows: int,
    workload: Workload,
    datasets: dict[int, Path],
    folder: Path,
    cluster: FlinkCluster | None,
) -> Sample:
    sys.stderr.write(f"{model}, {shape}, {rows:,} rows … ")
    sys.stderr.flush()
    sample = run_once(shape, model, rows, workload, datasets[rows], folder, cluster)
    if shape.runner == BARE_LOOP:
        few = datasets[START_UP_ROWS]
        start = run_once(shape, model, START_UP_ROWS, workload, few, folder, None)
        seconds = max(sample.wall_s - start.wall_s, 1e-3)
        sample.rows_per_s = (rows - START_UP_ROWS) / seconds
    sys.stderr.write(f"{sample.wall_s:.1f} s, {sample.rows_per_s:,.0f} rows/s\n")
    return sample


def _summarize(shape: Shape, model: str, samples: Sequence[Sample]) -> dict[str, Any]:
    firsts = [sample.first_row_s for sample in samples if sample.first_row_s is not None]
    return {
        "model": model,
        "shape": str(shape),
        "slots": shape.slots * max(1, shape.task_managers),
        "is_flink": shape.runner == "flink",
        "is_local": shape.runner == SCORELINE,
        "rows_per_s": statistics.median(sample.rows_per_s for sample in samples),
        "wall_s": statistics.median(sample.wall_s for sample in samples),
        "first_row_s": statistics.median(firsts) if firsts else None,
        "memory_mb": samples[-1].memory_mb,
        "cpu_s": samples[-1].cpu_s,
    }


def write_report(results: Sequence[dict[str, Any]], folder: Path) -> str:
    """Write the numbers; return them as a table with the ratio to as many local workers."""
    (folder / "flink.json").write_text(json.dumps(results, indent=1))
    local = {(r["model"], r["slots"]): r["rows_per_s"] for r in results if r["is_local"]}
    lines = [
        "| model | runs on | rows/s | × local, as many workers | whole command s | first shard s "
        "| peak MB by process | CPU s by process |",
        "|---|---|--:|--:|--:|--:|---|---|",
    ]
    for r in results:
        base = local.get((r["model"], r["slots"]))
        ratio = f"{r['rows_per_s'] / base:.2f}" if r["is_flink"] and base else ""
        first = "" if r["first_row_s"] is None else f"{r['first_row_s']:.1f}"
        memory = " · ".join(f"{name} {size:.0f}" for name, size in r["memory_mb"].items())
        cpu = " · ".join(f"{name} {seconds:.1f}" for name, seconds in r["cpu_s"].items())
        lines.append(
            f"| {r['model']} | {r['shape']} | {r['rows_per_s']:,.0f} | {ratio} "
            f"| {r['wall_s']:.1f} | {first} | {memory} | {cpu} |"
        )
    text = "\n".join(lines) + "\n"
    (folder / "flink.md").write_text(text)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", default="small,large", help="with commas between")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="with commas between")
    args = parser.parse_args(argv)
    if set(args.shapes.split(",")) - set(SHAPES) or args.rows <= START_UP_ROWS or args.repeats < 1:
        parser.error(
            f"expected shapes from {','.join(SHAPES)}, over {START_UP_ROWS} rows and one repeat, "
            f"got {args.shapes}, {args.rows} and {args.repeats}"
        )
    folder = _BUILD / "bench"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    print(write_report(run(args, folder), folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
