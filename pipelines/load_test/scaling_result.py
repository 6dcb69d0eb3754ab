"""Capacities by workers → how a pipeline scales, as the report shows it."""

from __future__ import annotations

from collections.abc import Mapping

from scoreline.pipelines.load_test import result
from scoreline.pipelines.load_test.judge import demand, usl


def describe_scaling(
    per_s: Mapping[int, float],
    *,
    need_per_s: float | None,
    max_workers: int | None,
    precision: float,
) -> result.Scaling | None:
    """Return how the capacity grows with the workers; None with one number and without a need.

    Args:
      per_s: the capacity by number of workers.
      need_per_s: the rate for which the workers are wanted; None for none.
      max_workers: number of partitions; None for no limit.
      precision: precision of the capacities, as a share.
    """
    points = usl.hold_out([usl.ScalePoint(*point) for point in sorted(per_s.items())])
    if not points or (len(points) < 2 and need_per_s is None):
        return None
    fit = usl.fit_usl(points, max_workers=max_workers, precision=precision)
    few = f"expected {usl.MIN_COUNTS} numbers of workers, got {len(points)}"
    return result.Scaling(
        tested=tuple(points),
        lambda_per_s=fit.lambda_per_s if fit else None,
        alpha=fit.alpha if fit else None,
        beta=fit.beta if fit else None,
        refused_because="" if fit else few,
        max_workers=max_workers,
        held_out_error=fit.held_out_error if fit else None,
        demand=None if need_per_s is None else demand.demand(need_per_s, points, fit),
    )
