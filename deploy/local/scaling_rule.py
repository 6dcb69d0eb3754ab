"""How many workers a stream needs: the rule of Flink's autoscaler, without a clock or a cluster.

    needed rows/s = lag ÷ catch-up time + rate × restart time ÷ catch-up time + rate ÷ utilization

is AutoScalerUtils.getTargetProcessingCapacity of Flink's Kubernetes operator. A worker's true rate
is what it processes while records wait, as in the operator's "observed true processing rate":
docs/decisions/0031-true-rate-from-offsets.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

_MAX_READINGS = 120


class Reading(NamedTuple):
    """What Kafka and Flink report at one moment.

    Attributes:
      at_s: the moment, on any clock.
      sent: records of the topic so far.
      done: records of the topic that the group has committed.
      running: workers on which all tasks of the job run; 0 while it restarts.
      paid: workers that are there, whether the job uses them or not.
    """

    at_s: float
    sent: int
    done: int
    running: int
    paid: int

    @property
    def lag(self) -> int:
        """Records that wait."""
        return self.sent - self.done


class Load(NamedTuple):
    """The load of a stream whose workers have settled.

    Attributes:
      rate_per_s: records that arrive.
      lag: records that wait.
      worker_per_s: what one worker processes while records wait; None as long as it is unknown.
      workers: the workers of the job.
      since_change_s: seconds since the job resumed after the newest change of its workers.
      restart_s: seconds from that change until it resumed; None as long as it is unknown.
    """

    rate_per_s: float
    lag: int
    worker_per_s: float | None
    workers: int
    since_change_s: float
    restart_s: float | None


class Known(NamedTuple):
    """What earlier readings, or a load test, have shown; None for what is unknown."""

    worker_per_s: float | None = None
    restart_s: float | None = None


UNKNOWN = Known()


class Decision(NamedTuple):
    """The number of workers to have, and why, in words."""

    workers: int
    because: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """Bounds and targets of scaling.

    Attributes:
      max_workers, min_workers: the bounds.
      readers: readers of the stream. Counts that do not divide them leave some workers with more
        readers than others, so they are not chosen.
      utilization: planned load of a worker, as a share of its true rate.
      margin: nothing changes while the load is within `utilization` ± `margin`.
      backlog_s: with so many seconds of work waiting, a backlog is being worked off. Workers may be
        used up to their true rate then, and none is removed.
      catch_up_s: time in which a backlog, and that of a restart, should be gone.
      restart_s: time of a restart, until one was measured.
      window_s: time over which rates are averaged. A job that restarted is judged after as long.
      remove_after_s: a worker is removed no earlier after the newest change.
    """

    max_workers: int
    readers: int
    min_workers: int = 1
    utilization: float = 0.7
    margin: float = 0.2
    backlog_s: float = 3.0
    catch_up_s: float = 30.0
    restart_s: float = 10.0
    window_s: float = 6.0
    remove_after_s: float = 20.0

    def __post_init__(self) -> None:
        """Refuse bounds and targets that contradict each other."""
        if not 1 <= self.min_workers <= self.max_workers <= self.readers:
            raise ValueError(
                "expected 1 ≤ min_workers ≤ max_workers ≤ readers, got "
                f"{self.min_workers}, {self.max_workers}, {self.readers}"
            )
        if not 0 < self.margin < self.utilization <= 1:
            raise ValueError(
                "expected 0 < margin < utilization ≤ 1, got "
                f"margin {self.margin}, utilization {self.utilization}"
            )


def observe(readings: Sequence[Reading], rule: Rule, known: Known = UNKNOWN) -> Load | None:
    """Return the load; None while the job restarts, or while there are too few readings.

    Args:
      readings: the readings so far, in order of time. Only the newest ones are looked at.
      rule: its window is the time over which rates are averaged.
      known: what was known before. The true rate is replaced when records have waited for a whole
        window, but not in the first one after a restart. The time of a restart is replaced by each.
    """
    readings = readings[-_MAX_READINGS:]
    steady = _steady(readings)
    if not steady:
        return None
    last, resumed = steady[-1], steady[0]
    window = [r for r in readings if r.at_s >= last.at_s - rule.window_s]
    if last.at_s - resumed.at_s < rule.window_s or len(window) < 2:
        return None
    seconds = last.at_s - window[0].at_s
    # Workers that have just started are slower for a while.
    is_warm = window[0].at_s >= resumed.at_s + rule.window_s
    true_per_s = _true_per_s(window) if is_warm else None
    changed = max((r.at_s for r in readings if r.paid != last.paid), default=None)
    return Load(
        rate_per_s=(last.sent - window[0].sent) / seconds,
        lag=last.lag,
        worker_per_s=true_per_s or known.worker_per_s,
        workers=last.running,
        since_change_s=last.at_s - resumed.at_s,
        restart_s=known.restart_s if changed is None else resumed.at_s - changed,
    )


def _steady(readings: Sequence[Reading]) -> list[Reading]:
    """Return the newest readings between which nothing changed and the job made progress."""
    if not readings or not 0 < readings[-1].running == readings[-1].paid:
        return []
    last = readings[-1]
    first = len(readings) - 1
    while first > 0 and readings[first - 1][3:] == last[3:]:
        first -= 1
    for at in range(first, len(readings)):
        if readings[at].done > readings[first].done or not readings[at].lag:
            return list(readings[at:])
    return []


def _true_per_s(window: Sequence[Reading]) -> float | None:
    """Return the rows per second of a worker; None unless records waited all the time."""
    done = window[-1].done - window[0].done
    # Less than that may be the records of one transaction, which are done though they are not
    # committed.
    if not done or min(reading.lag for reading in window) < done / 2:
        return None
    return done / (window[-1].at_s - window[0].at_s) / window[-1].running


def decide(load: Load, rule: Rule) -> Decision:
    """Return the workers for a load.

    Workers are added if their capacity is below what the load needs at `utilization + margin`.
    They are removed if it is above what it needs at `utilization - margin`, restart included.
    """
    bounded = min(max(load.workers, rule.min_workers), rule.max_workers)
    if bounded != load.workers:
        return Decision(bounded, f"the bounds are {rule.min_workers} and {rule.max_workers}")
    if load.worker_per_s is None:
        return Decision(load.workers, "the true rate of a worker is not known yet")
    capacity = load.workers * load.worker_per_s
    wanted = _count(_needed(load, rule, rule.utilization) / load.worker_per_s, rule)
    is_behind = load.lag > capacity * rule.backlog_s
    upper = 1.0 if is_behind else min(1.0, rule.utilization + rule.margin)
    if capacity < _needed(load, rule, upper, restarts=False):
        if wanted > load.workers:
            return Decision(wanted, _describe(load))
        return Decision(load.workers, "more workers are not allowed")
    if wanted >= load.workers or capacity <= _needed(load, rule, rule.utilization - rule.margin):
        return Decision(load.workers, "the load is within its margin")
    if is_behind:
        return Decision(load.workers, "a backlog is being worked off")
    if load.since_change_s < rule.remove_after_s:
        return Decision(load.workers, "the newest change is too recent to remove workers")
    return Decision(wanted, _describe(load))


def _needed(load: Load, rule: Rule, utilization: float, *, restarts: bool = True) -> float:
    """Return the rows per second that the workers must be able to process."""
    restart_s = rule.restart_s if load.restart_s is None else load.restart_s
    waiting = load.lag + (load.rate_per_s * restart_s if restarts else 0.0)
    return waiting / rule.catch_up_s + load.rate_per_s / utilization


def _count(workers: float, rule: Rule) -> int:
    """Return the fewest workers of at least so many that share the readers evenly."""
    fewest = max(rule.min_workers, math.ceil(workers - 1e-9))
    even = (n for n in range(fewest, rule.max_workers + 1) if rule.readers % n == 0)
    return next(even, rule.max_workers)


def _describe(load: Load) -> str:
    return (
        f"{load.rate_per_s:,.0f}/s arrive, {load.lag:,} wait, "
        f"a worker processes {load.worker_per_s:,.0f}/s"
    )
