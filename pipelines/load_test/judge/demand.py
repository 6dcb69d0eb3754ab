"""How many workers a rate needs: measured, forecast, or refused with the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from scoreline.pipelines.load_test.judge.elements import Interval
from scoreline.pipelines.load_test.judge.usl import MIN_COUNTS, ScalePoint, Usl

# Planned load of a worker, as a share of its capacity: the rest is for spikes and catching up.
UTILIZATION = 0.7

# No forecast goes beyond this multiple of the largest tested count.
MAX_EXTRAPOLATION = 2

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demand:
    """The fewest workers for a rate, or for a batch with a deadline.

    Attributes:
      rate_per_s: the rate; None for a batch.
      rows, deadline_s: the batch, and seconds from its start to its deadline; None for a stream.
      by: the time of day of that deadline; "" for a stream.
      utilization: planned load of a worker, as a share of its capacity; 1 for a batch, whose
        workers have nothing else to do.
      kind: measured, forecast or refused.
      workers: number of workers, with its interval; None if refused. Of a measured count, the
        interval begins above the largest tested count that is too small.
      largest_tested: largest tested number of workers.
      refused_because: the reason; "" if not refused.
    """

    rate_per_s: float | None = None
    rows: int | None = None
    deadline_s: float | None = None
    by: str = ""
    utilization: float = UTILIZATION
    kind: str
    workers: Interval | None
    largest_tested: int
    refused_because: str = ""


def demand(
    rate_per_s: float,
    points: Sequence[ScalePoint],
    usl: Usl | None,
    *,
    utilization: float = UTILIZATION,
) -> Demand:
    """Return the fewest workers whose capacity × utilization is at least the rate.

    A tested count that holds the rate is the answer: "measured". Otherwise the fit forecasts, and
    the interval is the one of its bootstrap samples. A forecast is refused with fewer than 4
    distinct counts, beyond twice the largest tested count, beyond the number of partitions, and
    if the interval reaches beyond these.

    Args:
      rate_per_s: the rate, in rows per second.
      points: tested counts, held out or not; at least one.
      usl: the fit to them; None if they are too few.
      utilization: planned load of a worker, as a share of its capacity.
    """
    if not points or not 0 < utilization <= 1 or not rate_per_s > 0:
        raise ValueError(
            "A demand needs a tested count, a rate above 0 and a utilization of at most 1, got "
            f"{len(points)} points, {rate_per_s=}, {utilization=}."
        )
    needed_per_s = rate_per_s / utilization * (1 - 1e-9)  # rounded in favor of a whole count
    largest = max(point.workers for point in points)

    def answer(kind: str, workers: Interval | None, because: str = "") -> Demand:
        return Demand(
            rate_per_s=rate_per_s,
            utilization=utilization,
            kind=kind,
            workers=workers,
            largest_tested=largest,
            refused_because=because,
        )

    # Repeated measurements of a count: the lowest one must hold.
    too_small = {point.workers for point in points if point.per_s < needed_per_s}
    enough = {point.workers for point in points} - too_small
    if enough:
        fewest = min(enough)
        below = max((count for count in too_small if count < fewest), default=0)
        return answer("measured", Interval(fewest, below + 1, fewest, _CONFIDENCE))
    if usl is None:
        return answer(
            "refused",
            None,
            f"No tested count holds it, and a forecast needs {MIN_COUNTS} distinct worker counts "
            "besides the one held out. Test more counts.",
        )
    farthest = MAX_EXTRAPOLATION * largest
    if usl.max_workers is not None:
        farthest = min(farthest, usl.max_workers)
    counts = np.arange(1, farthest + 1)
    holds = usl.fitted_per_s(counts) >= needed_per_s
    forecasts = usl.sampled_per_s(counts) >= needed_per_s
    fewest_of_samples = np.where(forecasts.any(axis=1), counts[forecasts.argmax(axis=1)], np.inf)
    tail = (1 - _CONFIDENCE) / 2
    low = float(np.quantile(fewest_of_samples, tail, method="lower"))
    high = float(np.quantile(fewest_of_samples, 1 - tail, method="higher"))
    if holds.any() and np.isfinite(high):
        value = float(counts[holds.argmax()])
        return answer("forecast", Interval(value, min(low, value), max(high, value), _CONFIDENCE))
    return answer(
        "refused", None, _why_refused(usl, farthest, largest, is_fitted=bool(holds.any()))
    )


def _why_refused(usl: Usl, farthest: int, largest: int, *, is_fitted: bool) -> str:
    best = float(usl.fitted_per_s(np.arange(1, farthest + 1)).max())
    if is_fitted:
        return (
            f"The tested counts do not show whether up to {farthest} workers hold it: the interval "
            "of the forecast has no upper end. Test more counts, or larger ones."
        )
    if farthest == usl.max_workers:
        return (
            f"The forecast for all {farthest} partitions is {best:,.0f}/s, and more workers would "
            "be idle. Add partitions."
        )
    if usl.peak_workers <= farthest:
        return (
            f"The forecast has its maximum of {best:,.0f}/s at {usl.peak_workers:.0f} workers, and "
            "more workers hold less. Remove the bottleneck first."
        )
    return (
        f"It needs more than {farthest} workers, which is {MAX_EXTRAPOLATION} × the largest tested "
        f"count, {largest}. Test more workers."
    )
