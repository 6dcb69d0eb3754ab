"""Whole load tests of streams, for tests that plant something."""

from __future__ import annotations

import os

from scoreline.pipelines.load_test.budget import Budget
from scoreline.pipelines.load_test.driver.stream import StreamDriver
from scoreline.pipelines.load_test.judge.elements import Slos
from scoreline.pipelines.load_test.judge.search import Precision
from scoreline.pipelines.load_test.stream_method import StreamTest
from scoreline.pipelines.load_test.stream_plan import Found, Plan

WINDOW_S = float(os.environ.get("SCORELINE_LOAD_WINDOW_S", "30"))


def find_out(
    driver: StreamDriver,
    *,
    workers: tuple[int, ...] = (1,),
    partitions: int = 4,
    precision: float = 0.1,
    start_per_s: float | None = None,
    **slos: float,
) -> Found:
    """Return what a load test of a stream finds; its windows have WINDOW_S.

    Args:
      driver: the stream.
      workers, partitions, start_per_s: see `Plan`.
      precision: distance of the loads that pass and fail, as a share.
      slos: the limits; a latency of 1000 ms if none is named.
    """
    plan = Plan(
        slos=Slos(**{"latency_ms": 1000.0, **slos}),
        workers=workers,
        precision=Precision(precision, WINDOW_S),
        start_per_s=start_per_s,
        partitions=partitions,
        cores=os.cpu_count(),
    )
    test = StreamTest(driver, plan, Budget(None), lambda text: print(text, flush=True))
    found = test.run()
    print(found.capacities, found.drain_per_s, found.bottleneck)
    return found
