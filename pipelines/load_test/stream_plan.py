"""What a load test of a stream asks for, and what it finds out."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from scoreline.pipelines.load_test.driver.loads import Drained, Offer
from scoreline.pipelines.load_test.judge.bottleneck import Bottleneck
from scoreline.pipelines.load_test.judge.elements import Floats, Judged, Slos, Window
from scoreline.pipelines.load_test.judge.search import Capacity, Precision
from scoreline.pipelines.load_test.result import ModelAlone

# Phases that offer one steady load to the whole pipeline.
STEADY = ("ramp", "bisect", "confirm")


class Stream(Protocol):
    """A stream that can be started and loaded; `driver.stream.StreamDriver` is one."""

    def can_take(self, count: int) -> bool:
        """Return whether it can take a load of `count` records without a new start."""

    def start(self, *, workers: int = 1, replaced: str = "", backlog: int = 0) -> float | None:
        """Start it; return the seconds until its first score, None with a backlog."""

    def offer(self, offer: Offer) -> Window:
        """Offer a load."""

    def drain(self, count: int, seconds: float) -> Drained:
        """Work off a backlog."""

    def measure_model(self, rate_per_s: float | None) -> ModelAlone | None:
        """Stop it, and measure its model alone; None if that is not possible."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to find out about a stream.

    Attributes:
      slos: the limits.
      workers: numbers of workers, ascending; the first one is that of the verdict.
      precision: length of a window, and the precision of the capacity.
      shape: shape of the arrivals: poisson, even or trace.
      trace_s: recorded arrivals of the shape trace.
      seed: seed of the first load; each further load has the next one.
      start_per_s: the first load; None for one from the estimate.
      soak_s: seconds of a long window at the end; None without one.
      partitions: partitions of the topic.
      cores: cores that the workers share; None if unknown.
    """

    slos: Slos
    workers: tuple[int, ...]
    precision: Precision
    shape: str = "poisson"
    trace_s: Floats | None = None
    seed: int = 1
    start_per_s: float | None = None
    soak_s: float | None = None
    partitions: int = 1
    cores: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried:
    """One window, with its judgement.

    Attributes:
      load_per_s: the load that was planned; that of random arrivals differs a little.
      is_repeated: whether it had too few records, so that a longer window took its place.
    """

    load_per_s: float
    window: Window
    judged: Judged
    is_repeated: bool = False


@dataclasses.dataclass(kw_only=True)
class Found:
    """What was found out.

    Attributes:
      tried: all windows in the order of time.
      starts_s: seconds of each start of the whole pipeline until its first score.
      harness_per_s: what sender, broker and reader hold without the pipeline.
      drain_per_s, busy_time_per_s: estimates of the capacity.
      capacities: the capacity by number of workers.
      at_target: the window at the target; None without a target or a window.
      spike, step: the windows with the spike and the step.
      soak: the long window at the end.
      bottleneck: the bottleneck.
      model_alone: what the model holds without the pipeline.
    """

    tried: list[Tried] = dataclasses.field(default_factory=list)
    starts_s: list[float] = dataclasses.field(default_factory=list)
    harness_per_s: float | None = None
    drain_per_s: float | None = None
    busy_time_per_s: float | None = None
    capacities: dict[int, Capacity] = dataclasses.field(default_factory=dict)
    at_target: Tried | None = None
    spike: Tried | None = None
    step: Tried | None = None
    soak: Tried | None = None
    bottleneck: Bottleneck | None = None
    model_alone: ModelAlone | None = None
