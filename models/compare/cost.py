"""Whether a variant is proven to use less CPU time per row, from pairs of measurements in turns.

The ratios of the pairs have an interval without an assumption about their distribution: that of
order statistics for the median (Hahn and Meeker, Statistical Intervals, chapter 5). Each end is
wrong with a probability of at most 5 %: the upper end is the largest ratio of 5 to 7 pairs, the
second largest of 8 to 10. So one disturbed turn among 8 does no harm.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scoreline.models.compare.bootstrap import CONFIDENCE, Interval

MIN_PAIRS = 5
MAX_RATIO = 0.95


class Pair(NamedTuple):
    """CPU time of two turns, one after the other.

    Attributes:
      parent_us: CPU time of the parent, in µs per row.
      variant_us: CPU time of the variant, in µs per row.
    """

    parent_us: float
    variant_us: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """The CPU time of a row in both models.

    Attributes:
      pairs: number of pairs.
      parent_us_per_row: median of the parent, in µs.
      variant_us_per_row: median of the variant, in µs.
      ratio: variant ÷ parent: the median of the pairs, with its interval.
    """

    pairs: int
    parent_us_per_row: float
    variant_us_per_row: float
    ratio: Interval


def measure_ratio(pairs: Sequence[Pair]) -> Cost:
    """Return the ratio of CPU times with its interval.

    Raises:
      ValueError: there are fewer than 5 pairs, or a time is not above 0.
    """
    if len(pairs) < MIN_PAIRS:
        raise ValueError(
            f"expected at least {MIN_PAIRS} pairs of measurements, got {len(pairs)}. With fewer, "
            "no interval of 95 % exists"
        )
    if wrong := [pair for pair in pairs if not all(0 < us < math.inf for us in pair)]:
        raise ValueError(
            f"expected CPU times above 0 µs per row, got {wrong[0].parent_us:g} and "
            f"{wrong[0].variant_us:g}. Measure longer turns"
        )
    ratios = sorted(pair.variant_us / pair.parent_us for pair in pairs)
    out = _count_beyond(len(ratios))
    interval = Interval(
        statistics.median(ratios), ratios[out], ratios[-1 - out], _confidence(len(ratios), out)
    )
    return Cost(
        pairs=len(pairs),
        parent_us_per_row=statistics.median(pair.parent_us for pair in pairs),
        variant_us_per_row=statistics.median(pair.variant_us for pair in pairs),
        ratio=interval,
    )


def find_cost_problems(cost: Cost, max_ratio: float = MAX_RATIO) -> list[str]:
    """Return why a variant is not proven to be cheaper: one sentence, or none."""
    ratio = cost.ratio
    if ratio.high <= max_ratio:
        return []
    advice = "The variant is not cheaper"
    if ratio.low <= max_ratio:
        advice = "Measure more pairs, on a machine that does nothing else, or longer turns"
    return [
        f"CPU time: expected at most {max_ratio:g} times the parent's, got {ratio.value:.3f} "
        f"[{ratio.low:.3f}, {ratio.high:.3f}]: {cost.variant_us_per_row:.3g} for "
        f"{cost.parent_us_per_row:.3g} µs per row in {cost.pairs} pairs. {advice}"
    ]


def _count_beyond(pairs: int) -> int:
    """Return how many ratios lie beyond each end of the interval."""
    out = 0
    while _tail(pairs, out + 1) <= 1.0 - CONFIDENCE:
        out += 1
    return out


def _tail(pairs: int, out: int) -> float:
    """Return the probability that at most `out` of the ratios are above their true median."""
    return sum(math.comb(pairs, k) for k in range(out + 1)) / 2**pairs


def _confidence(pairs: int, out: int) -> float:
    return 1.0 - 2.0 * _tail(pairs, out)
