"""The unread records of a topic for a group: whether a bounded job has reached its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException

from scoreline.transforms.kafka.client import (
    TIMEOUT_SECONDS,
    Connection,
    is_passing,
    list_partitions,
    read_high_watermarks,
    to_positions,
)
from scoreline.transforms.kafka.group import starting_offsets

_POLL_SECONDS = 0.5


def read_topic_ends(connection: Connection, topic: str) -> dict[int, int]:
    """Return the end of the log of each partition of a topic.

    Raises:
      LookupError: there is no such topic.
      KafkaException: no broker answers.
    """
    client = connection.admin()
    return read_high_watermarks(client, topic, list_partitions(client, topic))


def find_unread(
    connection: Connection, group: str, topic: str, ends: Mapping[int, int]
) -> dict[int, int]:
    """Return, by partition, the first unread record of a group below the given ends.

    Offsets are not enough: the last ones may be transaction markers or records of aborted
    transactions. Therefore the rest is read. Records that wait for the end of a transaction are
    unread.

    Raises:
      KafkaException: no broker answers.
    """
    consumer = connection.consumer(group, enable_partition_eof=True)
    try:
        at = starting_offsets(consumer, topic, ends)
        left = {partition: at[partition] for partition, end in ends.items() if at[partition] < end}
        consumer.assign(to_positions(topic, left))
        return _first_records(consumer, left, ends)
    finally:
        consumer.close()


def _first_records(
    consumer: Consumer, left: dict[int, int], ends: Mapping[int, int]
) -> dict[int, int]:
    found: dict[int, int] = {}
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while left:
        message: Any = consumer.poll(_POLL_SECONDS)
        if message is None or message.partition() not in left:
            if time.monotonic() > deadline:
                return found | left  # unknown, so treat them as unread
            continue
        error = message.error()
        if error is not None and is_passing(error):
            continue
        partition, offset = message.partition(), message.offset()
        if offset < ends[partition] and (error is None or error.code() == error._PARTITION_EOF):
            found[partition] = offset  # without a record, the rest waits for a transaction
        elif error is not None and error.code() != error._PARTITION_EOF:
            raise KafkaException(error)
        del left[partition]
    return found
