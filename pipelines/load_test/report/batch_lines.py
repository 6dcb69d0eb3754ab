"""The lines that only the page of a batch has. A line is "" if there is nothing to tell."""

from __future__ import annotations

from scoreline.pipelines.load_test.report.numbers import (
    duration,
    number,
    percent,
    with_bracket,
)
from scoreline.pipelines.load_test.result import LoadTest


def volumes(test: LoadTest) -> str:
    """Return the tested volumes, and how long they took."""
    if test.volume is None:
        return ""
    return " · ".join(
        f"×{number(run.factor)} {run.rows:,} rows in {duration(run.wall_s)}"
        for run in test.volume.runs
    )


def cost_of_row(test: LoadTest) -> str:
    """Return the cost of the start and of a row."""
    found = test.volume
    if found is None or found.cpu_us_per_row is None:
        return ""
    told = [
        f"start-up {with_bracket(found.start_up_cpu_s, unit=' s')} CPU",
        f"{with_bracket(found.cpu_us_per_row, unit=' µs')} CPU a row",
        f"start-up {with_bracket(found.start_up_s, unit=' s')} wall time",
        f"{with_bracket(found.wall_us_per_row, unit=' µs')} wall time a row",
    ]
    return " · ".join(told)


def deadline(test: LoadTest) -> str:
    """Return the rows that fit before the deadline."""
    found = test.volume
    if found is None or found.rows_before_deadline is None:
        return ""
    rows = with_bracket(found.rows_before_deadline)
    return f"{rows} rows fit within {duration(found.deadline_s)}"


def growth(test: LoadTest) -> str:
    """Return the stage whose cost of a row grows with the volume."""
    found = test.volume
    if found is None:
        return ""
    if not found.growing_stage:
        return "no stage costs more for a row as the volume grows"
    more = (
        "" if found.growth is None else f": {percent(found.growth, signed=True)} for 10 × the rows"
    )
    return f"{found.growing_stage} grows with the volume{more}"
