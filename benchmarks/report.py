"""Turns samples into medians, cost per row after start-up, ratios and a table."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.designs import (
    BARE_LOOP,
    BARE_LOOP_WITHOUT_KERAS,
    SCORELINE,
    START_UP_ROWS,
    Case,
)
from benchmarks.measure import Usage
from benchmarks.steady import Cost

Result = dict[str, Any]
_TITLES = {
    "bare_loop": "bare loop",
    "scoreline": "Scoreline",
    "beam_runinference": "Beam RunInference per row",
    "tfx_bsl": "tfx-bsl RunInference",
}


class Sample(NamedTuple):
    """One run of a case.

    Attributes:
      usage: the cost of the process that was measured.
      rows: the cost of the rows beyond start-up; None in a run that measures start-up.
      whole: the cost of the command itself, from its start to its end; None if it was not measured.
    """

    usage: Usage
    rows: Cost | None
    whole: Usage | None = None


def summarize(samples: Mapping[Case, Sequence[Sample]]) -> list[Result]:
    """Return one object per design, model and number of workers.

    Numbers are medians over the repeats. Ratios of rows are medians of the ratios within each
    repeat, because the machine's speed drifts. Ratios are against the bare loop of the same model;
    None if it did not run.
    """
    return [_summarize_case(case, samples) for case in _main_cases(samples)]


def _main_cases(samples: Mapping[Case, Sequence[Sample]]) -> list[Case]:
    """Return the largest case of each design, model and number of workers."""
    largest: dict[tuple[str, str, int], Case] = {}
    for case in samples:
        at = case[:3]
        if case.design == BARE_LOOP_WITHOUT_KERAS:
            continue
        if at not in largest or case.rows > largest[at].rows:
            largest[at] = case
    return list(largest.values())


def _summarize_case(case: Case, samples: Mapping[Case, Sequence[Sample]]) -> Result:
    cpu, wall = _per_row(case, samples, "cpu_s"), _per_row(case, samples, "wall_s")
    start_up = [s.usage.cpu_s for s in samples[_start_up(case)]]
    return {
        **case._asdict(),
        "cpu_us_per_row": _round(statistics.median(cpu) * 1e6),
        "rows_per_s": round(1 / statistics.median(wall)),
        "startup_cpu_s": _round(statistics.median(start_up)),
        "peak_rss_mb": round(_peak(samples[case])),
        **_ratios(case, samples),
        "repeats": len(samples[case]),
        "cpu_us_per_row_each": [_round(each * 1e6) for each in cpu],
        "startup_cpu_s_each": [_round(each) for each in start_up],
    }


def _ratios(case: Case, samples: Mapping[Case, Sequence[Sample]]) -> dict[str, float | None]:
    """Return the cost of a case against others; None if the other did not run."""
    cases = {other[:3]: other for other in _main_cases(samples)}
    bare = cases.get((BARE_LOOP, case.model, 1))
    ours = cases.get((SCORELINE, case.model, 1))
    single = cases.get((case.design, case.model, 1))
    tenth = case._replace(rows=case.rows // 10)

    def rows(of: Case | None, other: Case | None, field: str) -> float | None:
        if of is None or other is None:
            return None
        pairs = zip(_per_row(of, samples, field), _per_row(other, samples, field), strict=True)
        return _round(statistics.median(a / b for a, b in pairs))

    def whole(other: Case | None, field: str) -> float | None:
        if other is None or any(s.whole is None for s in (*samples[case], *samples[other])):
            return None
        pairs = zip(samples[case], samples[other], strict=True)
        ratios = [getattr(a.whole, field) / getattr(b.whole, field) for a, b in pairs]
        return _round(statistics.median(ratios))

    def start_up(other: Case) -> float | None:
        if other not in samples:
            return None
        return _round(_cpu(samples[_start_up(case)]) / _cpu(samples[other]))

    return {
        "cpu_ratio_to_bare_loop": rows(case, bare, "cpu_s"),
        "cpu_ratio_to_scoreline": rows(case, ours, "cpu_s"),
        "startup_cpu_ratio_to_bare_loop": start_up(
            Case(BARE_LOOP, case.model, 1, START_UP_ROWS),
        ),
        "startup_cpu_ratio_to_bare_loop_without_keras": start_up(
            Case(BARE_LOOP_WITHOUT_KERAS, case.model, 1, START_UP_ROWS),
        ),
        "speedup": rows(single, case, "wall_s"),
        "whole_wall_ratio_to_bare_loop": whole(bare, "wall_s"),
        "whole_cpu_ratio_to_bare_loop": whole(bare, "cpu_s"),
        "rss_ratio_10x": (
            _round(_peak(samples[case]) / _peak(samples[tenth])) if tenth in samples else None
        ),
    }


def _cpu(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.usage.cpu_s for sample in samples)


def _peak(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.usage.peak_rss_mb for sample in samples)


def _start_up(case: Case) -> Case:
    return case._replace(rows=START_UP_ROWS)


def _per_row(case: Case, samples: Mapping[Case, Sequence[Sample]], field: str) -> list[float]:
    """Return seconds per row beyond start-up, one value per repeat."""
    rows = case.rows - START_UP_ROWS
    return [getattr(sample.rows, field) / rows for sample in samples[case]]


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
        "rows/s are measured after start-up. Memory is the sum over all processes of a run."
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
        model, title = result["model"], _TITLES[result["design"]]
        if result["design"] == SCORELINE and result["whole_wall_ratio_to_bare_loop"]:
            lines.append(
                f"{model}: {result['rows']:,} rows with {result['workers']} worker(s), the whole "
                f"command, take {_show(result['whole_wall_ratio_to_bare_loop'])} × the wall time "
                f"and {_show(result['whole_cpu_ratio_to_bare_loop'])} × the CPU of a bare loop"
            )
        if result["workers"] > 1:
            lines.append(
                f"{model}: {result['workers']} workers reach {_show(result['speedup'])} × the "
                "rows/s of one worker, after start-up"
            )
        elif result["design"] == SCORELINE:
            lines.append(
                f"{model}: peak memory of {title} at {result['rows']:,} rows is "
                f"{_show(result['rss_ratio_10x'])} × that at {result['rows'] // 10:,} rows"
            )
            lines.append(
                f"{model}: 1,000 rows cost {_show(result['startup_cpu_ratio_to_bare_loop'])} × the "
                "CPU of a bare loop, and "
                f"{_show(result['startup_cpu_ratio_to_bare_loop_without_keras'])} × that of a bare "
                "loop without Keras in TensorFlow's import, like Scoreline"
            )
        elif result["design"] != BARE_LOOP and result["cpu_ratio_to_scoreline"]:
            lines.append(
                f"{model}: {title} costs {_show(result['cpu_ratio_to_scoreline'])} × Scoreline's "
                "CPU per row"
            )
    return ["\n".join(f"- {line}" for line in lines)] if lines else []
