"""Measure the start-up cost of commands, in CPU seconds of whole processes.

    python -m benchmarks.startup [--repeats 5] [--first_scores] [--engines kafka,flink]

Prints tables for docs/numbers.md. Each line is the median of user plus system time of a process
and its children, so other load on the machine has little effect. With --first_scores there is a
second table: a night of 1,000 rows, workers, and the engines that are named.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.first_score import measure_first_scores, print_first_scores
from scoreline.models.runtimes.tensorflow import import_tensorflow

_ROWS = 1000


class Case(NamedTuple):
    """A command line, its name in the table, and its expected exit code."""

    name: str
    arguments: Sequence[str]
    exit_code: int


def make_cases(folder: Path) -> list[Case]:
    """Write a small dataset, a model and a table of scores; return the cases to measure."""
    lake, model, scores = (folder / name for name in ("lake", "model", "scores"))
    (lake / "date=2024-01-01").mkdir(parents=True)
    rows = {"id": np.arange(_ROWS), "x": np.linspace(0, 1, _ROWS, dtype=np.float32)}
    pq.write_table(pa.table(rows), lake / "date=2024-01-01" / "0.parquet")
    _save_model(model)
    scoring = [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={scores}"]
    run(Case("prepare", ["batch", *scoring], 0))
    return [
        Case("scoreline --help", ["--help"], 0),
        Case("scoreline batch --help", ["batch", "--help"], 0),
        Case("scoreline stream --help", ["stream", "--help"], 0),
        Case("scoreline batch --nonsense (option error)", ["batch", "--nonsense"], 2),
        Case("scoreline batch (required options missing)", ["batch"], 2),
        Case("scoreline table status", ["table", "status", f"--output={scores}"], 0),
        Case("scoreline batch --check", ["batch", "--check", "--reprocess=all", *scoring], 0),
    ]


def _save_model(path: Path) -> None:
    """Save a model of one multiplication."""
    tf = import_tensorflow()
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    wanted = tf.TensorSpec([None], tf.float32, name="x")
    serve = tf.function(lambda x: {"score": x * module.weight}, input_signature=[wanted])
    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})


def run(case: Case) -> float:
    """Run a command line to its end; return its CPU seconds.

    Raises:
      RuntimeError: it ended with an unexpected exit code.
    """
    before = os.times()
    command = [sys.executable, "-m", "scoreline", *case.arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = os.times()
    if done.returncode != case.exit_code:
        raise RuntimeError(f"{case.name} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return (
        after.children_user - before.children_user + after.children_system - before.children_system
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--first_scores", action="store_true")
    parser.add_argument("--engines", default="", help="of kafka,flink")
    args = parser.parse_args(argv)
    repeats = args.repeats
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(Path(folder))
        seconds: dict[str, list[float]] = {case.name: [] for case in cases}
        for _ in range(repeats):
            for case in cases:
                seconds[case.name].append(run(case))
    print(f"| command | CPU s (median of {repeats}) | fastest | slowest |\n|---|--:|--:|--:|")
    for name, found in seconds.items():
        middle = statistics.median(found)
        print(f"| `{name}` | {middle:.2f} | {min(found):.2f} | {max(found):.2f} |")
    if args.first_scores:
        print_first_scores(measure_first_scores(repeats, args.engines.split(",")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
