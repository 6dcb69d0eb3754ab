"""From samples to numbers: medians, cost per row after start-up, ratios, a table."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.designs import BARE_LOOP, SCORELINE, START_UP_ROWS, Case
from benchmarks.measure import Usage

Result = dict[str, Any]
_TITLES = {
    "bare_loop": "bare loop",
    "scoreline": "Scoreline",
    "beam_runinference": "Beam RunInference, per row",
    "tfx_bsl": "tfx-bsl RunInference",
}


def summarize(samples: Mapping[Case, Sequence[Usage]]) -> list[Result]:
    """Return one object for each design, model and number of workers.

    All are medians over the repeats. The CPU and wall time of a row are those of the rows beyond
    the 1,000 of the start-up run. Ratios are against the bare loop of the same model; None where it
    was not run.
    """
    results = [_summarize_case(case, samples) for case in _main_cases(samples)]
    for result in results:
        bare = _find(results, BARE_LOOP, result["model"], 1)
        single = _find(results, result["design"], result["model"], 1)
        result["cpu_ratio_to_bare_loop"] = _ratio(result, bare, "cpu_us_per_row")
        result["startup_cpu_ratio_to_bare_loop"] = _ratio(result, bare, "startup_cpu_s")
        result["speedup"] = _ratio(result, single, "rows_per_s")
        tenth = Case(result["design"], result["model"], result["workers"], result["rows"] // 10)
        result["rss_ratio_10x"] = (
            _round(result["peak_rss_mb"] / _median(samples[tenth], "peak_rss_mb"))
            if tenth in samples
            else None
        )
    return results


def _main_cases(samples: Mapping[Case, Sequence[Usage]]) -> list[Case]:
    """Return the largest case of each design, model and number of workers."""
    largest: dict[tuple[str, str, int], Case] = {}
    for case in samples:
        at = case[:3]
        if at not in largest or case.rows > largest[at].rows:
            largest[at] = case
    return list(largest.values())


def _summarize_case(case: Case, samples: Mapping[Case, Sequence[Usage]]) -> Result:
    whole, start_up = samples[case], samples[case._replace(rows=START_UP_ROWS)]
    rows = case.rows - START_UP_ROWS
    cpu = (_median(whole, "cpu_s") - _median(start_up, "cpu_s")) / rows
    wall = (_median(whole, "wall_s") - _median(start_up, "wall_s")) / rows
    return {
        **case._asdict(),
        "cpu_us_per_row": _round(cpu * 1e6),
        "rows_per_s": round(1 / wall) if wall > 0 else None,
        "startup_cpu_s": _round(_median(start_up, "cpu_s")),
        "startup_wall_s": _round(_median(start_up, "wall_s")),
        "peak_rss_mb": round(_median(whole, "peak_rss_mb")),
        "repeats": len(whole),
        "samples": {
            str(rows): [[round(value, 3) for value in usage] for usage in usages]
            for rows, usages in ((case.rows, whole), (START_UP_ROWS, start_up))
        },
    }


def _median(usages: Sequence[Usage], field: str) -> float:
    return statistics.median(getattr(usage, field) for usage in usages)


def _find(results: Sequence[Result], design: str, model: str, workers: int) -> Result | None:
    for result in results:
        if (result["design"], result["model"], result["workers"]) == (design, model, workers):
            return result
    return None


def _ratio(result: Result, other: Result | None, field: str) -> float | None:
    if other is None or not other[field] or result[field] is None:
        return None
    return _round(result[field] / other[field])


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def write_report(results: Sequence[Result], folder: Path) -> str:
    """Write batch.json and batch.md into a folder, and return the text of the latter."""
    (folder / "batch.json").write_text(json.dumps(results, indent=1) + "\n")
    text = "\n\n".join([_machine(results), *_tables(results), *_findings(results)]) + "\n"
    (folder / "batch.md").write_text(text)
    return text


def _machine(results: Sequence[Result]) -> str:
    memory = psutil.virtual_memory().total / 1e9
    return (
        f"Medians of {results[0]['repeats']} interleaved repeats; Python "
        f"{platform.python_version()}, {psutil.cpu_count()} processors, {memory:.0f} GB. CPU and "
        "rows/s are of the rows after start-up; memory is that of the whole tree of processes."
    )


def _tables(results: Sequence[Result]) -> list[str]:
    return [
        "\n".join([_HEAD, *(_line(r) for r in results if r["model"] == model)])
        for model in dict.fromkeys(result["model"] for result in results)
    ]


_HEAD = (
    "| design | model | workers | rows | CPU µs/row | × bare loop | rows/s | start-up CPU s "
    "| × bare loop | peak MB |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def _line(result: Result) -> str:
    cells = [
        _TITLES[result["design"]],
        result["model"],
        result["workers"],
        f"{result['rows']:,}",
        f"{result['cpu_us_per_row']:.3g}",
        _show(result["cpu_ratio_to_bare_loop"]),
        _show(result["rows_per_s"], ",.0f"),
        f"{result['startup_cpu_s']:.1f}",
        _show(result["startup_cpu_ratio_to_bare_loop"]),
        f"{result['peak_rss_mb']:,}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _show(value: float | None, form: str = "") -> str:
    if value is None:
        return "–"
    if form:
        return format(value, form)
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _findings(results: Sequence[Result]) -> list[str]:
    lines = []
    for result in results:
        if result["design"] != SCORELINE:
            continue
        if result["workers"] > 1:
            lines.append(
                f"- {result['model']}: {result['workers']} workers score "
                f"{_show(result['speedup'])} × the rows/s of 1, after start-up"
            )
        else:
            lines.append(
                f"- {result['model']}: at {result['rows']:,} rows the peak is "
                f"{_show(result['rss_ratio_10x'])} × that at {result['rows'] // 10:,}"
            )
    return ["\n".join(lines)] if lines else []
