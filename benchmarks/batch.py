"""Measure batch scoring side by side: a bare loop, Scoreline, Beam RunInference, tfx-bsl.

    python -m benchmarks.batch --rows 5000000

Every run has its own process, and designs take turns within a repeat. A run on 1,000 rows measures
the cost of start-up. The cost of rows is measured within one process (`benchmarks.steady`), which
runs three jobs. The whole command is measured apart, for the bare loop and Scoreline.
Row-wise designs cost a hundred times as much, so they get fewer rows. The outputs of all designs
are compared, key by key, before any number is printed. Writes build/bench/batch.json and
build/bench/batch.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from benchmarks.compare import Mismatch, check, check_equal
from benchmarks.data import KEY, Workload, demo_workload, tile
from benchmarks.designs import (
    DESIGNS,
    START_UP_ROWS,
    TFX_BSL,
    WHOLE,
    Case,
    choose_cases,
    command_of,
    export_examples_model,
    steady_command_of,
)
from benchmarks.measure import RunFailed, measure
from benchmarks.report import Sample, summarize, write_report
from benchmarks.steady import Cost

_BUILD = Path("build")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if a design failed or its scores differ."""
    args = _parse_args(argv)
    folder = _BUILD / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    workload = demo_workload(_BUILD)
    try:
        samples = run(workload, folder, args)
    except (Mismatch, RunFailed) as e:
        sys.stderr.write(f"\n{e}\n")
        return 1
    print(write_report(summarize(samples), folder))
    return 0


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of the fast designs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", default="small,large", help="with commas between")
    parser.add_argument("--designs", default=",".join(DESIGNS), help="with commas between")
    args = parser.parse_args(argv)
    args.models = args.models.split(",")
    args.designs = args.designs.split(",")
    unknown = [name for name in args.designs if name not in DESIGNS]
    if unknown or args.rows < 10 * START_UP_ROWS or args.repeats < 1:
        parser.error(
            f"expected designs from {','.join(DESIGNS)}, at least {10 * START_UP_ROWS} rows and "
            f"one repeat, got {args.designs}, {args.rows} and {args.repeats}"
        )
    return args


def run(workload: Workload, folder: Path, args: argparse.Namespace) -> dict[Case, list[Sample]]:
    """Run every case in turn, `repeats` times, and check each output.

    Raises:
      RunFailed: a design failed.
      Mismatch: rows or scores of a design differ from the bare loop's.
    """
    cases = [case for model in args.models for case in choose_cases(model, args.designs, args.rows)]
    datasets = tile(workload.flights, folder, sorted({case.rows for case in cases}))
    output = folder / "scores"
    (folder / "logs").mkdir(exist_ok=True)
    for case in cases:
        if case.design == TFX_BSL:
            export_examples_model(case, workload, datasets[case.rows], output)
    samples: dict[Case, list[Sample]] = {case: [] for case in cases}
    references: dict[str, pa.Table] = {}
    progress = _Progress(len(cases) * args.repeats)
    for repeat in range(args.repeats):
        for case in cases:
            progress.begin(f"repeat {repeat + 1}: {case}")
            sample = _run_case(case, workload, datasets, output)
            samples[case].append(sample)
            progress.end(sample)
            _check(case, datasets[case.rows], output, workload.keep, references)
    return samples


def _run_case(case: Case, workload: Workload, datasets: Mapping[int, Path], output: Path) -> Sample:
    command = command_of(case, workload, datasets[case.rows], output)
    log = output.parent / "logs" / f"{case.slug}.log"
    _remove(output)
    if case.rows == START_UP_ROWS:
        return Sample(measure(command, log), None)
    whole = None
    if case.design in WHOLE:
        whole = measure(command, log)
        _remove(output)
    result = output.parent / "steady.json"
    usage = measure(steady_command_of(command, result, datasets[START_UP_ROWS]), log)
    return Sample(usage, Cost(*json.loads(result.read_text())), whole)


def _remove(output: Path) -> None:
    """Remove the scores of the last run, with the folders beside them."""
    for left in output.parent.glob(f"{output.name}*"):
        shutil.rmtree(left)


def _check(
    case: Case,
    dataset: Path,
    output: Path,
    keep: Sequence[str],
    references: dict[str, pa.Table],
) -> None:
    """Compare the output of a case with its input and with the largest case of its model."""
    scores = check(str(case), dataset, output, KEY, keep)
    reference = references.setdefault(case.model, scores)
    check_equal(str(case), scores, reference, KEY)


class _Progress:
    """Prints one line per run to standard error."""

    def __init__(self, runs: int) -> None:
        self._runs, self._done = runs, 0
        self._began = time.monotonic()

    def begin(self, what: str) -> None:
        sys.stderr.write(f"[{self._done + 1}/{self._runs}] {what} … ")
        sys.stderr.flush()

    def end(self, sample: Sample) -> None:
        self._done += 1
        left = (time.monotonic() - self._began) / self._done * (self._runs - self._done)
        usage, rows, _ = sample
        what = f"; {rows.cpu_s:.2f} CPU s, {rows.wall_s:.2f} s for the rows" if rows else ""
        sys.stderr.write(
            f"{usage.cpu_s:.1f} CPU s, {usage.wall_s:.1f} s, {usage.peak_rss_mb:.0f} MB{what} "
            f"(about {left / 60:.0f} min left)\n"
        )


if __name__ == "__main__":
    sys.exit(main())
