"""What a load test tells about scaling: the numbers for settings of autoscalers."""

from __future__ import annotations

import dataclasses
import math

from scoreline.pipelines.load_test.judge.demand import UTILIZATION
from scoreline.pipelines.load_test.report.numbers import duration, number, percent, rate
from scoreline.pipelines.load_test.result import LoadTest
from scoreline.pipelines.load_test.scaling_result import describe_scaling

# A container needs room above the highest memory that was seen.
MEMORY_MARGIN = 1.5

# Rates and durations beyond these are no measurements.
_MIN_RATE, _MAX_RATE = 1e-3, 1e12
_MAX_S = 7 * 86_400.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """A number and where it is from.

    Attributes:
      value: the number.
      because: its source, in words.
    """

    value: float
    because: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingFacts:
    """Numbers of a load test of a stream. What is not known is None.

    Attributes:
      utilization: planned load of a worker, as a share of its capacity.
      max_utilization: load of a worker from which on the capacity may be exceeded.
      worker_per_s: the lowest capacity of one worker, over the tested numbers of workers.
      min_workers: fewest workers for the rate of the target.
      min_workers_unknown: why `min_workers` is None; "" otherwise.
      max_workers: workers beyond which more are idle.
      recover_s: time in which a backlog must be gone.
      settled_s: time until the latency is as before a spike, as measured.
      start_s: time from a start to the first score.
      window_s: duration of the windows that were judged.
      memory_mb: memory for a worker with a margin, in MB (10^6 bytes).
    """

    utilization: Known
    max_utilization: Known | None
    worker_per_s: Known | None
    min_workers: Known | None
    min_workers_unknown: str
    max_workers: Known
    recover_s: Known | None
    settled_s: Known | None
    start_s: Known | None
    window_s: Known | None
    memory_mb: Known | None


def find_scaling_facts(test: LoadTest) -> ScalingFacts:
    """Return the numbers of a valid test of a stream."""
    utilization = _utilization(test)
    max_workers = _max_workers(test)
    min_workers = _min_workers(test, utilization.value, int(max_workers.value))
    settled = _settled_s(test)
    return ScalingFacts(
        utilization=utilization,
        max_utilization=_max_utilization(test),
        worker_per_s=_worker_per_s(test),
        min_workers=min_workers if isinstance(min_workers, Known) else None,
        min_workers_unknown=min_workers if isinstance(min_workers, str) else "",
        max_workers=max_workers,
        recover_s=_recover_s(test) or settled,
        settled_s=settled,
        start_s=_start_s(test),
        window_s=_window_s(test),
        memory_mb=_memory_mb(test),
    )


def _utilization(test: LoadTest) -> Known:
    demand = test.scaling.demand if test.scaling else None
    if demand is not None and 0 < demand.utilization < 1:
        return Known(value=demand.utilization, because="the planned load of a worker, as in `need`")
    return Known(value=UTILIZATION, because="the planned load of a worker")


def _max_utilization(test: LoadTest) -> Known | None:
    if test.capacity is None or not 0 < test.capacity.precision < 1:
        return None
    precision = test.capacity.precision
    because = f"at 1 all limits held; the capacity is known to {percent(precision)}"
    return Known(value=1 / (1 + precision), because=because)


def _capacities(test: LoadTest) -> dict[int, float]:
    """Return the capacity by number of workers; the lowest one of several."""
    points = [(p.workers, p.per_s) for p in test.scaling.tested] if test.scaling else []
    if test.capacity is not None and test.capacity.passes_per_s is not None:
        points.append((test.capacity.workers, test.capacity.passes_per_s))
    found: dict[int, float] = {}
    for workers, per_s in points:
        if workers > 0 and _MIN_RATE <= per_s <= _MAX_RATE:
            found[workers] = min(per_s, found.get(workers, math.inf))
    return found


def _worker_per_s(test: LoadTest) -> Known | None:
    found = _capacities(test)
    if not found:
        return None
    workers = min(found, key=lambda count: found[count] / count)
    because = f"{rate(found[workers])} held with {number(workers)} workers"
    return Known(value=found[workers] / workers, because=because)


def _max_workers(test: LoadTest) -> Known:
    limit = test.scaling.max_workers if test.scaling else None
    value = max(1, limit if limit is not None else test.subject.partitions)
    return Known(value=value, because=f"{number(value)} partitions; more workers would be idle")


def _min_workers(test: LoadTest, utilization: float, max_workers: int) -> Known | str:
    """Return the fewest workers for the target, or why they are unknown."""
    wanted = test.target.rate_per_s
    if wanted is None or not _MIN_RATE <= wanted <= _MAX_RATE:
        return "the limits have no `rate_per_s`"
    precision = test.capacity.precision if test.capacity else 0.0
    scaling = describe_scaling(
        _capacities(test),
        need_per_s=wanted,
        max_workers=max_workers,
        precision=precision if 0 <= precision < 1 else 0.0,
    )
    if scaling is None or scaling.demand is None:
        return "no tested load passes"
    if scaling.demand.workers is None:
        return scaling.demand.refused_because
    value = int(scaling.demand.workers.value)
    if value > max_workers:
        return f"{rate(wanted)} needs {value} workers, and there are {max_workers} partitions"
    because = (
        f"the fewest whose capacity × {utilization:g} is at least the target, {rate(wanted)} "
        f"({scaling.demand.kind})"
    )
    return Known(value=value, because=because)


def _recover_s(test: LoadTest) -> Known | None:
    limit = test.target.recover_s
    if limit is None or not 0 < limit <= _MAX_S:
        return None
    return Known(value=limit, because=f"the limit `recover_s`, {duration(limit)}")


def _settled_s(test: LoadTest) -> Known | None:
    spike = test.spike
    if spike is None or spike.recovered_s is None or not 0 < spike.recovered_s <= _MAX_S:
        return None
    because = f"measured: recovered {duration(spike.recovered_s)} after a spike"
    return Known(value=spike.recovered_s, because=because)


def _start_s(test: LoadTest) -> Known | None:
    start = test.start
    if start is None or not 0 < start.longest_s <= _MAX_S:
        return None
    because = f"measured: the longest of {start.starts:,} starts, from the command to a score"
    return Known(value=start.longest_s, because=because)


def _window_s(test: LoadTest) -> Known | None:
    shown = test.at_target
    if shown is None or not 0 < shown.window_s <= _MAX_S:
        return None
    because = f"windows of {duration(shown.window_s)} tell loads apart to the precision of the test"
    return Known(value=shown.window_s, because=because)


def _memory_mb(test: LoadTest) -> Known | None:
    seen = [
        (probe.peak_rss_mb / probe.workers, probe)
        for probe in test.probes
        if probe.workers > 0 and probe.peak_rss_mb is not None and 0 < probe.peak_rss_mb < _MAX_RATE
    ]
    if not seen:
        return None
    peak_mb, probe = max(seen, key=lambda pair: pair[0])
    because = (
        f"peak of {number(probe.peak_rss_mb)} MB in {probe.workers} workers, × {MEMORY_MARGIN:g}"
    )
    return Known(value=peak_mb * MEMORY_MARGIN, because=because)
