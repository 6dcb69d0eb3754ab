"""Latency and throughput of streams at fixed rates, against a bare loop: `make bench-stream`.

    python -m benchmarks.stream --brokers 127.0.0.1:9092 --rates 50,1000,4000 --seconds 60

The load is an open loop: a separate process sends each flight when it is due, at a rate that does
not depend on the job, and writes the due time into it. The latency of a flight is the time from
then until its score is read, so a stall counts for every flight that waits. Percentiles leave out
the warm-up.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import psutil
from hdrh.histogram import HdrHistogram

from benchmarks.stream_designs import BUILD, DESIGNS, PRISM, Case, running
from benchmarks.stream_load import PATTERNS, SPIKE_SECONDS, start_sending, workload

_PATIENCE_SECONDS = 20.0
# A JVM compiles code for minutes after it first runs.
_SETTLE_SECONDS = 180.0
_MAX_LATENCY_US = 600_000_000
_COLUMNS = (
    "design pattern partitions offered/s scored/s p50_ms p95_ms p99_ms max_ms unscored cores MB"
)


class Percentiles(NamedTuple):
    """Latencies in ms."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Found(NamedTuple):
    """The result of one run: for each score its arrival and its due time, in ms."""

    at_ms: npt.NDArray[np.float64]
    due_ms: npt.NDArray[np.float64]
    wanted: int
    cores: float
    peak_mb: float


def percentiles(late_ms: npt.NDArray[np.float64]) -> Percentiles:
    """Return percentiles of latencies with three significant digits (HdrHistogram)."""
    if not late_ms.size:
        return Percentiles(*[float("nan")] * 4)
    histogram = HdrHistogram(1, _MAX_LATENCY_US, 3)
    for value in np.clip(late_ms * 1000, 1, _MAX_LATENCY_US).astype(np.int64).tolist():
        histogram.record_value(value)
    at = [histogram.get_value_at_percentile(p) / 1000 for p in (50, 95, 99, 100)]
    return Percentiles(*at)


def recovery_seconds(
    at_ms: npt.NDArray[np.float64],
    due_ms: npt.NDArray[np.float64],
    from_ms: float,
    until_ms: float,
) -> float:
    """Return how long latency stays above the p99 from before a spike, in seconds after its end.

    Args:
      at_ms: arrival time of each score.
      due_ms: due time of each flight.
      from_ms: start of the spike.
      until_ms: end of the spike.
    """
    late = at_ms - due_ms
    before, since = late[due_ms < from_ms], due_ms >= from_ms
    usual = np.percentile(before, 99)
    # One flight in a hundred exceeds the p99 anyway, so compare the median of each second.
    seconds = ((due_ms[since] - until_ms) // 1000).astype(int)
    last = max(
        (s for s in np.unique(seconds) if np.median(late[since][seconds == s]) > usual), default=-1
    )
    return float(max(0, last + 1))


def measure(case: Case, brokers: str) -> Found:
    """Run a design under a load, and return the result."""
    work = workload(BUILD)
    gc.collect()
    gc.disable()  # visiting hundreds of thousands of pairs would stall this process
    with running(case, brokers, work) as design:
        before, peak = design.used()
        sender = start_sending(brokers, design.topic, case.pattern, case.rate, case.seconds)
        found: list[tuple[float, float]] = []
        heard = looked = time.monotonic()
        wanted = None
        while wanted is None or len(found) < wanted:
            now = time.monotonic()
            if not design.process.is_running() or design.process.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeError(f"expected {case.design} to run on, but it ended")
            if some := next(design.incoming):
                found += some
                heard = now
            if now - looked > 1:
                looked, peak = now, max(peak, design.used()[1])
            if wanted is None and sender.poll() is not None:
                wanted, heard = int(sender.communicate()[0]), now
            if wanted is not None and now - heard > _PATIENCE_SECONDS:
                break
        used, _ = design.used()
    at, due = np.array(found or [(0.0, 0.0)]).T
    whole = max((at.max() - due.min()) / 1000, 1e-9)
    return Found(at, due, wanted, (used - before) / whole, peak)


def report(case: Case, found: Found) -> list[str]:
    """Return a row of the table: offered load and results, without the warm-up."""
    begins = found.due_ms.min() + case.warm_up * 1000
    counted = found.due_ms >= begins
    at, due = found.at_ms[counted], found.due_ms[counted]
    span = (at.max() - begins) / 1000 if at.size else float("nan")
    late = percentiles(at - due)
    return [
        case.design,
        case.pattern,
        str(case.partitions),
        f"{case.rate:,}",
        f"{at.size / span:,.0f}",
        *(f"{value:.1f}" for value in late),
        str(found.wanted - found.at_ms.size),
        f"{found.cores:.2f}",
        f"{found.peak_mb:,.0f}",
    ]


def measure_idle(design: str, brokers: str, seconds: float) -> float:
    """Return the cores that an idle design uses after it has settled."""
    case = Case(design=design, pattern="steady", partitions=1, rate=0, seconds=0, warm_up=0)
    with running(case, brokers, workload(BUILD)) as running_design:
        time.sleep(_SETTLE_SECONDS)
        before, _ = running_design.used()
        time.sleep(seconds)
        after, _ = running_design.used()
    return (after - before) / seconds


def print_row(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--rates", default="50,1000,4000,8000,16000")
    parser.add_argument("--partitions", default="1,4")
    parser.add_argument("--patterns", default="steady", help=f"of {', '.join(PATTERNS)}")
    parser.add_argument("--designs", default=",".join(DESIGNS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm_up", type=float, default=15.0)
    parser.add_argument("--idle_seconds", type=float, default=20.0)
    given = parser.parse_args(argv)
    designs, patterns = given.designs.split(","), given.patterns.split(",")
    if set(designs) - set(DESIGNS) or set(patterns) - set(PATTERNS):
        parser.error(
            f"expected designs of {', '.join(DESIGNS)} and patterns of {', '.join(PATTERNS)}, "
            f"got {given.designs} and {given.patterns}"
        )
    if any(PRISM in DESIGNS[design][1] for design in designs) and "PRISM" not in os.environ:
        parser.error("expected PRISM=PATH of Prism's binary in the environment, as make sets it")
    titles = _COLUMNS.split()
    print_row([title.replace("_", " ") for title in titles])
    print_row(["---"] * 2 + ["--:"] * (len(titles) - 2))
    for pattern in patterns:
        for partitions in map(int, given.partitions.split(",")):
            for rate in map(int, given.rates.split(",")):
                for design in designs:
                    case = Case(
                        design=design,
                        pattern=pattern,
                        partitions=partitions,
                        rate=rate,
                        seconds=given.seconds,
                        warm_up=given.warm_up,
                    )
                    _measure_and_print(case, given.brokers)
    if given.idle_seconds:
        for design in designs:
            cores = measure_idle(design, given.brokers, given.idle_seconds)
            print(f"- {design}: idle, {cores:.3f} cores", flush=True)
    return 0


def _measure_and_print(case: Case, brokers: str) -> None:
    try:
        found = measure(case, brokers)
    except RuntimeError as e:  # a peer that cannot sustain the load is a result too
        print(f"{case}: {e}", file=sys.stderr)
        print_row([case.design, case.pattern, str(case.partitions), f"{case.rate:,}", "failed"])
        return
    print_row(report(case, found))
    if case.pattern == "spike":
        begins = found.due_ms.min() + case.seconds * 500
        ends = begins + SPIKE_SECONDS * 1000
        took = recovery_seconds(found.at_ms, found.due_ms, begins, ends)
        print(f"{case.design}: back to normal {took:.0f} s after the spike", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
