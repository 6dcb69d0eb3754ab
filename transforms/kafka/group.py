"""The offsets and the members of a consumer group.

Each committed offset has a note with the id of its topic. So a topic that was deleted and created
again, whose records have other offsets, is told from the one that was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription

from scoreline.transforms.kafka.client import (
    TIMEOUT_SECONDS,
    Connection,
    list_partitions,
    read_bounds,
    read_first_offsets,
    to_positions,
    until_done,
)

_NOTE = "scoreline: topic "


def note_of(topic_id: str) -> str | None:
    """Return the note for offsets of a topic; None if its id is unknown."""
    return f"{_NOTE}{topic_id}" if topic_id else None


class Committed(NamedTuple):
    """A committed offset, and the id of the topic that it belongs to; "" if that is unknown.

    Offsets that another program has set have no id.
    """

    offset: int
    topic_id: str


def read_offsets_with_ids(
    client: AdminClient, group: str, topic: str, partitions: Iterable[int]
) -> dict[int, Committed]:
    """Return the committed offsets of a group, for partitions that have one.

    Offsets in an open transaction of a killed job are not waited for.

    Raises:
      KafkaException: no broker answers, or does not allow it.
    """
    asked = [TopicPartition(topic, partition) for partition in partitions]

    def ask() -> list[TopicPartition]:
        answer = client.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, asked)], request_timeout=TIMEOUT_SECONDS
        )[group].result()
        for at in answer.topic_partitions:
            if at.error is not None:
                raise KafkaException(at.error)
        return list(answer.topic_partitions)

    found = until_done(ask) if asked else []
    return {
        at.partition: Committed(at.offset, _id_in(at.metadata or ""))
        for at in found
        if at.offset >= 0
    }


def _id_in(note: str) -> str:
    return note.removeprefix(_NOTE) if note.startswith(_NOTE) else ""


def find_stale(committed: Mapping[int, Committed], topic_id: str) -> dict[int, Committed]:
    """Return the offsets that belong to an older topic of the same name, by partition."""
    return {
        partition: at
        for partition, at in committed.items()
        if topic_id and at.topic_id not in ("", topic_id)
    }


def describe_members(group: ConsumerGroupDescription) -> str:
    """Return who has joined a group, for a message; "" for nobody."""
    names = [
        f"{member.client_id or 'a consumer'} at {(member.host or '?').lstrip('/')}"
        for member in group.members
    ]
    shown = names[:3] + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
    return ", ".join(shown)


def read_committed(
    consumer: Consumer, topic: str, partitions: Iterable[int], timeout: float = TIMEOUT_SECONDS
) -> dict[int, int]:
    """Return the committed offsets of the consumer's group, for partitions that have one."""
    asked = [TopicPartition(topic, partition) for partition in partitions]

    def ask() -> list[TopicPartition]:
        answers = consumer.committed(asked, timeout=timeout)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return answers

    answers = until_done(ask) if asked else []
    return {answer.partition: answer.offset for answer in answers if answer.offset >= 0}


def starting_offsets(consumer: Consumer, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return the offsets to start at: the group's, or the first record if it has none."""
    wanted = list(partitions)
    committed = read_committed(consumer, topic, wanted)
    return {
        partition: committed[partition]
        if partition in committed
        else read_bounds(consumer, topic, partition)[0]
        for partition in wanted
    }


def reset_group(
    connection: Connection,
    group: str,
    topic: str,
    start: str,
    since_ms: int | None = None,
    done: Mapping[int, int] | None = None,
    topic_id: str = "",
) -> dict[int, int]:
    """Set a group's offsets on a topic, and return them.

    This happens once, before a job starts. A restarted job then continues after the records that
    it has delivered.

    Args:
      connection: the connection to Kafka.
      group: the group; none of its members may be active.
      topic: the topic.
      start: `earliest` for the first record, `latest` for the end, `timestamp` for the first record
        from a time on.
      since_ms: that time, in ms since 1970.
      done: offsets by partition; no partition may be set below them.
      topic_id: the id of the topic.

    Raises:
      ValueError: a partition would be set below `done`; the group is not changed.
      LookupError: there is no such topic.
      KafkaException: no broker answers, or the group is in use.
    """
    consumer = connection.consumer(group)
    try:
        offsets = {}
        for partition in list_partitions(consumer, topic):
            first, end = read_bounds(consumer, topic, partition)
            offsets[partition] = first if start == "earliest" else end
        if start == "timestamp":
            asked = [TopicPartition(topic, partition, since_ms or 0) for partition in offsets]
            for found in until_done(consumer.offsets_for_times, asked, timeout=TIMEOUT_SECONDS):
                if found.offset not in (-1, OFFSET_END):
                    offsets[found.partition] = found.offset
        for partition, offset in (done or {}).items():
            if offsets.get(partition, offset) < offset:
                raise ValueError(
                    f"expected partition {partition} of {topic} to start at {offset} or later, got "
                    f"{offsets[partition]}; earlier records are done"
                )
        commit(consumer, topic, offsets, topic_id)
    finally:
        consumer.close()
    return offsets


def advance_group(
    connection: Connection, group: str, topic: str, done: Mapping[int, int], topic_id: str = ""
) -> dict[int, int]:
    """Advance a group's offsets to `done` on partitions that are behind; return the new offsets.

    Raises:
      KafkaException: no broker answers, or the group is in use.
    """
    consumer = connection.consumer(group)
    try:
        committed = read_committed(consumer, topic, done)
        ahead = {p: offset for p, offset in done.items() if offset > committed.get(p, -1)}
        if ahead:
            commit(consumer, topic, ahead, topic_id)
    finally:
        consumer.close()
    return ahead


def begin_anew(connection: Connection, group: str, topic: str, topic_id: str) -> dict[int, int]:
    """Set offsets of an older topic of the same name to the first records; return the new offsets.

    Raises:
      KafkaException: no broker answers, or the group is in use.
    """
    client = connection.admin()
    committed = read_offsets_with_ids(client, group, topic, list_partitions(client, topic))
    stale = find_stale(committed, topic_id)
    offsets = read_first_offsets(client, topic, stale)
    if offsets:
        consumer = connection.consumer(group)
        try:
            commit(consumer, topic, offsets, topic_id)
        finally:
            consumer.close()
    return offsets


def commit(consumer: Consumer, topic: str, offsets: Mapping[int, int], topic_id: str = "") -> None:
    """Commit a group's offsets and wait for the broker's answer.

    Raises:
      KafkaException: the broker rejected them.
    """

    def ask() -> None:
        positions = to_positions(topic, offsets, note_of(topic_id))
        answers = consumer.commit(offsets=positions, asynchronous=False)
        for answer in answers or ():
            if answer.error is not None:
                raise KafkaException(answer.error)

    until_done(ask)
