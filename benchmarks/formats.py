"""Measure the same model in every format, with Scoreline and with a direct call.

    python -m benchmarks.formats

One network with 16 numeric inputs is saved as a SavedModel, as a SavedModel that takes tf.Examples,
as a .keras and as a .tflite file. Each run has its own process (`benchmarks.format_run`). Direct
calls and servables take turns. Their scores are compared before any number is printed. Writes
build/bench/formats.json and build/bench/formats.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import measure

_FOLDER = Path("build/bench/formats")
# For each case, the file and the form of its rows.
CASES = {
    "SavedModel": ("saved_model", "columns"),
    "SavedModel of tf.Example, serialized": ("examples", "serialized"),
    "SavedModel of tf.Example, from columns": ("examples", "columns"),
    ".keras": ("model.keras", "columns"),
    ".tflite": ("model.tflite", "columns"),
}
_START_UP_ROWS = 1_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if the scores of a format differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    _FOLDER.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "benchmarks.format_run", "save", str(_FOLDER)], check=True
    )
    runs: dict[str, list[dict[str, Any]]] = {case: [] for case in CASES}
    for repeat in range(args.repeats):
        for case, (file, form) in CASES.items():
            sys.stderr.write(f"[{repeat + 1}/{args.repeats}] {case}\n")
            runs[case].append(_run(_FOLDER / file, form, args.rows))
    wrong = _find_differences(runs)
    if wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    results = [_summarize(case, found) for case, found in runs.items()]
    Path("build/bench/formats.json").write_text(json.dumps(results, indent=1) + "\n")
    text = _table(results, args.rows)
    Path("build/bench/formats.md").write_text(text)
    print(text)
    return 0


def _run(model: Path, form: str, rows: int) -> dict[str, Any]:
    """Return the cost of one case: of rows within one process, and of a process of 1,000 rows."""
    costs: dict[str, Any] = {}
    for caller in ("direct", "servable"):
        result = _FOLDER / "result.json"
        command = [sys.executable, "-m", "benchmarks.format_run", caller, str(model), form]
        log = _FOLDER / "log.txt"
        start_up = measure([*command, str(_START_UP_ROWS), str(result)], log)
        measure([*command, str(rows), str(result)], log)
        costs[caller] = {**json.loads(result.read_text()), "startup_cpu_s": start_up.cpu_s}
    return costs


def _find_differences(runs: dict[str, list[dict[str, Any]]]) -> str:
    reference = np.array(runs["SavedModel"][0]["direct"]["sample"])
    for case, found in runs.items():
        for costs in found:
            for caller, cost in costs.items():
                if not np.allclose(cost["sample"], reference, atol=1e-5):
                    return f"{case}, {caller}: expected the scores of the SavedModel, got others"
    return ""


def _summarize(case: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def median(caller: str, field: str) -> float:
        return statistics.median(costs[caller][field] for costs in found)

    ratios = [c["servable"]["cpu_us_per_row"] / c["direct"]["cpu_us_per_row"] for c in found]
    return {
        "format": case,
        "direct_cpu_us_per_row": round(median("direct", "cpu_us_per_row"), 3),
        "servable_cpu_us_per_row": round(median("servable", "cpu_us_per_row"), 3),
        "cpu_ratio_to_direct": round(statistics.median(ratios), 3),
        "direct_startup_cpu_s": round(median("direct", "startup_cpu_s"), 2),
        "servable_startup_cpu_s": round(median("servable", "startup_cpu_s"), 2),
        "repeats": len(found),
    }


def _table(results: Sequence[dict[str, Any]], rows: int) -> str:
    lines = [
        f"{rows:,} rows of 16 numbers, medians of {results[0]['repeats']} interleaved repeats.\n",
        "| format | direct call, CPU µs/row | Scoreline, CPU µs/row | × direct "
        "| start-up CPU s, direct | Scoreline |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r['format']} | {r['direct_cpu_us_per_row']:.2f} | {r['servable_cpu_us_per_row']:.2f} "
        f"| {r['cpu_ratio_to_direct']:.2f} | {r['direct_startup_cpu_s']:.1f} "
        f"| {r['servable_startup_cpu_s']:.1f} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
