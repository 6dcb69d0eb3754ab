"""The cost of `--batch_timeout_s` per row: the same model in this process and in its own process.

    python -m benchmarks.own_process [--rows 2000000] [--repeats 3] [--folder build/bench/formats]

Uses the network of `benchmarks.formats` as a SavedModel, with 16 numbers per row and record batches
of 65,536 rows. The cost is the CPU time of both processes after start-up.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from benchmarks.format_run import make_rows
from scoreline.models.process import ModelProcess
from scoreline.models.servable import Servable, load_servable

_BATCH_ROWS = 65_536
_CALL_ROWS = 32_768
_WARM_UP_BATCHES = 4


def measure(scorer: Servable, batch: pa.RecordBatch, batches: int) -> float:
    """Return the microseconds of CPU time per row, of this process and its children."""
    features = dict(zip(batch.schema.names, batch.columns, strict=True))
    for _ in range(_WARM_UP_BATCHES):
        scorer.predict(features, batch.num_rows)
    before = _cpu_seconds()
    for _ in range(batches):
        scorer.predict(features, batch.num_rows)
    return (_cpu_seconds() - before) / batches / batch.num_rows * 1e6


def _cpu_seconds() -> float:
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("build/bench/formats"))
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.format_run", "save", str(args.folder)]
    subprocess.run(command, check=True)
    model = str(args.folder / "saved_model")
    options: dict[str, Any] = {"batch_rows": _CALL_ROWS, "concurrent_calls": 1}
    batch = pa.RecordBatch.from_pydict(
        {name: pa.array(column) for name, column in make_rows(_BATCH_ROWS).items()}
    )
    batches = max(1, args.rows // _BATCH_ROWS)
    within = load_servable(model, **options)
    process = ModelProcess(model, "serving_default", batch_timeout_s=600, **options)
    with contextlib.closing(process) as own:
        pairs = [
            (measure(within, batch, batches), measure(own, batch, batches))
            for _ in range(args.repeats)
        ]
    here, there = (statistics.median(costs) for costs in zip(*pairs, strict=True))
    print(f"CPU per row: in this process {here:.2f} µs, in its own process {there:.2f} µs")
    print(f"loading the model: {within.load_ms / 1000:.1f} s, and {own.load_ms / 1000:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
