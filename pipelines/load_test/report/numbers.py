"""Numbers as the pages of a load test show them."""

from __future__ import annotations

import math

from scoreline.pipelines.load_test.judge.elements import Grows, Insufficient, Interval, Percentile

# Numbers from here on are shown without decimals.
_WHOLE = 100.0
_TINY = 1e-4
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86_400.0


def number(value: float | None) -> str:
    """Return a number with thousands separators, or with three digits if it is small."""
    if value is None or math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size >= _WHOLE or value == round(value):
        text = f"{value:,.0f}"
    elif size < _TINY:
        text = f"{value:.2g}"
    else:
        text = f"{float(f'{value:.3g}'):g}"
    return text.replace("-", "−")


def rate(value: float | None) -> str:
    """Return a rate."""
    return f"{number(value)}/s"


def percent(share: float | None, *, signed: bool = False) -> str:
    """Return a share as percents with two digits at least."""
    if share is None or not math.isfinite(share):
        return f"{number(share)} %" if share is not None else "unknown"
    value = 100 * share
    shown = f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}".removesuffix(".0")
    shown = "0" if shown == "-0" else shown
    sign = "+" if signed and not shown.startswith("-") else ""
    return f"{sign}{shown} %".replace("-", "−")


def bracket(interval: Interval, scale: float = 1.0) -> str:
    """Return the ends of an interval."""
    return f"[{number(scale * interval.low)}, {number(scale * interval.high)}]"


def with_bracket(interval: Interval | None, scale: float = 1.0, unit: str = "") -> str:
    """Return an estimate with its interval."""
    if interval is None:
        return "unknown"
    return f"{number(scale * interval.value)}{unit} {bracket(interval, scale)}"


def percent_interval(interval: Interval) -> str:
    """Return a share with its interval, as percents with a sign."""
    low, high = (percent(end).removesuffix(" %") for end in (interval.low, interval.high))
    return f"{percent(interval.value, signed=True)} [{low}, {high}]"


def percentile(value: Percentile, *, is_whole: bool) -> str:
    """Return a percentile of latencies in ms.

    Args:
      value: the percentile.
      is_whole: whether to show its interval too.
    """
    if isinstance(value, Insufficient):
        return f"insufficient samples (needs {value.needed:,})"
    if isinstance(value, Grows):
        return "none: the queue grows"
    return with_bracket(value) if is_whole else number(value.value)


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that suits it."""
    if seconds is None:
        return "unknown"
    if seconds < 2 * _MINUTE_S:
        return f"{number(seconds)} s"
    if seconds < 2 * _HOUR_S:
        return f"{number(round(seconds / _MINUTE_S, 1))} min"
    if seconds < 2 * _DAY_S:
        return f"{number(round(seconds / _HOUR_S, 1))} h"
    return f"{number(round(seconds / _DAY_S, 1))} days"
