"""When the records of a load are due: shapes of arrivals, each repeatable by its seed."""

from __future__ import annotations

import numpy as np

from scoreline.pipelines.load_test.judge.elements import Floats

SHAPES = ("poisson", "even", "trace", "step", "spike")


def find_due(
    shape: str,
    rate_per_s: float,
    seconds: float,
    seed: int,
    *,
    trace_s: Floats | None = None,
    factor: float = 1.0,
    from_s: float = 0.0,
    until_s: float = 0.0,
) -> Floats:
    """Return when records are due, in seconds from the start, sorted.

    Users of a service do not know of each other, so that the time between two of their requests is
    exponential: `poisson`, as in MLPerf's scenario Server. `even` has equal distances. `trace`
    repeats recorded arrivals, faster or slower. `step` and `spike` are `poisson` with another rate
    for a time: to the end, or for a while.

    Args:
      shape: one of SHAPES.
      rate_per_s: mean rate; of step and spike, the rate outside of them.
      seconds: duration.
      seed: equal seeds give equal arrivals.
      trace_s: for `trace`: recorded times in seconds, in any order.
      factor: for `step` and `spike`: the rate within, as a multiple of `rate_per_s`.
      from_s: their beginning.
      until_s: the end of a spike.

    Raises:
      ValueError: a rate or a duration is not positive, or the trace has fewer than two times.
    """
    if rate_per_s <= 0 or seconds <= 0:
        raise ValueError(
            f"expected a positive rate and duration, got {rate_per_s}/s for {seconds} s"
        )
    if shape == "even":
        return np.arange(int(rate_per_s * seconds)) / rate_per_s
    if shape == "trace":
        return _replay(trace_s, rate_per_s, seconds)
    generator = np.random.default_rng(seed)
    due = _draw(generator, rate_per_s, 0.0, seconds)
    if shape in ("step", "spike"):
        until_s = seconds if shape == "step" else min(until_s, seconds)
        more = _draw(generator, rate_per_s * (factor - 1), from_s, until_s)
        due = np.sort(np.concatenate([due, more]))
    return due


def _draw(
    generator: np.random.Generator, rate_per_s: float, from_s: float, until_s: float
) -> Floats:
    """Return the times of a Poisson process: given their number, they are uniform."""
    count = generator.poisson(rate_per_s * (until_s - from_s))
    return np.sort(generator.uniform(from_s, until_s, count))


def _replay(trace_s: Floats | None, rate_per_s: float, seconds: float) -> Floats:
    """Return recorded times at another mean rate, repeated until `seconds` are full.

    The mean rate is that of the whole trace, so that a trace which is cut off keeps its rush hours.
    """
    if trace_s is None or np.unique(trace_s).size < 2:
        got = 0 if trace_s is None else trace_s.size
        raise ValueError(f"expected a trace of at least two different times, got {got} times")
    at = np.sort(np.asarray(trace_s, np.float64))
    count = at.size
    lasts = count / rate_per_s  # one round, at the wanted mean rate
    at = (at - at[0]) / (at[-1] - at[0]) * lasts * (count - 1) / count
    rounds = int(np.ceil(seconds / lasts))
    due = (np.arange(rounds)[:, None] * lasts + at[None, :]).ravel()
    return due[due < seconds]
