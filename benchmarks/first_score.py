"""What it costs until the first score: a small night, a worker that joins, a stream, Flink.

    python -m benchmarks.startup --first_scores [--engines kafka,flink]

Data and model are those of the demo.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks import flink, stream_designs
from benchmarks.data import Workload, demo_workload, tile
from benchmarks.designs import BARE_LOOP, SCORELINE, START_UP_ROWS, Case, command_of
from benchmarks.measure import measure
from deploy.local.flink_cluster import FlinkCluster
from deploy.local.kafka_broker import Broker
from deploy.local.processes import free_ports

_FOLDER = stream_designs.BUILD / "bench"
_SMALL = "small"


class Cost(NamedTuple):
    """The cost until the first score, or of a small job."""

    cpu_s: float
    wall_s: float
    memory_mb: float


def measure_first_scores(repeats: int, engines: Collection[str]) -> dict[str, list[Cost]]:
    """Return the costs of each case, by its name; cases are interleaved.

    Args:
      repeats: runs of each case.
      engines: of `kafka` and `flink`; their cases need them.
    """
    work = demo_workload(stream_designs.BUILD)
    (_FOLDER / "logs").mkdir(parents=True, exist_ok=True)
    dataset = tile(work.flights, _FOLDER, [START_UP_ROWS])[START_UP_ROWS]
    costs: dict[str, list[Cost]] = {}
    with ExitStack() as stack:
        cases = _local_cases(work, dataset)
        if "kafka" in engines:
            port, controller = free_ports(2)
            broker = Broker(
                folder=_FOLDER / "kafka", port=port, controller_port=controller, owner=os.getpid()
            )
            stack.callback(broker.kill)
            broker.start()
            cases["stream, 1 partition"] = lambda: _start_stream(broker.address, work)
        if "flink" in engines:
            shape = flink.SHAPES["flink-1x1"]
            cluster = stack.enter_context(flink.cluster_of(shape, _FOLDER))
            cases["batch on Flink"] = lambda: _run_on_flink(cluster, work, dataset)
        for _ in range(repeats):
            for name, run in cases.items():
                costs.setdefault(name, []).append(run())
                print(f"{name}: {costs[name][-1]}", file=sys.stderr, flush=True)
    return costs


def _local_cases(work: Workload, dataset: Path) -> dict[str, Callable[[], Cost]]:
    return {
        f"bare loop, {START_UP_ROWS:,} rows": lambda: _run_batch(BARE_LOOP, work, dataset),
        f"`scoreline batch`, {START_UP_ROWS:,} rows": lambda: _run_batch(SCORELINE, work, dataset),
        "a worker process": lambda: _start_worker(work, dataset),
        "a model's own process": lambda: _start_worker(work, dataset, "--own_process"),
    }


def _run_batch(design: str, work: Workload, dataset: Path) -> Cost:
    output = _FOLDER / "first-scores"
    shutil.rmtree(output, ignore_errors=True)
    command = command_of(Case(design, _SMALL, 1, START_UP_ROWS), work, dataset, output)
    return Cost(*measure(command, _FOLDER / "logs" / "first-score.log"))


def _start_worker(work: Workload, dataset: Path, *flags: str) -> Cost:
    fills = [f"--fill={name}={value}" for name, value in work.fills.items()]
    options = [f"--input={dataset}", f"--model={work.models[_SMALL]}", *fills, *flags]
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.worker_start", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cpu_s, memory_mb = map(float, done.stdout.split())
    return Cost(cpu_s, time.perf_counter() - began, memory_mb)


def _start_stream(brokers: str, work: Workload) -> Cost:
    case = stream_designs.Case(
        design="scoreline", pattern="steady", partitions=1, rate=1, seconds=0, warm_up=0
    )
    began = time.perf_counter()
    with stream_designs.running(case, brokers, work) as started:
        seconds = time.perf_counter() - began
        cpu_s, memory_mb = started.used()
    return Cost(cpu_s, seconds, memory_mb)


def _run_on_flink(cluster: FlinkCluster, work: Workload, dataset: Path) -> Cost:
    shape = flink.SHAPES["flink-1x1"]
    sample = flink.run_once(shape, _SMALL, START_UP_ROWS, work, dataset, _FOLDER, cluster)
    for name, seconds in sample.cpu_s.items():
        print(f"  {name}: {seconds:.1f} CPU s", file=sys.stderr)
    if sample.first_row_s is None:
        raise RuntimeError("expected a staged shard, got none")
    return Cost(sum(sample.cpu_s.values()), sample.first_row_s, sum(sample.memory_mb.values()))


def print_first_scores(costs: dict[str, list[Cost]]) -> None:
    """Print the medians as a table, and the small night in relation to the bare loop."""
    print("\n| until the first score | CPU s | s | MB |\n|---|--:|--:|--:|")
    for name, found in costs.items():
        cells = [statistics.median(values) for values in zip(*found, strict=True)]
        print(f"| {name} | {cells[0]:.1f} | {cells[1]:.1f} | {cells[2]:.0f} |")
    loop, ours = (found for name, found in costs.items() if f"{START_UP_ROWS:,} rows" in name)
    ratio = statistics.median(b.cpu_s / a.cpu_s for a, b in zip(loop, ours, strict=True))
    print(f"\nCPU of {START_UP_ROWS:,} rows against the bare loop, median of pairs: {ratio:.2f} ×")
