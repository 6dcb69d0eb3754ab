"""What Theodolite's rule and a closed-loop client conclude on queues that the load test judges.

    python -m benchmarks.load_rules

Simulates a queue with one server, whose truth is known, and prints a table: in how many tests each
of them finds that the load holds. A test is three windows. Takes about a minute.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scoreline.pipelines.load_test.arrivals import find_due
from scoreline.pipelines.load_test.judge.elements import (
    Floats,
    Insufficient,
    Interval,
    Outcome,
    Slos,
    Window,
)
from scoreline.pipelines.load_test.judge.search import MIN_FAILURES, WINDOWS
from scoreline.pipelines.load_test.judge.window import judge_window

RATE_PER_S, WARM_UP_S, WINDOW_S = 1000.0, 60.0, 120.0
SLOS = Slos(rate_per_s=RATE_PER_S, latency_ms=250.0)

# Theodolite's own examples have a threshold of 2,000 records a second. Its later ratio is a share
# of the load. Prometheus reads the lag every 5 s.
THRESHOLD_PER_S, RATIO, SAMPLE_S = 2000.0, 0.01, 5.0
# A window with too few records for its percentile is repeated with up to so many times as many.
MAX_LONGER, RESERVE = 4, 1.5
# Records that the closed-loop client has sent and not got back.
IN_FLIGHT = 10


class Plant(NamedTuple):
    """A queue.

    Attributes:
      load: its utilization, without the stalls.
      is_random: whether service times are exponential; else all are the same.
      stall_s: time for which it pauses.
      every_s: a pause begins at each multiple of it.
    """

    load: float
    is_random: bool = False
    stall_s: float = 0.0
    every_s: float = 10.0

    @property
    def name(self) -> str:
        """Its name in the table."""
        stalls = f", {1000 * self.stall_s:.0f} ms stall each {self.every_s:.0f} s"
        kind = ", random service times" if self.is_random else ""
        return f"ρ = {self.load:g}{kind}{stalls if self.stall_s else ''}"


PLANTS = (
    *(Plant(load) for load in (0.8, 0.95)),
    Plant(0.95, is_random=True),
    *(Plant(load) for load in (1.02, 1.1)),
    Plant(0.8, stall_s=0.5),
)


def to_worked(at_s: Floats, plant: Plant) -> Floats:
    """Return how many seconds a server was not paused, from time 0 on."""
    pauses, since_s = np.divmod(at_s, plant.every_s)
    return pauses * (plant.every_s - plant.stall_s) + np.maximum(since_s - plant.stall_s, 0.0)


def to_time(worked_s: float, plant: Plant) -> float:
    """Return when a server has worked so long."""
    works_s = plant.every_s - plant.stall_s
    pauses = math.floor(worked_s / works_s)
    return pauses * plant.every_s + plant.stall_s + worked_s - pauses * works_s


def serve(due_s: Floats, service_s: Floats, plant: Plant) -> Floats:
    """Return when one server ends each record, in order: an open loop."""
    busy_s = np.cumsum(service_s)
    ends_s = busy_s + np.maximum.accumulate(to_worked(due_s, plant) - busy_s + service_s)
    works_s = plant.every_s - plant.stall_s
    pauses = np.floor(ends_s / works_s)
    return pauses * plant.every_s + plant.stall_s + ends_s - pauses * works_s


def serve_in_closed_loop(
    due_s: Floats, service_s: Floats, plant: Plant, in_flight: int = IN_FLIGHT
) -> tuple[Floats, Floats]:
    """Return when a client sends each record, and when it is done.

    The client keeps to the due times as long as fewer than `in_flight` records have no answer.
    Otherwise it waits for one, and measures the latency only from then on: coordinated omission
    (G. Tene, How NOT to measure latency, 2013).
    """
    sent, done = np.empty(len(due_s)), np.empty(len(due_s))
    answers = [-math.inf] * in_flight
    free_s = 0.0  # in seconds that the server has worked
    works_s = plant.every_s - plant.stall_s
    for i, (due, takes) in enumerate(zip(due_s.tolist(), service_s.tolist(), strict=True)):
        at = max(due, answers[i % in_flight])
        pauses, since = divmod(at, plant.every_s)
        arrives = pauses * works_s + max(since - plant.stall_s, 0.0)
        free_s = max(free_s, arrives) + takes
        sent[i] = at
        done[i] = answers[i % in_flight] = to_time(free_s, plant)
    return sent, done


def lag_trend(due_s: Floats, scored_s: Floats, begin_s: float, end_s: float) -> float:
    """Return the slope of the lag by Theodolite: least squares over samples after the warm-up.

    Henning and Hasselbring 2022, doi 10.1007/s10664-022-10162-1.
    """
    at_s = np.arange(begin_s, end_s + 1e-9, SAMPLE_S)
    sent, scored = np.searchsorted(due_s, at_s), np.searchsorted(np.sort(scored_s), at_s)
    return float(np.polyfit(at_s, sent - scored, 1)[0])


@dataclasses.dataclass(kw_only=True)
class Said:
    """What was found about one window of a plant.

    Attributes:
      truth_ms: its p99, of all records.
      outcome: of the load test.
      reported_ms: the p99 that the load test reports; None for none.
      slope_per_s: of Theodolite's rule.
      closed_ms: p99 of the closed-loop client.
      closed_per_s: the rate that it reached.
    """

    truth_ms: float
    outcome: Outcome
    reported_ms: float | None
    slope_per_s: float
    closed_ms: float
    closed_per_s: float


def try_window(plant: Plant, seed: int) -> Said:
    """Return what each of them says of the same arrivals and the same service times.

    As the load test does, its window is repeated with more records if it had too few of them.
    """
    due_s, service_s = draw(plant, seed, WINDOW_S)
    scored_s = serve(due_s, service_s, plant)
    judged = judge_window(to_window(due_s, scored_s, WINDOW_S), SLOS)
    found = judged.latency_ms["p99"]
    if judged.outcome is Outcome.UNDECIDED and isinstance(found, Insufficient):
        longer_s = min(MAX_LONGER * WINDOW_S, RESERVE * found.needed / RATE_PER_S)
        again_s, service_again_s = draw(plant, seed, longer_s)
        again = to_window(again_s, serve(again_s, service_again_s, plant), longer_s)
        judged = judge_window(again, SLOS)
        found = judged.latency_ms["p99"]
    begin_s, end_s = WARM_UP_S, WARM_UP_S + WINDOW_S
    within = due_s >= begin_s
    sent_s, done_s = serve_in_closed_loop(due_s, service_s, plant)
    return Said(
        truth_ms=_p99_ms((scored_s - due_s)[within]),
        outcome=judged.outcome,
        reported_ms=found.value if isinstance(found, Interval) else None,
        slope_per_s=lag_trend(due_s, scored_s, begin_s, end_s),
        closed_ms=_p99_ms((done_s - sent_s)[within]),
        closed_per_s=np.count_nonzero((done_s >= begin_s) & (done_s < end_s)) / WINDOW_S,
    )


def draw(plant: Plant, seed: int, window_s: float) -> tuple[Floats, Floats]:
    """Return due times from the begin of the warm-up on, and service times."""
    due_s = find_due("poisson", RATE_PER_S, WARM_UP_S + window_s, seed)
    mean_s = plant.load / RATE_PER_S
    if not plant.is_random:
        return due_s, np.full(len(due_s), mean_s)
    return due_s, np.random.default_rng([seed, 1]).exponential(mean_s, len(due_s))


def to_window(due_s: Floats, scored_s: Floats, window_s: float) -> Window:
    """Return what a driver would have seen."""
    return Window(
        phase="confirm",
        shape="poisson",
        workers=1,
        seed=0,
        offered_per_s=np.count_nonzero(due_s >= WARM_UP_S) / window_s,
        begin_s=WARM_UP_S,
        end_s=WARM_UP_S + window_s,
        due_s=due_s,
        sent_s=due_s,
        scored_s=scored_s,
        is_dead=np.zeros(len(due_s), bool),
        commit_s=0.0,
    )


def _p99_ms(latency_s: Floats) -> float:
    return 1e3 * float(np.percentile(latency_s, 99, method="inverted_cdf"))


def conclude(windows: Sequence[Said]) -> tuple[Outcome, bool, bool, bool]:
    """Return what a test of three windows concludes.

    That is the outcome of the load test, and whether the load holds by Theodolite's median slope
    below a threshold, below a share of the load, and by the median p99 of the closed loop.
    """
    outcomes = [said.outcome for said in windows]
    ours = Outcome.UNDECIDED
    if outcomes.count(Outcome.PASS) == WINDOWS:
        ours = Outcome.PASS
    elif outcomes.count(Outcome.FAIL) >= MIN_FAILURES:
        ours = Outcome.FAIL
    slope = float(np.median([said.slope_per_s for said in windows]))
    closed_ms = float(np.median([said.closed_ms for said in windows]))
    limit_ms = SLOS.latency_ms or math.inf
    return ours, slope < THRESHOLD_PER_S, slope < RATIO * RATE_PER_S, closed_ms <= limit_ms


def make_row(plant: Plant, tests: int) -> str:
    """Return the row of a plant."""
    windows = [try_window(plant, seed) for seed in range(tests * WINDOWS)]
    grouped = [windows[i : i + WINDOWS] for i in range(0, len(windows), WINDOWS)]
    ours, absolute, ratio, closed = zip(*map(conclude, grouped), strict=True)
    reported = [said.reported_ms for said in windows if said.reported_ms is not None]
    cells = [
        plant.name,
        "grows" if plant.load >= 1 else f"{np.median([said.truth_ms for said in windows]):.0f}",
        " · ".join(
            str(ours.count(each)) for each in (Outcome.PASS, Outcome.FAIL, Outcome.UNDECIDED)
        ),
        f"{np.median(reported):.0f}" if len(reported) > len(windows) / 2 else "none",
        *(f"{sum(holds)} · {tests - sum(holds)}" for holds in (absolute, ratio, closed)),
        f"{np.median([said.closed_ms for said in windows]):.0f}",
        f"{np.median([said.closed_per_s for said in windows]):,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tests", type=int, default=10, help="tests of each plant")
    args = parser.parse_args(argv)
    head = ["queue", "p99, ms", "load test", "its p99, ms", f"slope < {THRESHOLD_PER_S:,.0f}/s"]
    head += [f"slope < {100 * RATIO:g} % of the load", "closed loop", "its p99, ms", "its rate, /s"]
    sys.stdout.write(f"| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}\n")
    for plant in PLANTS:
        sys.stdout.write(f"{make_row(plant, args.tests)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
