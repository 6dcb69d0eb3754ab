"""What clusters made of a day: tables for the terminal, a JSON file, and a page with charts."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from rich.console import Console

from demo.autoscale_day import LATE_S, Day
from demo.autoscale_night import Night
from scoreline.pipelines.load_test.judge.elements import Floats
from scoreline.pipelines.load_test.report.html import read_style
from scoreline.pipelines.load_test.report.numbers import duration, number, percent
from scoreline.pipelines.load_test.report.svg import Curve, draw_chart
from scoreline.pipelines.report.console import make_table

_STYLES = ("b", "c", "a")
_ROWS = 16


def print_day(console: Console, day: Day) -> None:
    """Print workers, lag and latency over the day."""
    table = make_table("second", "arrive/s", "workers", "lag", "p99 ms")
    for column in table.columns:
        column.justify = "right"
    series = day.series
    edges = [series.at_s.size * row // _ROWS for row in range(_ROWS + 1)]
    for first, end in itertools.pairwise(edges):
        at_s = float(series.at_s[end - 1])
        table.add_row(
            number(round(at_s)),
            number(round(series.offered_per_s[first:end].mean())),
            number(workers_at(day, at_s)),
            number(series.backlog[end - 1]),
            number(round(np.nanmax(series.latency_p99_ms[first:end], initial=0.0))),
        )
    console.print(table, highlight=False)


def workers_at(day: Day, at_s: float) -> float:
    """Return the paid workers at a moment."""
    at = int(np.searchsorted(day.workers_at_s, at_s, side="right")) - 1
    return float(day.workers[max(0, at)])


def print_comparison(console: Console, days: Sequence[Day]) -> None:
    """Print a line for each cluster."""
    late = f"later than {LATE_S:g} s"
    table = make_table(
        "cluster", "worker-s", "p50 ms", "p99 ms", late, "max lag", "recovered after"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for day in days:
        table.add_row(
            day.cluster,
            number(round(day.worker_s)),
            *(number(round(ms) if np.isfinite(ms) else ms) for ms in day.latency_ms),
            percent(day.late_share),
            number(day.max_lag),
            duration(day.recovered_s) if day.recovered_s is not None else "never",
        )
    console.print(table, highlight=False)
    for day in days:
        if day.extra or day.not_scored:
            text = f"{day.cluster}: {day.not_scored:,} records without a score when the day ended"
            console.print(f"{text}, {day.extra:,} with two", highlight=False)
    shown = " · ".join(
        f"sender late p99 {number(round(day.sender_late_ms))} ms, neighbours "
        f"{percent(day.neighbour_cpu_share)} CPU"
        for day in days
    )
    console.print(f"measured with: {shown}", highlight=False)


def write_report(folder: Path, days: Sequence[Day], nights: Sequence[Night]) -> None:
    """Write `autoscale.json`, and `autoscale.html` with charts of the days if there are any."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "days": [to_document(day) for day in days],
        "nights": [night._asdict() for night in nights],
    }
    (folder / "autoscale.json").write_text(json.dumps(document, indent=1, allow_nan=False))
    if days:
        (folder / "autoscale.html").write_text(render(days), "utf-8")


def to_document(day: Day) -> dict[str, Any]:
    """Return a day for JSON, in which what is not finite is null."""
    return {name: _plain(value) for name, value in dataclasses.asdict(day).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def render(days: Sequence[Day]) -> str:
    """Return a page with the workers, the lag and the latency of the days over time."""
    charts = [
        _chart("Workers", days, lambda day: (day.workers_at_s, day.workers)),
        _chart("Records without a score", days, lambda day: (day.series.at_s, day.series.backlog)),
        _chart(
            "p99 of the latency in ms, log₁₀",
            days,
            lambda day: (day.series.at_s, np.log10(np.maximum(1.0, day.series.latency_p99_ms))),
        ),
        _chart(
            "Arrivals per second", days[:1], lambda day: (day.series.at_s, day.series.offered_per_s)
        ),
    ]
    return Markup(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<title>A day with a spike on three Flink clusters</title><style>{}</style></head><body>"
        "<h1>A day with a spike on three Flink clusters</h1>"
        '<section class="plots">{}</section></body></html>\n'
    ).format(read_style(), Markup("\n").join(charts))


def _chart(title: str, days: Sequence[Day], of: Any) -> Markup:
    curves = []
    for day, style in zip(days, _STYLES, strict=False):
        x: Floats
        y: Floats
        x, y = of(day)
        inside = (x >= 0) & (x <= day.seconds)
        curves.append(Curve(name=day.cluster, x=x[inside], y=y[inside], style=style))
    return draw_chart(title, "seconds", curves)
