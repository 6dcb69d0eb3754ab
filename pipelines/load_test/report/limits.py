"""Limits and checks of a load test, in words."""

from __future__ import annotations

from typing import NamedTuple

from scoreline.pipelines.load_test.judge.elements import Check, Limit, Outcome, Slos
from scoreline.pipelines.load_test.report.numbers import duration, number, percent


class _Words(NamedTuple):
    """How a limit is written: its name, its unit, and whether it is a minimum."""

    name: str
    unit: str = ""
    is_minimum: bool = False


_LIMITS = {
    "rate_per_s": _Words("rate", "/s", is_minimum=True),
    "lag_growth_share": _Words("growth of the backlog", "%"),
    "freshness_s": _Words("age of the oldest row", "s"),
    "recover_s": _Words("time to recover", "s"),
    "error_share": _Words("dead letters", "%"),
    "memory_mb": _Words("memory", "MB"),
    "deadline_s": _Words("time", "s"),
    "cost_per_million": _Words("cost of a million rows"),
    "standing_queue": _Words("backlog at the end", "rows"),
    "scored_share": _Words("rows out of rows in", "%", is_minimum=True),
}
_CHECKS = {
    "sender_late_p99_ms": _Words("sender late p99", "ms"),
    "neighbour_cpu_share": _Words("neighbours", "% CPU"),
    "steal_share": _Words("steal", "%"),
    "harness_ceiling": _Words("harness ceiling", "× the result", is_minimum=True),
    "ids_not_once": _Words("ids not once each"),
    "scored_before_sent": _Words("scored before sent", "rows"),
    "littles_law": _Words("Little's law off by", "%"),
    "steady_state": _Words("backlog fell by", "%"),
}
# Checks that the page shows also if they hold; the HTML page shows all.
SHOWN = ("sender_late_p99_ms", "neighbour_cpu_share", "harness_ceiling", "ids_not_once")


def value(words_unit: str, amount: float | None) -> str:
    """Return an amount with its unit; shares are percents."""
    if words_unit.startswith("%"):
        return percent(amount) + words_unit[1:]
    if words_unit == "s":
        return duration(amount)
    return f"{number(amount)}{'' if words_unit in ('', '/s') else ' '}{words_unit}"


def limit_name(limit: Limit, target: Slos) -> str:
    """Return the name of a limit in words."""
    if limit.name == "latency_ms":
        return f"p{number(target.latency_percentile)}"
    return _LIMITS.get(limit.name, _Words(limit.name)).name


def describe_limit(limit: Limit, target: Slos) -> str:
    """Return a limit as measured, as in `p99 312 ms > 250 ms`."""
    words = _LIMITS.get(limit.name, _Words(limit.name, "ms" if limit.name == "latency_ms" else ""))
    signs = ("≥", "<") if words.is_minimum else ("≤", ">")
    sign = {Outcome.PASS: signs[0], Outcome.FAIL: signs[1]}.get(limit.outcome, "around")
    name = limit_name(limit, target)
    bound = value(words.unit, limit.limit)
    if limit.measured is None:
        return f"{name} not measured (limit {bound})"
    return f"{name} {value(words.unit, limit.measured)} {sign} {bound}"


def describe_check(check: Check) -> str:
    """Return a check as measured, with its limit if it fails."""
    words = _CHECKS.get(check.name, _Words(check.name.replace("_", " ")))
    measured = f"{words.name} {value(words.unit, check.value)}"
    if check.is_ok:
        return measured
    side = "at least" if words.is_minimum else "at most"
    return f"{measured} (expected {side} {value(words.unit, check.limit)})"


def describe_target(target: Slos) -> str:
    """Return the limits of a target, as in `8,000/s with p99 ≤ 250 ms`."""
    parts = []
    if target.latency_ms is not None:
        parts.append(f"p{number(target.latency_percentile)} ≤ {number(target.latency_ms)} ms")
    if target.freshness_s is not None:
        parts.append(f"no row older than {duration(target.freshness_s)}")
    if target.recover_s is not None:
        parts.append(f"recovery ≤ {duration(target.recover_s)}")
    if target.error_share:
        parts.append(f"dead letters ≤ {percent(target.error_share)}")
    if target.memory_mb is not None:
        parts.append(f"memory ≤ {number(target.memory_mb)} MB")
    if target.cost_per_million is not None:
        parts.append(f"cost ≤ {number(target.cost_per_million)} per million")
    base = ""
    if target.rate_per_s is not None:
        base = f"{number(target.rate_per_s)}/s"
    elif target.rows is not None:
        base = f"{target.rows:,} rows within {duration(target.deadline_s)}"
    limits = ", ".join(parts)
    return f"{base} with {limits}" if base and limits else base or limits
