"""The method of a load test of a stream: which loads are offered, and in which order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from scoreline.pipelines.load_test.budget import Budget
from scoreline.pipelines.load_test.driver.ids import MAX_RECORDS
from scoreline.pipelines.load_test.driver.loads import HARNESS, Drained, Offer
from scoreline.pipelines.load_test.judge.bottleneck import (
    ABLATION_FACTOR,
    confirm,
    evidence_of,
    find_bottleneck,
)
from scoreline.pipelines.load_test.judge.demand import UTILIZATION
from scoreline.pipelines.load_test.judge.elements import Insufficient, Outcome, WorkerTimes
from scoreline.pipelines.load_test.judge.estimates import busy_time_per_s, drain_per_s
from scoreline.pipelines.load_test.judge.percentiles import samples_needed
from scoreline.pipelines.load_test.judge.search import HARNESS_MARGIN, Capacity, Probe, Search
from scoreline.pipelines.load_test.judge.window import judge_window
from scoreline.pipelines.load_test.offers import (
    SPIKE_FACTOR,
    STEP_FACTOR,
    WARM_UP_S,
    min_change_window_s,
    offer_spike,
    offer_steadily,
    offer_step,
)
from scoreline.pipelines.load_test.stream_plan import STEADY, Found, Plan, Stream, Tried
from scoreline.transforms.null_stages import OF_STREAM

# A backlog to work off: enough for seconds of scoring, and again ten times as many if it was not.
_BACKLOG_RECORDS = 50_000
_MAX_BACKLOG_RECORDS = 2_000_000
_MIN_DRAIN_S = 3.0
_MAX_DRAIN_S = 20.0
# The first load without a wish is this share of the rate at which a backlog is worked off.
_FIRST_SHARE = 0.5
# A start, and the wait for late scores after a window.
_OVERHEAD_S = 12.0
# A window of a slow stream is longer, so that it has enough records for its percentile, but not
# longer than this. 459 records show a p99 if none is above the limit; bursts need more.
_MAX_WINDOW_S = 600.0
_MAX_LONGER = 4
_MIN_RECORDS = 100
_FIRST_EFFECT = 4.0
_RESERVE = 1.5
_CHECKS_WITHOUT_SCORES = ("sender_late_p99_ms", "neighbour_cpu_share", "steal_share")
# Random arrivals may be some more than their mean; an offer of millions, hardly so.
_MORE_RECORDS = 1.01
# Workers write their counts once a second, so that up to two seconds of a window are missing.
_MIN_KEPT_SHARE = 0.95
_MODEL_ALONE_S = 30.0
_ALONE_S = 40.0
# A test counts by the offsets, which only transactions leave out: they are not the rule.
_REPLACEABLE = tuple(stage for stage in OF_STREAM if stage != "commit")


class StreamTest:
    """Finds out what load a stream holds.

    The order: the harness alone, a drained backlog, the search for the capacity, the target, a
    spike and a step, the bottleneck with its ablation, further numbers of workers, the soak. What
    does not fit into the budget is left out from the end.
    """

    def __init__(
        self, stream: Stream, plan: Plan, budget: Budget, say: Callable[[str], None]
    ) -> None:
        """Start nothing yet."""
        self._stream, self._plan, self._budget, self._say = stream, plan, budget, say
        self._seed, self._effect = plan.seed, _FIRST_EFFECT
        self._started: tuple[int, str] | None = None
        self.found = Found()

    def run(self) -> Found:
        """Run all steps that the budget allows.

        Raises:
          BadOptions: the stream refuses its options.
          ChildEnded, TimeoutError: a process ended before its time, or there is no score.
        """
        found, plan = self.found, self._plan
        workers = plan.workers[0]
        drained = self._drain(workers, HARNESS)
        found.harness_per_s = drain_per_s(drained.scored_s)
        self._say(f"harness: {found.harness_per_s or 0:,.0f}/s")
        drained = self._drain(workers, "")
        found.drain_per_s = drain_per_s(drained.scored_s)
        found.busy_time_per_s = busy_time_per_s(drained.worker_times)
        self._say(f"backlog: {found.drain_per_s or 0:,.0f}/s")
        start = plan.start_per_s or plan.slos.rate_per_s or self._first_load()
        found.capacities[workers] = self._search(workers, start)
        found.at_target = self._at_target(workers)
        self._try_changes(workers)
        self._find_bottleneck(workers)
        if self._budget.allows(_MODEL_ALONE_S, "the model alone"):
            found.model_alone = self._stream.measure_model(plan.slos.rate_per_s)
            self._started = None
        for more in plan.workers[1:]:
            self._scale(more)
        if plan.soak_s is not None:
            found.soak = self._soak(workers, plan.soak_s)
        return found

    def _first_load(self) -> float:
        return max(1.0, (self.found.drain_per_s or 2.0) * _FIRST_SHARE)

    def _drain(self, workers: int, replaced: str) -> Drained:
        """Return how a backlog is worked off that is large enough to tell."""
        count = _BACKLOG_RECORDS
        while True:
            self._started = None
            self._stream.start(workers=workers, replaced=replaced, backlog=count)
            drained = self._stream.drain(count, _MAX_DRAIN_S)
            took = drained.end_s - drained.begin_s
            is_enough = took >= _MIN_DRAIN_S or drained.scored_s.size < count
            if is_enough or count >= _MAX_BACKLOG_RECORDS:
                return drained
            more = count * _MAX_DRAIN_S / 2 / max(took, 0.1)
            count = int(min(_MAX_BACKLOG_RECORDS, more))

    def _search(self, workers: int, start_per_s: float) -> Capacity:
        """Search for the capacity as far as the budget allows."""
        search = Search(
            start_per_s=start_per_s,
            precision=self._plan.precision,
            harness_per_s=self.found.harness_per_s or float("inf"),
        )
        while (probe := search.next_probe()) is not None:
            what = f"the rest of the search with {workers} workers"
            if self._records_needed() > probe.load_per_s * _MAX_WINDOW_S:
                self._budget.cut.append(
                    f"loads of {probe.load_per_s:.3g}/s and below: a window needs "
                    f"{self._records_needed():,} records, which take over {_MAX_WINDOW_S:.0f} s"
                )
                break
            if not self._allows(probe.load_per_s, what):
                break
            tried = self._try(probe, workers)
            search = search.after(tried.judged.outcome)
        return search.capacity()

    def _records_needed(self) -> int:
        """Return how many records a window needs, most of all for a percentile with a limit."""
        slos = self._plan.slos
        return _MIN_RECORDS if slos.latency_ms is None else samples_needed(slos.latency_percentile)

    def _window_s(self, load_per_s: float) -> float:
        wanted = self._effect * self._records_needed() / load_per_s
        longest_s = min(_MAX_WINDOW_S, _longest_s(load_per_s))
        return max(self._plan.precision.window_s, min(wanted, longest_s))

    def _window_cost_s(self, load_per_s: float) -> float:
        return WARM_UP_S + self._window_s(load_per_s) + _OVERHEAD_S

    def _allows(self, load_per_s: float, what: str) -> bool:
        """Return whether a window is possible; if not, note that it is left out."""
        if _longest_s(load_per_s) < self._plan.precision.window_s:
            self._budget.cut.append(
                f"{what}: a window of {load_per_s:,.0f}/s has more than the {MAX_RECORDS:,} "
                "records that a test can follow"
            )
            return False
        return self._budget.allows(self._window_cost_s(load_per_s), what)

    def _try(self, probe: Probe, workers: int, replaced: str = "") -> Tried:
        """Offer a steady load, and judge it; a longer one if it had too few records."""
        tried = self._try_once(probe, workers, replaced)
        needed = _needed(tried, self._plan.slos.latency_percentile)
        longest_s = min(_MAX_WINDOW_S, _MAX_LONGER * tried.window.seconds)
        longest_s = min(longest_s, _longest_s(probe.load_per_s))
        if not needed or needed > probe.load_per_s * longest_s:
            return tried
        if not self._budget.allows(needed / probe.load_per_s + _OVERHEAD_S, "a longer window"):
            return tried
        longest = longest_s * probe.load_per_s
        self._effect = min(_RESERVE * needed, longest) / self._records_needed()
        self.found.tried[-1] = dataclasses.replace(tried, is_repeated=True)
        return self._try_once(probe, workers, replaced)

    def _try_once(self, probe: Probe, workers: int, replaced: str) -> Tried:
        return self._offer_steadily(probe, self._window_s(probe.load_per_s), workers, replaced)

    def _offer_steadily(
        self, probe: Probe, window_s: float, workers: int, replaced: str = ""
    ) -> Tried:
        plan, (phase, load_per_s) = self._plan, probe
        seed = self._next_seed()
        offer = offer_steadily(phase, plan.shape, load_per_s, window_s, seed, plan.trace_s)
        return self._offer(load_per_s, offer, workers, replaced)

    def _next_seed(self) -> int:
        self._seed += 1
        return self._seed

    def _offer(self, load_per_s: float, offer: Offer, workers: int, replaced: str = "") -> Tried:
        is_other = self._started != (workers, replaced)
        if is_other or not self._stream.can_take(offer.due_s.size):
            start_s = self._stream.start(workers=workers, replaced=replaced)
            self._started = (workers, replaced)
            if start_s is not None and not replaced:
                self.found.starts_s.append(start_s)
        window = self._stream.offer(offer)
        judged = judge_window(window, self._plan.slos)
        tried = Tried(load_per_s=load_per_s, window=window, judged=judged)
        self.found.tried.append(tried)
        self._say(_describe(tried))
        return tried

    def _at_target(self, workers: int) -> Tried | None:
        """Return a window at the target; one more if the search made none."""
        target = self._plan.slos.rate_per_s
        if target is None:
            return None
        if (at := self._at(target)) is not None:
            return at
        if not self._allows(target, "the target itself"):
            return None
        return self._try(Probe("confirm", target), workers)

    def _try_changes(self, workers: int) -> None:
        """Offer half of the capacity, with a spike, and then with a step."""
        capacity = self.found.capacities[workers].passes_per_s
        if capacity is None:
            return
        base = capacity / 2
        window_s = max(self._window_s(base), min_change_window_s(base))
        window_s = min(window_s, _longest_s(STEP_FACTOR * base))  # the spike's mean is no higher
        if window_s > _MAX_WINDOW_S:
            self._budget.cut.append(
                f"spike and step from {base:.3g}/s: what is normal takes over {_MAX_WINDOW_S:.0f} s"
            )
            return
        cost_s = WARM_UP_S + window_s + _OVERHEAD_S
        drain = self.found.drain_per_s or capacity
        ceiling = (self.found.harness_per_s or float("inf")) / HARNESS_MARGIN / base
        if self._budget.allows(cost_s, "the spike"):
            factor = min(SPIKE_FACTOR, ceiling)
            spike = offer_spike(base, factor, window_s, self._next_seed(), drain)
            self.found.spike = self._offer(base, spike, workers)
        if self._budget.allows(cost_s, "the step"):
            factor = min(STEP_FACTOR, ceiling)
            step = offer_step(base, factor, window_s, self._next_seed(), drain)
            self.found.step = self._offer(base, step, workers)

    def _soak(self, workers: int, soak_s: float) -> Tried | None:
        """Offer the target for a long time, or the planned utilization if it does not hold."""
        capacity, target = self.found.capacities[workers].passes_per_s, self._plan.slos.rate_per_s
        if capacity is None:
            self._budget.cut.append("the soak: no tested load passes")
            return None
        holds = target is not None and target <= capacity
        load = target if target is not None and holds else UTILIZATION * capacity
        if soak_s > (longest_s := _longest_s(load)):
            self._budget.cut.append(
                f"the soak after {longest_s:,.0f} s: at {load:,.0f}/s it has more than the "
                f"{MAX_RECORDS:,} records that a test can follow"
            )
            soak_s = longest_s
        if not self._budget.allows(WARM_UP_S + soak_s + _OVERHEAD_S, "the soak"):
            return None
        return self._offer_steadily(Probe("soak", load), soak_s, workers)

    def _find_bottleneck(self, workers: int) -> None:
        """Find the stage that limits the stream, and try the stream without it."""
        capacity = self.found.capacities[workers]
        shown = self._at(capacity.fails_per_s) or self._at(capacity.passes_per_s)
        if shown is None:
            return
        evidence = evidence_of(
            shown.window,
            shown.judged,
            latency_ms=self._plan.slos.latency_ms,
            partitions=self._plan.partitions,
            cores=self._plan.cores,
            alone=self._alone(workers),
            limited_by_harness=capacity.limited_by_harness,
        )
        suspect = find_bottleneck(evidence)
        self.found.bottleneck = suspect
        if suspect.stage not in _REPLACEABLE or capacity.passes_per_s is None:
            return
        load = capacity.passes_per_s * ABLATION_FACTOR
        if self._allows(load, "the ablation"):
            tried = self._try(Probe("ablation", load), workers, suspect.stage)
            outcome = _count_outcome(tried) if suspect.stage == "send" else tried.judged.outcome
            self.found.bottleneck = confirm(suspect, outcome, capacity_per_s=capacity.passes_per_s)

    def _alone(self, workers: int) -> tuple[WorkerTimes, ...]:
        """Return what one worker does with a backlog: it waits for no other worker's lock."""
        if workers == 1 or not self._budget.allows(_ALONE_S, "one worker alone, for locks"):
            return ()
        return self._drain(1, "").worker_times

    def _at(self, load_per_s: float | None) -> Tried | None:
        """Return the last steady window at a load; None if there is none."""
        at = [t for t in self.found.tried if load_per_s is not None and _is_at(t, load_per_s)]
        return at[-1] if at else None

    def _scale(self, workers: int) -> None:
        """Find the capacity with another number of workers."""
        before, capacity = max(self.found.capacities.items())
        guess = (capacity.passes_per_s or self._first_load()) / before * workers
        what = f"the capacity of {workers} workers"
        if self._budget.allows(4 * self._window_cost_s(guess), what):
            self.found.capacities[workers] = self._search(workers, guess)


def _longest_s(load_per_s: float) -> float:
    """Return the longest window behind a warm-up whose records can all be followed."""
    return MAX_RECORDS / _MORE_RECORDS / load_per_s - WARM_UP_S


def _needed(tried: Tried, percent: float) -> int:
    """Return how many records an undecided window had needed; 0 if it had enough."""
    found = tried.judged.latency_ms.get(f"p{percent:g}")
    is_open = tried.judged.outcome is Outcome.UNDECIDED and isinstance(found, Insufficient)
    return found.needed if is_open and isinstance(found, Insufficient) else 0


def _count_outcome(tried: Tried) -> Outcome:
    """Return whether a stream that sends nothing kept up, by the rows that its workers counted."""
    checks = [check for check in tried.judged.checks if check.name in _CHECKS_WITHOUT_SCORES]
    if not all(check.is_ok for check in checks):
        return Outcome.INVALID
    rows = sum(worker.rows for worker in tried.window.worker_times)
    kept_up = rows >= _MIN_KEPT_SHARE * tried.window.offered_per_s * tried.window.seconds
    return Outcome.PASS if kept_up else Outcome.FAIL


def _is_at(tried: Tried, load_per_s: float) -> bool:
    return tried.load_per_s == load_per_s and tried.window.phase in STEADY


def _describe(tried: Tried) -> str:
    window, judged = tried.window, tried.judged
    why = ", ".join(judged.invalid_because) or ", ".join(
        limit.name for limit in judged.limits if limit.outcome is not Outcome.PASS
    )
    because = f" ({why})" if why else ""
    return (
        f"{window.phase}: {window.offered_per_s:,.0f}/s with {window.workers} workers: "
        f"{judged.outcome}{because}"
    )
