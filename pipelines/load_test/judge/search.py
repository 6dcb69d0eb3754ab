"""The search for the capacity: outcomes of windows so far → the next load to try."""

from __future__ import annotations

import collections
import dataclasses
import enum
import math
from typing import NamedTuple

from scoreline.pipelines.load_test.judge.elements import Outcome

# A load passes with 3 passes of 3 windows, and fails with 2 failures.
WINDOWS = 3
MIN_FAILURES = 2

RAMP = 2.0
SLOW_RAMP = 1.2

# A result counts only if the harness alone, with a scorer that does nothing, holds 1.3 × as much.
HARNESS_MARGIN = 1.3

# A search that finds no load that passes gives up at 1/1024 of its start.
MAX_HALVINGS = 10

# A usual search takes 10 to 20 windows. Only outcomes that contradict each other take so many.
MAX_PROBES = 60

# Two loads this close are the same load: they differ by the rounding of a square root.
_SAME = 1 + 1e-9


class Precision(NamedTuple):
    """How closely a search brackets the capacity.

    Attributes:
      share: maximum distance between the load that passes and the load that fails, as a share.
      window_s: duration of a window that can tell loads so close apart.
    """

    share: float
    window_s: float


PRECISIONS = {
    "quick": Precision(0.10, 60.0),
    "normal": Precision(0.05, 120.0),
    "fine": Precision(0.03, 300.0),
}


class Probe(NamedTuple):
    """A window to run.

    Attributes:
      phase: ramp, bisect or confirm.
      load_per_s: the load to offer.
    """

    phase: str
    load_per_s: float


class End(enum.StrEnum):
    """Why a search ended."""

    FOUND = "found"
    HARNESS = "limited by harness"
    NOTHING_PASSES = "nothing passes"
    INVALID = "invalid"
    TOO_MANY_PROBES = "too many probes"


class Capacity(NamedTuple):
    """The result of a search. Both loads were tested; neither is a midpoint.

    Attributes:
      passes_per_s: highest tested load that passed 3 of 3 windows; None if there is none.
      fails_per_s: lowest tested load that failed at least 2 of 3 windows; None if there is none.
      failed: windows that failed there.
      fail_windows: of how many; the third is not run after two failures.
      precision: the requested distance between the two, as a share. Loads between them that pass
        2 of 3 windows make the distance larger.
      limited_by_harness: whether the harness ended the search: the capacity may be higher.
      end: why the search ended; None if it was cut short.
    """

    passes_per_s: float | None
    fails_per_s: float | None
    failed: int
    fail_windows: int
    precision: float
    limited_by_harness: bool
    end: End | None


class _Tally(NamedTuple):
    """Valid windows at one load. An undecided window counts as a failure."""

    passes: int
    fails: int

    @property
    def is_settled(self) -> bool:
        return self.passes + self.fails >= WINDOWS or self.fails >= MIN_FAILURES

    @property
    def is_capacity(self) -> bool:
        return self.passes >= WINDOWS and not self.fails

    @property
    def leans_to_pass(self) -> bool:
        return self.passes > self.fails

    @property
    def is_unsteady(self) -> bool:
        return self.is_settled and self.leans_to_pass and not self.is_capacity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """A search for the capacity, as a value: its next step depends only on what it has tried.

    Run `next_probe()`, then go on with `after(outcome)`, until there is no next probe. The steps:

    1. Ramp: × 2 from the start while windows pass, or ÷ 2 while they fail. Then × 1.2.
    2. Bisect on the log scale until a load that passes and one that fails are within the precision.
    3. Confirm the two in turns, until the low load has passed 3 of 3 windows and the high load has
       failed 2. A low load that fails a window becomes the high load, and the search goes down.
       A high load that passes 2 of 3 windows ends no search: the search goes on above it, and
       if nothing above it passes 3 of 3, below it.

    An invalid window is repeated once; a second one in a row ends the search. No search takes
    more than `MAX_PROBES` windows.

    Attributes:
      start_per_s: first load: the target, or an estimate of the capacity.
      precision: where to stop.
      harness_per_s: highest load that the harness holds without a model; the search stays below
        it by the factor `HARNESS_MARGIN`.
      tried: windows so far, with their outcomes.
    """

    start_per_s: float
    precision: Precision
    harness_per_s: float = math.inf
    tried: tuple[tuple[Probe, Outcome], ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError if the start or the ceiling is no load."""
        if not 0 < self.start_per_s < math.inf or not self.harness_per_s > 0:
            raise ValueError(
                "A search needs a finite start above 0 and a harness ceiling above 0, got "
                f"start_per_s={self.start_per_s}, harness_per_s={self.harness_per_s}."
            )

    def after(self, outcome: Outcome) -> Search:
        """Return the search that knows the outcome of its next probe."""
        probe = self.next_probe()
        if probe is None:
            raise ValueError(f"The search has ended ({self._step()}): it takes no more outcomes.")
        return dataclasses.replace(self, tried=(*self.tried, (probe, Outcome(outcome))))

    def next_probe(self) -> Probe | None:
        """Return the next window to run, or None if the search has ended."""
        step = self._step()
        return None if isinstance(step, End) else step

    def capacity(self) -> Capacity:
        """Return the result, or what is known so far if the search has not ended."""
        tallies = self._tallies()
        step = self._step()
        end = step if isinstance(step, End) else None
        passing = [load for load, tally in tallies.items() if tally.is_capacity]
        failing = [load for load, tally in tallies.items() if tally.fails >= MIN_FAILURES]
        fails = min(failing, default=None)
        return Capacity(
            passes_per_s=max(passing, default=None),
            fails_per_s=fails,
            failed=0 if fails is None else tallies[fails].fails,
            fail_windows=0 if fails is None else sum(tallies[fails]),
            precision=self.precision.share,
            limited_by_harness=end is End.HARNESS,
            end=end,
        )

    @property
    def _max_load(self) -> float:
        return self.harness_per_s / HARNESS_MARGIN

    def _distance(self, low: _Tally, high: _Tally) -> float:
        """Return the ratio of two loads that are close enough.

        Next to a load that passes 2 of 3 windows it is the root of the precision, so that the
        loads around it are within the precision.
        """
        ratio = 1 + self.precision.share
        return math.sqrt(ratio) if low.is_unsteady or high.is_unsteady else ratio

    def _tallies(self) -> dict[float, _Tally]:
        """Return the valid windows by load, in ascending order of the loads."""
        counts = collections.Counter(
            (probe.load_per_s, outcome is Outcome.PASS)
            for probe, outcome in self.tried
            if outcome is not Outcome.INVALID
        )
        loads = sorted({load for load, _ in counts})
        return {load: _Tally(counts[load, True], counts[load, False]) for load in loads}

    def _step(self) -> Probe | End:
        invalid = [outcome is Outcome.INVALID for _, outcome in self.tried[-2:]]
        if invalid == [True, True]:
            return End.INVALID
        if len(self.tried) >= MAX_PROBES:
            return End.TOO_MANY_PROBES
        if invalid and invalid[-1]:
            return self.tried[-1][0]
        tallies = self._tallies()
        if not tallies:
            return Probe("ramp", min(self.start_per_s, self._max_load))
        high = next((load for load, tally in tallies.items() if not tally.leans_to_pass), None)
        # A load that passed 2 of 3 windows is no capacity, so the search ends below it. But it
        # gets there only after the loads above it are settled.
        lows = [load for load in tallies if high is None or load < high]
        end = End.FOUND
        if high is None and lows[-1] * _SAME >= self._max_load:
            end = End.HARNESS
        while True:
            low = lows.pop() if lows else None
            step = self._within(tallies, low, high, end)
            if step is not None:
                return step
            high = low

    def _within(
        self, tallies: dict[float, _Tally], low: float | None, high: float | None, end: End
    ) -> Probe | End | None:
        """Return the next step between two loads; None if low is settled, but no capacity."""
        if low is None:
            assert high is not None  # noqa: S101  there is a load, and it is one of the two
            if high / RAMP * _SAME >= min(self.start_per_s, self._max_load) / 2**MAX_HALVINGS:
                return Probe("ramp", high / RAMP)
        elif high is None:
            if end is not End.HARNESS:
                return Probe("ramp", min(low * RAMP, self._max_load))
        elif high > low * SLOW_RAMP**2:
            return Probe("ramp", low * SLOW_RAMP)
        elif high > low * self._distance(tallies[low], tallies[high]):
            return Probe("bisect", math.sqrt(low * high))
        open_loads = [
            load for load in (low, high) if load is not None and not tallies[load].is_settled
        ]
        if open_loads:
            return Probe("confirm", min(open_loads, key=lambda load: sum(tallies[load])))
        if low is None:
            return End.NOTHING_PASSES
        return end if tallies[low].is_capacity else None
