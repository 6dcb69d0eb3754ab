"""Whether a variant's metric is proven to be no worse than its parent's by more than a tolerance.

This is a test of non-inferiority. The variant passes if the lower end of the 95 % interval of the
change is at least −tolerance, so that of variants that lose more, at most 2.5 % pass. If there are
so few rows that good variants fail too, the number that is needed is told.
"""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import numpy as np

from scoreline.models.compare.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    Interval,
    resample_differences,
    to_interval,
)
from scoreline.models.compare.metrics import Metric, count_classes, evaluate_once, to_evaluate

# MLPerf Inference: a closed submission reaches 99 % or 99.9 % of the reference's quality.
PRESETS = {"mlperf-99": 0.01, "mlperf-99.9": 0.001}
# A bootstrap of the AUC needs some rows of each class.
MIN_CLASS_ROWS = 50
MIN_ROWS = 1000
# Rows that are needed are those that prove 9 of 10 variants which lose half the tolerance.
_POWER = 0.9
_TRUE_LOSS = 0.5
_TAIL = (1.0 - CONFIDENCE) / 2


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How much of a metric a variant may lose.

    Attributes:
      value: in units of the metric, or as a share of the parent's metric.
      is_relative: whether it is a share.
    """

    value: float
    is_relative: bool = False

    def __post_init__(self) -> None:
        """Check the value."""
        if not 0 < self.value < math.inf:
            raise ValueError(
                f"expected a tolerance above 0, got {self.value:g}. No number of rows proves that "
                "nothing is lost; 0.001 is a small loss of AUC"
            )

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """Return the tolerance of an option: a number such as 0.001, or the name of a preset.

        Raises:
          ValueError: it is neither, or not above 0.
        """
        if text in PRESETS:
            return cls(PRESETS[text], is_relative=True)
        try:
            value = float(text)
        except ValueError as e:
            raise ValueError(
                f"expected a tolerance such as 0.001, or {' or '.join(PRESETS)}, got '{text}'"
            ) from e
        return cls(value)

    def of(self, parent: float) -> float:
        """Return the tolerance in units of the metric, for the parent's metric."""
        return self.value * abs(parent) if self.is_relative else self.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """The metric of a variant and of its parent on the same held-out rows.

    Attributes:
      metric: its name.
      rows: number of rows.
      parent: the parent's metric.
      variant: the variant's metric.
      change: variant − parent, for a loss parent − variant: above 0, the variant is better.
      tolerance: the loss that is allowed, in units of the metric.
      rows_needed: number of rows that prove most variants that lose half the tolerance, and that
        show a defect which hits a share of the rows as large as the tolerance; None if no number
        does.
    """

    metric: Metric
    rows: int
    parent: float
    variant: float
    change: Interval
    tolerance: float
    rows_needed: int | None


def measure_quality(
    metric: Metric,
    label: np.ndarray | None,
    parent: np.ndarray,
    variant: np.ndarray,
    tolerance: Tolerance,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Quality:
    """Return the metric of both models with the interval of the change.

    Args:
      metric: the metric.
      label: a number for each row; None for agreement.
      parent: the parent's scores, finite; for agreement, 1 for each row.
      variant: the variant's scores, finite; for agreement, its agreement in each row.
      tolerance: the loss that is allowed.
      resamples: draws of the bootstrap.
      seed: the same seed has the same interval.
    """
    rows = len(parent)
    evaluate = [to_evaluate(metric, label, scores) for scores in (parent, variant)]
    before, after = (evaluate_once(each, rows) for each in evaluate)
    sign = -1.0 if metric.is_loss else 1.0
    resampled = sign * resample_differences(
        evaluate[0], evaluate[1], rows, resamples=resamples, seed=seed
    )
    change = to_interval(sign * (after - before), resampled)
    allowed = tolerance.of(before)
    share = allowed / abs(before) if metric.is_loss and before else allowed
    classes = count_classes(label) if label is not None and metric is Metric.AUC else ()
    return Quality(
        metric=metric,
        rows=rows,
        parent=before,
        variant=after,
        change=change,
        tolerance=allowed,
        rows_needed=_count_rows_needed(rows, change, allowed, share, min(classes, default=rows)),
    )


def find_quality_problems(quality: Quality) -> list[str]:
    """Return why a variant's metric is not proven to be as good: one sentence, or none."""
    change, allowed = quality.change, quality.tolerance
    title = quality.metric.in_words
    got = (
        f"got {quality.variant:.5g}, parent {quality.parent:.5g}: a change of {_signed(change)} on "
        f"{quality.rows:,} rows"
    )
    if change.high < -allowed:
        return [f"{title}: expected a loss of at most {allowed:.4g}, {got}. The variant is worse"]
    if quality.rows_needed is None:
        return [f"{title}: expected a loss of at most {allowed:.4g}, {got}. No rows can prove it"]
    if change.low >= -allowed and quality.rows >= quality.rows_needed:
        return []
    if quality.rows >= quality.rows_needed:
        return [
            f"{title}: expected a loss of at most {allowed:.4g}, {got}. As many rows prove most "
            "variants that lose half as much: this one is too near the tolerance, or worse"
        ]
    return [
        f"{title}: too few rows to prove a loss of at most {allowed:.4g}: {got}. Give about "
        f"{quality.rows_needed:,} rows"
    ]


def _signed(change: Interval) -> str:
    return f"{change.value:+.3g} [{change.low:+.3g}, {change.high:+.3g}]"


def _count_rows_needed(
    rows: int, change: Interval, allowed: float, share: float, rarest: int
) -> int | None:
    """Return how many rows a proof needs.

    If none of n rows has a defect, 1 − (1 − share)^n is the confidence that fewer than this share
    of all rows have it: n ≈ −ln(2.5 %) ÷ share. The width of an interval falls with √rows.
    """
    if not allowed:
        return None
    fewest = max(MIN_ROWS, math.ceil(-math.log(_TAIL) / min(share, 1.0)))
    fewest = max(fewest, math.ceil(rows * MIN_CLASS_ROWS / max(rarest, 1)))
    if change.low >= -allowed:
        return fewest
    normal = NormalDist()
    wider = 1.0 + normal.inv_cdf(_POWER) / normal.inv_cdf(1.0 - _TAIL)
    half = (change.high - change.low) / 2
    return max(fewest, math.ceil(rows * (half * wider / (allowed * (1.0 - _TRUE_LOSS))) ** 2))
