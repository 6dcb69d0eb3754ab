"""The loads of a test of a stream: steady ones, a spike, a step."""

from __future__ import annotations

from scoreline.pipelines.load_test.arrivals import find_due
from scoreline.pipelines.load_test.driver.loads import Offer
from scoreline.pipelines.load_test.judge.elements import Floats
from scoreline.pipelines.load_test.judge.recovery import MIN_ROWS_BEFORE

# Seconds of a load before its window begins.
WARM_UP_S = 5.0

SPIKE_FACTOR = 4.0
_SPIKE_S = 10.0
_SPIKE_SHARE = 1 / 6
# From half of the capacity to three quarters, a little above the planned utilization.
STEP_FACTOR = 1.5
# Share of a window before a spike or a step, and a reserve for random arrivals.
_BEFORE_SHARE = 1 / 4
_RESERVE = 1.5


def offer_steadily(
    phase: str,
    shape: str,
    rate_per_s: float,
    window_s: float,
    seed: int,
    trace_s: Floats | None = None,
) -> Offer:
    """Return a load with one mean rate; see `find_due`."""
    due_s = find_due(shape, rate_per_s, WARM_UP_S + window_s, seed, trace_s=trace_s)
    return Offer(
        phase=phase,
        shape=shape,
        seed=seed,
        due_s=due_s,
        warm_up_s=WARM_UP_S,
        window_s=window_s,
    )


def offer_spike(
    rate_per_s: float, factor: float, window_s: float, seed: int, capacity_per_s: float
) -> Offer:
    """Return a load that is `factor` times as high for 10 s, or a sixth of a shorter window."""
    from_s = WARM_UP_S + window_s * _BEFORE_SHARE
    until_s = from_s + min(_SPIKE_S, window_s * _SPIKE_SHARE)
    return _offer_change(
        "spike", rate_per_s, factor, window_s, seed, (from_s, until_s), capacity_per_s
    )


def offer_step(
    rate_per_s: float, factor: float, window_s: float, seed: int, capacity_per_s: float
) -> Offer:
    """Return a load that is `factor` times as high after a quarter of the window, to its end."""
    at_s = WARM_UP_S + window_s * _BEFORE_SHARE
    return _offer_change("step", rate_per_s, factor, window_s, seed, (at_s, at_s), capacity_per_s)


def min_change_window_s(rate_per_s: float) -> float:
    """Return the shortest window of a spike or a step: rows before it show what is normal."""
    return _RESERVE * MIN_ROWS_BEFORE / _BEFORE_SHARE / rate_per_s


def _offer_change(
    shape: str,
    rate_per_s: float,
    factor: float,
    window_s: float,
    seed: int,
    change_s: tuple[float, float],
    capacity_per_s: float,
) -> Offer:
    due_s = find_due(
        shape,
        rate_per_s,
        WARM_UP_S + window_s,
        seed,
        factor=factor,
        from_s=change_s[0],
        until_s=change_s[1],
    )
    return Offer(
        phase=shape,
        shape=shape,
        seed=seed,
        due_s=due_s,
        warm_up_s=WARM_UP_S,
        window_s=window_s,
        spike_s=change_s,
        capacity_per_s=capacity_per_s,
    )
