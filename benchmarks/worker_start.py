"""A worker process up to its first score: prints its CPU seconds and its resident MB.

    python -m benchmarks.worker_start --input … --model … --fill T=VALUE [--own_process]

It imports what a worker of the local pool imports, and what Beam unpickles in it for a batch job.
With --own_process the model runs in a process of its own, and the figures are of that process.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.data import KEY
from deploy.local.worker import prepare

_STEPS = ("commit", "outcomes", "read", "resume", "score", "stage")
# Longer than the run, so that only the process counts.
_TIMEOUT_S = 3600.0


def main(argv: Sequence[str] | None = None) -> int:
    """Score one file, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--fill", action="append", default=[])
    parser.add_argument("--own_process", action="store_true")
    args = parser.parse_args(argv)
    if not args.own_process:
        prepare()
        importlib.import_module("apache_beam.runners.worker.sdk_worker")
        for step in _STEPS:
            importlib.import_module(f"scoreline.transforms.{step}")
    import pyarrow.parquet as pq

    import scoreline

    fills = dict(fill.split("=", 1) for fill in args.fill)
    timeout_s = _TIMEOUT_S if args.own_process else None
    model = scoreline.load(args.model, fills=fills, batch_timeout_s=timeout_s)
    file = next(Path(args.input).glob("*=*/*.parquet"))
    model.score(pq.ParquetFile(file).read(), keys=[KEY])
    process = psutil.Process(os.getpid())
    if args.own_process:
        (process,) = process.children()
    times = process.cpu_times()
    print(f"{times.user + times.system:.2f} {process.memory_info().rss / 1e6:.0f}")
    model.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
