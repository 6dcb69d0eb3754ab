"""The lines of starts, and of loads that change or last. "" if there is nothing to tell."""

from __future__ import annotations

from scoreline.pipelines.load_test.judge.elements import Outcome
from scoreline.pipelines.load_test.report.limits import limit_name
from scoreline.pipelines.load_test.report.numbers import (
    duration,
    number,
    rate,
    with_bracket,
)
from scoreline.pipelines.load_test.result import LoadTest

_WORDS = {
    Outcome.PASS: "holds",
    Outcome.FAIL: "does not hold",
    Outcome.UNDECIDED: "undecided",
    Outcome.INVALID: "invalid",
}


def start(test: LoadTest) -> str:
    """Return the time from a start to the first score."""
    found = test.start
    if found is None:
        return ""
    count = "1 start" if found.starts == 1 else f"{found.starts:,} starts"
    longest = "" if found.starts == 1 else f"; longest {number(found.longest_s)} s"
    return f"first score after {number(found.median_s)} s (median of {count}{longest})"


def spike(test: LoadTest) -> str:
    """Return the time to recover from a spike."""
    found = test.spike
    if found is None:
        return ""
    guess = "" if found.predicted_s is None else f" (predicted {number(found.predicted_s)})"
    recovered = (
        "did not recover"
        if found.recovered_s is None
        else f"recovered in {number(found.recovered_s)} s"
    )
    load = f"{number(found.base_per_s)} → {rate(found.peak_per_s)} for {number(found.for_s)} s"
    return f"{load}: {recovered}{guess}"


def step(test: LoadTest) -> str:
    """Return the time to settle after a step."""
    found = test.step
    if found is None:
        return ""
    if found.settled_s is None:
        settled = "did not settle"
    elif found.settled_s == 0:
        settled = "settled at once"
    else:
        settled = f"settled in {number(found.settled_s)} s"
    return f"{number(found.base_per_s)} → {rate(found.to_per_s)}: {settled}"


def soak(test: LoadTest) -> str:
    """Return whether a load holds for a long time, and the trends of backlog and memory."""
    found = test.soak
    if found is None:
        return ""
    wrong = [x for x in found.limits if x.outcome is not Outcome.PASS]
    names = ", ".join(limit_name(limit, test.target) for limit in wrong)
    told = [
        f"{rate(found.rate_per_s)} for {duration(found.seconds)}: {_WORDS[found.outcome]}"
        + (f" ({names})" if names else ""),
        f"lag {with_bracket(found.lag_slope_share, 100, ' %')}",
    ]
    if found.memory_mb is not None:
        told.append(f"memory {number(found.memory_mb)} MB")
    if found.memory_growth_mb_per_h is not None:
        told.append(f"growth {with_bracket(found.memory_growth_mb_per_h)} MB an hour")
    if found.memory_hours_left is not None:
        told.append(f"{number(found.memory_hours_left)} h until the limit")
    return " · ".join(told)
