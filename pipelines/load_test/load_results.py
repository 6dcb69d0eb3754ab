"""Results of a stream's starts, and of loads that change or last."""

from __future__ import annotations

import dataclasses

from scoreline.pipelines.load_test.judge.elements import Check, Interval, Limit, Outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The time from the start of the command to its first score.

    Attributes:
      median_s, longest_s: over all starts of the whole pipeline.
      starts: their number.
    """

    median_s: float
    longest_s: float
    starts: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spike:
    """A spike and the time until the latency was as before; None for never.

    Attributes:
      base_per_s, peak_per_s: the load before and within the spike.
      for_s: duration of the spike.
      recovered_s, predicted_s: seconds from its end until recovery, measured and predicted.
    """

    base_per_s: float
    peak_per_s: float
    for_s: float
    recovered_s: float | None
    predicted_s: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A load that rises and stays, and the time until the latency is within its limit.

    Attributes:
      base_per_s, to_per_s: the load before and after the step.
      settled_s: seconds from the step until then; 0 if it never left its limit, None for never.
    """

    base_per_s: float
    to_per_s: float
    settled_s: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Soak:
    """A steady load for a long time.

    Attributes:
      rate_per_s, seconds: the load and its duration.
      outcome: whether all limits held.
      limits, checks: the limits, and the conditions of a valid measurement.
      lag_slope_share: growth of the backlog as a share of the load.
      memory_mb: maximum resident memory of all workers; None if nobody looked.
      memory_growth_mb_per_h: its growth.
      memory_hours_left: hours until it reaches its limit, if it grows steadily.
    """

    rate_per_s: float
    seconds: float
    outcome: Outcome
    limits: tuple[Limit, ...] = ()
    checks: tuple[Check, ...] = ()
    lag_slope_share: Interval
    memory_mb: float | None = None
    memory_growth_mb_per_h: Interval | None = None
    memory_hours_left: float | None = None
