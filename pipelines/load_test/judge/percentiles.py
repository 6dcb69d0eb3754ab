"""Percentiles of latencies, with intervals, and the samples that they need.

The interval is that of order statistics (Hahn and Meeker, Statistical Intervals, chapter 5): the
number of samples below the true percentile is binomial, whatever the distribution is. A limit is
shown at 99 % confidence by the rule of MLPerf's LoadGen: n samples with k above the limit show
"p99 ≤ limit" if P(Binomial(n, 1 %) ≤ k) ≤ 1 %. That takes 459 samples without one above, 662 with
one.

Late rows come in bursts, so that n rows are worth fewer samples: n ÷ design effect (Kish 1965,
Survey Sampling). The design effect is the long-run variance of the number of late rows per second,
divided by the variance that independent rows would have.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, bdtrik, betainc

from scoreline.pipelines.load_test.judge.elements import (
    Floats,
    Insufficient,
    Interval,
    Outcome,
    Percentile,
)

CONFIDENCE = 0.99  # of a limit
BURST_S = 1.0
# So many late rows show their own bursts. Medians drift for seconds, which says little about a p99.
MIN_LATE = 1000


class Measured(NamedTuple):
    """A percentile of the latencies of a window.

    Attributes:
      percentile: in seconds, with a 95 % interval.
      value_s: the percentile of the rows as they are, infinite if it is a row without a score.
      design_effect: rows per independent sample, at least 1.
    """

    percentile: Interval | Insufficient
    value_s: float
    design_effect: float


def name_of(percent: float) -> str:
    """Return p50, p99 or p99.9."""
    return f"p{percent:g}"


def samples_needed(percent: float, over: int = 0, *, confidence: float = CONFIDENCE) -> int:
    """Return the fewest samples that show a limit of a percentile, with `over` of them above it."""
    over_share = 1 - percent / 100
    low, high = over, over + 1
    while bdtr(over, high, over_share) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if bdtr(over, middle, over_share) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def measure(
    latency_s: Floats, due_s: Floats, percents: tuple[float, ...], *, confidence: float = 0.95
) -> dict[float, Measured]:
    """Return percentiles of latencies, in seconds.

    `latency_s` is infinite for a row that never got a score: it is later than all others.

    Raises:
      ValueError: there are no rows, or a percentile is not between 0 and 100.
    """
    if not len(latency_s):
        raise ValueError("expected latencies of at least one row, got none")
    if wrong := [p for p in percents if not 0 < p < 100]:
        raise ValueError(f"expected percentiles between 0 and 100, got {wrong}")
    in_order = np.sort(latency_s)
    second = ((due_s - due_s.min()) // BURST_S).astype(np.int64)
    rows = np.bincount(second).astype(np.float64)
    measured = {}
    effect = 1.0
    for percent in sorted(percents):
        value_s = float(in_order[math.ceil(len(in_order) * percent / 100 - 1e-9) - 1])
        late = np.bincount(second[latency_s > value_s], minlength=len(rows))
        own = design_effect(late, rows)
        # Few bursts reach a high percentile, too few to see how bursty it is: a lower one helps.
        effect = own if late.sum() >= MIN_LATE else max(effect, own)
        interval = _interval(in_order, value_s, percent / 100, effect, confidence)
        measured[percent] = Measured(interval, value_s, effect)
    return measured


def design_effect(late: npt.NDArray[np.int64], rows: Floats) -> float:
    """Return how many rows are worth one independent sample, at least 1.

    `late` and `rows` are the late rows and all rows of each second. A burst may last longer than a
    second: covariances of neighbouring seconds are added up to the first that is not positive
    (after Geyer 1992, Statistical Science 7).
    """
    share = float(late.sum() / rows.sum())
    if len(rows) < 2 or share in {0.0, 1.0}:
        return 1.0
    excess = late - rows * share
    variance = float(excess @ excess)
    for apart in range(1, len(excess) // 2):
        covariance = float(excess[apart:] @ excess[:-apart])
        if covariance <= 0:
            break
        variance += 2 * covariance
    independent = float(rows.sum()) * share * (1 - share)
    return max(1.0, variance * len(rows) / (len(rows) - 1) / independent)


def judge_limit(latency_s: Floats, limit_s: float, percent: float, effect: float) -> Outcome:
    """Return whether a percentile of the latencies is shown to be within a limit, or above it.

    Both at 99 % confidence, by LoadGen's rule over n ÷ design effect; UNDECIDED between.
    """
    samples = len(latency_s) / effect
    over = np.count_nonzero(latency_s > limit_s) / effect
    over_share = 1 - percent / 100
    # The binomial distribution by the incomplete beta function, which takes broken numbers.
    if over < samples and betainc(samples - over, over + 1, 1 - over_share) <= 1 - CONFIDENCE:
        return Outcome.PASS
    if over and betainc(over, samples - over + 1, over_share) <= 1 - CONFIDENCE:
        return Outcome.FAIL
    return Outcome.UNDECIDED


def scaled(interval: Interval, factor: float) -> Interval:
    """Return an interval in another unit; the factor is positive."""
    value, low, high, confidence = interval
    return Interval(value * factor, low * factor, high * factor, confidence)


def in_ms(percentile: Percentile) -> Percentile:
    """Return a percentile that is in seconds in milliseconds."""
    if not isinstance(percentile, Interval):
        return percentile
    return scaled(percentile, 1e3)


def _interval(
    in_order: Floats, value_s: float, share: float, effect: float, confidence: float
) -> Interval | Insufficient:
    samples = math.floor(len(in_order) / effect)
    needed = samples_needed(100 * share)
    if samples < needed:
        return Insufficient(math.ceil(needed * effect))
    tail = (1 - confidence) / 2
    low = math.floor(bdtrik(tail, samples, share) + 1e-9) + 1
    high = math.ceil(bdtrik(1 - tail, samples, share) - 1e-9) + 1
    rows = len(in_order) / samples  # ranks of samples → ranks of rows
    first = max(math.floor(low * rows), 1) - 1
    last = math.ceil(high * rows) - 1
    high_s = float(in_order[last]) if last < len(in_order) else math.inf
    return Interval(value_s, float(in_order[first]), high_s, confidence)
