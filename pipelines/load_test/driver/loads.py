"""What a driver of a stream takes and returns."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from scoreline.pipelines.load_test.judge.elements import Floats, WorkerTimes
from scoreline.transforms.kafka.client import Connection

# Instead of the pipeline, a process that only copies keys: the limit of sender, broker and reader.
HARNESS = "harness"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamSubject:
    """A stream to load, without its topics and its group.

    Attributes:
      connection: the brokers.
      argv: flags of `scoreline stream`, without topics, group and readers.
      values: values of records; they are sent in this order, again and again.
      partitions: partitions of the topic of records.
      send_to: the partition of record `i` is `send_to[i % len(send_to)]`; () for all in turn.
    """

    connection: Connection
    argv: tuple[str, ...]
    values: tuple[bytes, ...]
    partitions: int
    send_to: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Offer:
    """A load to offer.

    Attributes:
      phase, shape, seed: see `Window`.
      due_s: when records are due, in seconds from the start, sorted.
      warm_up_s: seconds at the start that do not belong to the window.
      window_s: seconds of the window.
      spike_s: begin and end of the spike in seconds from the start, or the moment of the step.
      capacity_per_s: the capacity, if it is known.
    """

    phase: str
    shape: str
    seed: int
    due_s: Floats
    warm_up_s: float
    window_s: float
    spike_s: tuple[float, float] | None = None
    capacity_per_s: float | None = None


class Drained(NamedTuple):
    """How a stream worked off a backlog.

    Attributes:
      scored_s: when each record was scored, sorted.
      begin_s, end_s: the time between the first and the last of them.
      worker_times: what the workers did in that time.
    """

    scored_s: Floats
    begin_s: float
    end_s: float
    worker_times: tuple[WorkerTimes, ...]
