"""Looks for records that a stream has lost."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from scoreline.pipelines.load_test.driver.ids import Seen, count_lost
from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.group import read_committed

# Scores may be delivered, and not be read yet.
_LATE_S = 5.0
_POLL_S = 0.05


def find_lost(
    connection: Connection, topic: str, seen: Seen, count: int, send_to: Sequence[int]
) -> int:
    """Return the number of records without a score though the offsets after them are committed.

    Args:
      connection: the brokers.
      topic: the topic of records; its name is also that of the group.
      seen: the scores so far.
      count: records of the topic.
      send_to: see `count_lost`.
    """
    consumer = connection.consumer(topic)
    try:
        committed = read_committed(consumer, topic, sorted(set(send_to)))
    finally:
        consumer.close()
    deadline = time.monotonic() + _LATE_S
    while True:
        lost = count_lost(np.array(seen.scored_s[:count]), send_to, committed)
        if not lost or time.monotonic() > deadline:
            return lost
        time.sleep(_POLL_S)
