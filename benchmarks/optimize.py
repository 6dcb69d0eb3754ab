"""Measure jobs with the variants of `scoreline optimize` beside a bare TensorFlow loop.

    python -m benchmarks.optimize --rows 500000

Variants of the small and of the large model are made first, if they are not there. Then the bare
loop, Scoreline with the parent, and Scoreline with `--model auto:…` take turns: on 1,000 rows as
whole commands, and on all rows within one process (`benchmarks.steady`). Prints a table of ratios
to the bare loop: medians over the repeats.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.data import Workload, demo_workload, tile
from benchmarks.designs import (
    BARE_LOOP,
    SCORELINE,
    START_UP_ROWS,
    Case,
    command_of,
    steady_command_of,
)
from benchmarks.measure import Usage, measure
from benchmarks.steady import Cost
from demo.run_optimize import OPTIMIZED
from demo.run_optimize import main as make_variants
from scoreline.models.variants import REPORT, choose_variant

_BUILD = Path("build")
PARENT, VARIANT = "Scoreline, parent", "Scoreline, cheapest variant"
DESIGNS = ("bare loop", PARENT, VARIANT)


class Sample(NamedTuple):
    """One turn: the cost of all rows beyond start-up, and the whole command on 1,000 rows."""

    rows: Cost
    small: Usage


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", default="small,large", help="with commas between")
    args = parser.parse_args(argv)
    models = args.models.split(",")
    folder = _BUILD / "bench"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    workload = demo_workload(_BUILD)
    for model in models:
        if not Path(OPTIMIZED, model, REPORT).exists() and make_variants([f"--only={model}"]):
            return 1
    datasets = tile(workload.flights, folder, [START_UP_ROWS, args.rows])
    for model in models:
        samples: dict[str, list[Sample]] = {design: [] for design in DESIGNS}
        for repeat in range(args.repeats):
            for design in DESIGNS:
                sys.stderr.write(f"{model}, repeat {repeat + 1}: {design}\n")
                samples[design].append(_run(design, model, workload, datasets, folder))
        print(format_table(model, samples, args.rows))
    return 0


def _run(
    design: str, model: str, workload: Workload, datasets: Mapping[int, Path], folder: Path
) -> Sample:
    rows, output, log = max(datasets), folder / "scores", folder / "logs" / "optimize.log"

    def command(count: int) -> list[str]:
        case = Case(BARE_LOOP if design == DESIGNS[0] else SCORELINE, model, 1, count)
        flags = command_of(case, workload, datasets[count], output)
        if design != VARIANT:
            return flags
        auto = f"--model=auto:{Path(OPTIMIZED, model)}"
        return [auto if flag.startswith("--model=") else flag for flag in flags]

    _remove(output)
    small = measure(command(START_UP_ROWS), log)
    _remove(output)
    result = folder / "steady.json"
    measure(steady_command_of(command(rows), result, datasets[START_UP_ROWS]), log)
    return Sample(Cost(*json.loads(result.read_text())), small)


def _remove(output: Path) -> None:
    for left in output.parent.glob(f"{output.name}*"):
        shutil.rmtree(left)


def format_table(model: str, samples: Mapping[str, Sequence[Sample]], rows: int) -> str:
    """Return a table in Markdown: medians, and medians of the ratios within each turn."""
    name = choose_variant(str(Path(OPTIMIZED, model)), None).name
    lines = [
        f"{model} model, {rows:,} rows; cheapest variant: {name}",
        "",
        f"| | CPU µs per row | ÷ bare loop | {START_UP_ROWS:,} rows, CPU s | ÷ bare loop | its "
        "peak memory, MB | ÷ parent's |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    bare = samples[DESIGNS[0]]
    for design in DESIGNS:
        each = samples[design]
        cpu = [sample.rows.cpu_s / rows * 1e6 for sample in each]
        whole = [sample.small.cpu_s for sample in each]
        peaks = [sample.small.peak_rss_mb for sample in each]
        parents = [sample.small.peak_rss_mb for sample in samples[PARENT]]
        lines.append(
            f"| {design} | {statistics.median(cpu):.3g} "
            f"| {_ratio(cpu, [b.rows.cpu_s / rows * 1e6 for b in bare])} "
            f"| {statistics.median(whole):.3g} "
            f"| {_ratio(whole, [b.small.cpu_s for b in bare])} "
            f"| {statistics.median(peaks):.0f} | {_ratio(peaks, parents)} |"
        )
    return "\n".join([*lines, ""])


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.2f}"


if __name__ == "__main__":
    sys.exit(main())
