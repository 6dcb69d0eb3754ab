"""Whether a variant is worse on some rows: for each value of a column.

Each slice has a one-sided test of "the change is at least −limit", by the normal distribution with
the standard error of the paired bootstrap. Many slices make false alarms likely, so Holm's rule
(1979) keeps the probability of any at 5 %.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.models.compare.bootstrap import CONFIDENCE, resample_differences
from scoreline.models.compare.metrics import Metric, count_classes, evaluate_once, to_evaluate
from scoreline.models.compare.quality import MIN_CLASS_ROWS

MIN_SLICE_ROWS = 1000
# A slice may lose so many times the tolerance.
SLICE_TOLERANCES = 3.0
_RESAMPLES = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
    """The rows with one value of a column.

    Attributes:
      column: the column.
      value: the value as text; `null` for nulls.
      rows: number of rows.
      change: of the metric, as in `Quality`: below 0, the variant is worse.
      standard_error: of the change.
      p_value: probability of such a change, or a lower one, if the true one is −limit.
      is_worse: whether it is shown to lose more than the limit, after Holm's correction.
    """

    column: str
    value: str
    rows: int
    change: float
    standard_error: float
    p_value: float
    is_worse: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slices:
    """All slices.

    Attributes:
      limit: the loss that is allowed in a slice.
      judged: number of slices with enough rows.
      too_small: number of values with too few rows, or too few of a class, which are not judged.
      worst: the slice with the strongest evidence of a loss; None if none was judged.
      worse: slices that are shown to lose more than the limit, the worst first.
    """

    limit: float
    judged: int
    too_small: int
    worst: Slice | None
    worse: tuple[Slice, ...]


class Scored(NamedTuple):
    """The label and both models' scores of held-out rows: see `measure_quality`."""

    label: np.ndarray | None
    parent: np.ndarray
    variant: np.ndarray

    def at(self, rows: np.ndarray) -> Scored:
        """Return some rows."""
        label = None if self.label is None else self.label[rows]
        return Scored(label, self.parent[rows], self.variant[rows])


def measure_slices(
    metric: Metric,
    scored: Scored,
    columns: Mapping[str, pa.Array],
    tolerance: float,
    *,
    seed: int = 0,
) -> Slices:
    """Judge each value of each column that has at least 1,000 rows.

    Args:
      metric: the metric.
      scored: label and scores of all rows.
      columns: by name, the columns whose values are slices.
      tolerance: the loss that is allowed over all rows, in units of the metric.
      seed: the same seed has the same standard errors.
    """
    limit = SLICE_TOLERANCES * tolerance
    found: list[Slice] = []
    too_small = 0
    for column, values in columns.items():
        for value, rows in _split(values):
            part = scored.at(rows)
            if _is_too_small(metric, part):
                too_small += 1
                continue
            change, error = _measure(metric, part, seed)
            evidence = _p_value(change, error, limit)
            found.append(
                Slice(
                    column=column,
                    value=value,
                    rows=len(rows),
                    change=change,
                    standard_error=error,
                    p_value=evidence,
                )
            )
    found.sort(key=lambda s: (s.p_value, s.change))
    rejected = count_rejected([each.p_value for each in found])
    worse = tuple(dataclasses.replace(each, is_worse=True) for each in found[:rejected])
    return Slices(
        limit=limit,
        judged=len(found),
        too_small=too_small,
        worst=next(iter([*worse, *found]), None),
        worse=worse,
    )


def find_slice_problems(slices: Slices) -> list[str]:
    """Return which slices are worse: one sentence, or none."""
    if not slices.worse:
        return []
    worst = slices.worse[0]
    more = len(slices.worse) - 1
    others = f", and {more} more" if more else ""
    return [
        f"expected no slice to lose more than {slices.limit:.4g}, got {len(slices.worse)} of "
        f"{slices.judged}: {worst.column}={worst.value} changes by {worst.change:+.3g} ± "
        f"{worst.standard_error:.2g} on {worst.rows:,} rows{others}"
    ]


def count_rejected(sorted_p_values: Sequence[float], confidence: float = CONFIDENCE) -> int:
    """Return how many of the smallest p-values Holm's rule rejects."""
    for number, p_value in enumerate(sorted_p_values):
        if p_value > (1.0 - confidence) / (len(sorted_p_values) - number):
            return number
    return len(sorted_p_values)


def _split(values: pa.Array) -> Iterator[tuple[str, np.ndarray]]:
    """Return each value as text, with the positions of its rows."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    names = [str(value) for value in values.dictionary.to_pylist()]
    codes = pc.fill_null(values.indices, len(names)).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    present, starts = np.unique(codes[order], return_index=True)
    for code, rows in zip(present, np.split(order, starts[1:]), strict=True):
        yield [*names, "null"][code], rows


def _is_too_small(metric: Metric, part: Scored) -> bool:
    if len(part.parent) < MIN_SLICE_ROWS:
        return True
    if metric is not Metric.AUC or part.label is None:
        return False
    return min(count_classes(part.label)) < MIN_CLASS_ROWS


def _measure(metric: Metric, part: Scored, seed: int) -> tuple[float, float]:
    rows = len(part.parent)
    parent, variant = (
        to_evaluate(metric, part.label, scores) for scores in (part.parent, part.variant)
    )
    sign = -1.0 if metric.is_loss else 1.0
    change = sign * (evaluate_once(variant, rows) - evaluate_once(parent, rows))
    resampled = resample_differences(parent, variant, rows, resamples=_RESAMPLES, seed=seed)
    return change, float(np.std(resampled, ddof=1))


def _p_value(change: float, error: float, limit: float) -> float:
    if not error > 0:
        return 1.0 if change >= -limit else 0.0
    return NormalDist().cdf((change + limit) / error)
