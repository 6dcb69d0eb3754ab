"""The gate: whether a variant may replace its parent, by quality and by cost.

    truth = read_truth(rows, "churned", ["country"])
    … score the rows with both models, and measure pairs of turns …
    verdict = judge(held_out, Limits(tolerance=Tolerance.parse("0.001")), pairs)

docs/optimize.md explains the figures and how to choose the limits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scoreline.models.compare import cost as costs
from scoreline.models.compare.cost import Cost, Pair, find_cost_problems, measure_ratio
from scoreline.models.compare.held_out import (
    HeldOut,
    check_parent,
    choose_output,
    find_finite_rows,
)
from scoreline.models.compare.labels import choose_metric
from scoreline.models.compare.metrics import Metric
from scoreline.models.compare.parity import (
    Parity,
    agreement_by_row,
    decisions_agree,
    find_parity_problems,
    measure_parity,
)
from scoreline.models.compare.quality import (
    Quality,
    Tolerance,
    find_quality_problems,
    measure_quality,
)
from scoreline.models.compare.slices import Scored, Slices, find_slice_problems, measure_slices
from scoreline.models.rounding import read_scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a variant must hold.

    Attributes:
      tolerance: loss of the metric that is allowed.
      metric: None chooses by the label: AUC for 0 and 1, RMSE for numbers, agreement without one.
      output: the output that is judged by the metric; None if there is only one.
      threshold: of decisions: rows that change sides are counted; without a label, agreement is the
        share of rows that do not.
      max_cost_ratio: maximum CPU time per row, in times of the parent's.
      max_scale_error: maximum |scale − 1| of an output: see `Parity`. None does not check it.
      max_shift: maximum |shift| of an output. None does not check it.
      max_disagreement: maximum disagreement of every other output, for which there is no label.
        None does not check it.
    """

    tolerance: Tolerance
    metric: Metric | None = None
    output: str | None = None
    threshold: float | None = None
    max_cost_ratio: float = costs.MAX_RATIO
    max_scale_error: float | None = 0.01
    max_shift: float | None = 0.05
    max_disagreement: float | None = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a variant may replace its parent. `dataclasses.asdict` is ready for JSON.

    Attributes:
      admitted: whether there is no reason against it.
      reasons: all reasons why not, a sentence each.
      metric: the metric.
      output: the output that the metric judges.
      rows: number of rows that both models scored.
      lost_rows: number of rows that only the parent scored.
      left_out_rows: number of rows whose output is NaN or infinite in the parent: the metric does
        not judge them.
      quality: None if the variant's output cannot be judged.
      slices: None without slices, or if the output cannot be judged.
      parity: a figure for each output that both models have.
      cost: None if it was not measured.
      parent_digest: `sha256:…` of the parent's files; "" if unknown.
      variant_digest: `sha256:…` of the variant's files; "" if unknown.
    """

    admitted: bool
    reasons: tuple[str, ...]
    metric: Metric
    output: str
    rows: int
    lost_rows: int
    left_out_rows: int
    quality: Quality | None
    slices: Slices | None
    parity: tuple[Parity, ...]
    cost: Cost | None
    parent_digest: str = ""
    variant_digest: str = ""


def judge(
    held_out: HeldOut, limits: Limits, pairs: Sequence[Pair] | None = None, *, seed: int = 0
) -> Verdict:
    """Return whether a variant may replace its parent, with all figures.

    Args:
      held_out: rows that took no part in making the variant, scored by both models.
      limits: what it must hold.
      pairs: CPU times of turns: see `measure_ratio`; None if cost does not count.
      seed: of the bootstrap: the same seed has the same figures.

    Raises:
      UnusableRows: the rows, the label or the parent's output cannot judge any variant.
      ValueError: there are too few pairs.
    """
    output, metric, finite = choose_judged(held_out, limits)
    cost = None if pairs is None else measure_ratio(pairs)
    reasons, parity = _compare_outputs(held_out, output, metric, limits)
    quality, slices = None, None
    if output in parity and parity[output].can_be_judged:
        scored = _to_scored(finite, output, metric, limits.threshold)
        quality = measure_quality(metric, *scored, limits.tolerance, seed=seed)
        reasons += find_quality_problems(quality)
        if finite.truth.slices:
            slices = measure_slices(
                metric, scored, finite.truth.slices, quality.tolerance, seed=seed
            )
            reasons += find_slice_problems(slices)
    if cost is not None:
        reasons += find_cost_problems(cost, limits.max_cost_ratio)
    return Verdict(
        admitted=not reasons,
        reasons=tuple(reasons),
        metric=metric,
        output=output,
        rows=held_out.parent.num_rows,
        lost_rows=held_out.lost,
        left_out_rows=held_out.parent.num_rows - finite.parent.num_rows,
        quality=quality,
        slices=slices,
        parity=tuple(parity.values()),
        cost=cost,
    )


class Judged(NamedTuple):
    """The output that is judged, the metric that judges it, and the rows with finite numbers."""

    output: str
    metric: Metric
    rows: HeldOut


def choose_judged(held_out: HeldOut, limits: Limits) -> Judged:
    """Return what is judged, before any variant is made: the parent's scores are enough.

    Raises:
      UnusableRows: the rows, the label or the parent's output cannot judge any variant.
    """
    metric = limits.metric or choose_metric(held_out.truth.label)
    output = choose_output(held_out.parent.schema, limits.output, metric)
    finite = held_out.at(find_finite_rows(held_out.parent.column(output)))
    check_parent(finite, output, metric, limits.threshold)
    return Judged(output, metric, finite)


def _compare_outputs(
    held_out: HeldOut, judged: str, metric: Metric, limits: Limits
) -> tuple[list[str], dict[str, Parity]]:
    """Return what is wrong with outputs by themselves, and the figures of each by its name."""
    reasons = []
    if held_out.lost:
        reasons.append(
            f"expected scores of every row that the parent scores, got none for {held_out.lost:,} "
            f"of {held_out.parent.num_rows + held_out.lost:,} rows"
        )
    parity: dict[str, Parity] = {}
    for field in held_out.parent.schema:
        name = field.name
        if name not in held_out.variant.schema.names:
            reasons.append(f"output '{name}' is missing")
            continue
        found = held_out.variant.schema.field(name).type
        if found != field.type:
            reasons.append(f"output '{name}' gives {found}, gave {field.type}")
            continue
        parity[name] = measure_parity(
            name,
            held_out.parent.column(name),
            held_out.variant.column(name),
            limits.threshold if name == judged else None,
            is_probability=name == judged and metric is Metric.LOG_LOSS,
        )
        reasons += find_parity_problems(
            parity[name],
            held_out.parent.num_rows,
            max_scale_error=limits.max_scale_error,
            max_shift=limits.max_shift,
            max_disagreement=None if name == judged else limits.max_disagreement,
        )
    return reasons, parity


def _to_scored(held_out: HeldOut, output: str, metric: Metric, threshold: float | None) -> Scored:
    """Return label and scores as the metric takes them."""
    parent = read_scores(held_out.parent.column(output))
    variant = read_scores(held_out.variant.column(output))
    if metric is Metric.AGREEMENT:
        if threshold is None:
            agreement = agreement_by_row(parent, variant)
        else:
            agreement = decisions_agree(parent, variant, threshold).astype(float)
        return Scored(None, np.ones(len(agreement)), agreement)
    rows = len(parent.values)
    shape = (rows,) if parent.values.size == rows else (rows, -1)
    return Scored(held_out.truth.label, parent.values.reshape(shape), variant.values.reshape(shape))
