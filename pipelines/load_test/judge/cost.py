"""What a million rows cost: workers × price ÷ rate."""

from __future__ import annotations

from typing import NamedTuple

from scoreline.pipelines.load_test.judge.elements import Limit, Outcome

_MILLION = 1e6
_SECONDS_PER_HOUR = 3600.0


class Cost(NamedTuple):
    """The cost of a million rows. Workers are paid whether they are busy or not.

    Attributes:
      currency: the currency of the prices.
      per_million: of a stream, cost at the target rate, None without a target; of a batch, that of
        its largest volume, with its start.
      per_million_at_capacity: of a stream, cost at the highest rate that the workers hold.
      workers: number of paid workers.
      prices: where the prices come from: a file name, or "profile".
    """

    currency: str
    per_million: float | None
    per_million_at_capacity: float | None
    workers: int
    prices: str


def limit_cost(cost: Cost | None, limit: float | None) -> list[Limit]:
    """Return the limit of the cost, at the target or else at the capacity; [] without a limit."""
    if limit is None:
        return []
    found = None
    if cost is not None:
        found = cost.per_million_at_capacity if cost.per_million is None else cost.per_million
    if found is None:
        return [Limit("cost_per_million", limit, None, Outcome.UNDECIDED)]
    outcome = Outcome.PASS if found <= limit else Outcome.FAIL
    return [Limit("cost_per_million", limit, found, outcome)]


def cost_per_million(workers: int, price_per_worker_hour: float, rate_per_s: float) -> float:
    """Return the cost of a million rows at a rate. Raises ValueError for a rate of 0."""
    if workers < 1 or price_per_worker_hour < 0 or not rate_per_s > 0:
        raise ValueError(
            "A cost needs at least one worker, a price of at least 0 and a rate above 0, got "
            f"{workers=}, {price_per_worker_hour=}, {rate_per_s=}."
        )
    paid_per_s = workers * price_per_worker_hour / _SECONDS_PER_HOUR
    return paid_per_s / rate_per_s * _MILLION


def cost_of(
    workers: int,
    price_per_worker_hour: float,
    *,
    currency: str,
    prices: str,
    rate_per_s: float | None,
    capacity_per_s: float | None,
) -> Cost:
    """Return the cost at the target rate and at the capacity, each if there is one."""
    at_target, at_capacity = (
        None if rate is None else cost_per_million(workers, price_per_worker_hour, rate)
        for rate in (rate_per_s, capacity_per_s)
    )
    return Cost(currency, at_target, at_capacity, workers, prices)
