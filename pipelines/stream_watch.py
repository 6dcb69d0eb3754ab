"""Reports, while a stream runs, partitions that do not go on for a reason outside of the job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from scoreline.transforms.kafka.client import Connection, read_high_watermarks, read_stable_ends

_LOOK_SECONDS = 10.0
_QUICK_SECONDS = 5.0
# Longer than the transactions of most producers, and than the election of a leader.
_PATIENCE_SECONDS = 30.0
_REPEAT_SECONDS = 600.0


class Look(NamedTuple):
    """What the brokers say about a topic.

    Attributes:
      stable: by partition, the offset of the oldest open transaction, or the end of the log.
      ends: by partition, the end of the log.
      leaderless: the partitions without a leader.
    """

    stable: Mapping[int, int]
    ends: Mapping[int, int]
    leaderless: tuple[int, ...] = ()


class Delays:
    """Finds partitions that have waited for long, and tells of each now and then."""

    def __init__(self, topic: str) -> None:
        """Start without any."""
        self._topic = topic
        # By partition and offset: when the wait was first seen, and when it was last told of.
        self._since: dict[tuple[int, int | None], float] = {}
        self._told: dict[tuple[int, int | None], float] = {}

    def observe(self, look: Look, now: float) -> list[str]:
        """Return a sentence for each partition that is due.

        Args:
          look: what the brokers say now.
          now: the time, in seconds.
        """
        held: dict[tuple[int, int | None], str] = {
            (partition, at): f"an open transaction holds back the records of partition {partition} "
            f"of topic {self._topic} from offset {at} to {look.ends[partition]}"
            for partition, at in look.stable.items()
            if at < look.ends.get(partition, at)
        }
        for partition in look.leaderless:
            held[partition, None] = f"partition {partition} of topic {self._topic} has no leader"
        self._since = {key: self._since.get(key, now) for key in held}
        self._told = {key: at for key, at in self._told.items() if key in held}
        due = [key for key in held if self._is_due(key, now)]
        self._told |= dict.fromkeys(due, now)
        return [f"For {now - self._since[key]:.0f} s, {held[key]}. {_advice(key)}" for key in due]

    def _is_due(self, key: tuple[int, int | None], now: float) -> bool:
        told = self._told.get(key)
        return now - self._since[key] >= _PATIENCE_SECONDS and (
            told is None or now - told >= _REPEAT_SECONDS
        )


def _advice(key: tuple[int, int | None]) -> str:
    if key[1] is None:
        return "Its records are read once a broker leads it"
    return (
        "They are read once it ends. If its producer is gone, end it with kafka-transactions.sh "
        "find-hanging and abort"
    )


def look_at(client: AdminClient, topic: str) -> Look:
    """Return what the brokers say about a topic now.

    Raises:
      KafkaException, TimeoutError: no broker answers.
    """
    asked = client.describe_topics(TopicCollection([topic]), request_timeout=_QUICK_SECONDS)
    partitions = asked[topic].result(_QUICK_SECONDS).partitions
    led = [p.id for p in partitions if p.leader is not None and p.leader.id >= 0]
    # In this order: a transaction that ends in between is not taken for an open one.
    ends = read_high_watermarks(client, topic, led, _QUICK_SECONDS)
    stable = read_stable_ends(client, topic, led, _QUICK_SECONDS)
    return Look(stable, ends, tuple(sorted({p.id for p in partitions} - set(led))))


@contextmanager
def telling_of_delays(
    connection: Connection, topic: str, say: Callable[[str], None]
) -> Iterator[None]:
    """Return a context in which a thread reports partitions that do not go on."""
    ended = threading.Event()

    def run() -> None:
        client, delays = connection.admin(), Delays(topic)
        while not ended.wait(_LOOK_SECONDS):
            try:
                look = look_at(client, topic)
            except (KafkaException, TimeoutError):
                continue  # the client's log reports brokers that are away
            for sentence in delays.observe(look, time.monotonic()):
                say(sentence)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
