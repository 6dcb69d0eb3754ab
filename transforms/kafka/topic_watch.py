"""Looks at the topics and the group of a running stream: whether they are still the planned ones.

Kafka's client follows a topic by its name. If a topic is deleted and created again, the client
reads on at the old offset, and skips the new records before it. If a topic is deleted for good, or
may no longer be read, the client waits for it forever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from scoreline.transforms.kafka.client import Connection, id_of, is_refused
from scoreline.transforms.kafka.ending import StreamEnds, StreamRefused
from scoreline.transforms.kafka.group import describe_members

# A topic that is deleted and created again is missing for a moment.
_GONE_SECONDS = 10.0


class PlannedTopic(NamedTuple):
    """A topic of the job.

    Attributes:
      name: its name.
      topic_id: its id when the job was planned; "" if the broker has no ids.
      flag: the option that names it.
    """

    name: str
    topic_id: str
    flag: str


class TopicWatch:
    """Compares topics and group with the plan; one for each reader."""

    def __init__(
        self,
        connection: Connection,
        group: str,
        topics: tuple[PlannedTopic, ...],
        *,
        begins_anew: bool,
        quick_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect.

        Args:
          connection: the connection to Kafka.
          group: the consumer group; "" if another reader looks at it.
          topics: the topics; the first one is the source.
          begins_anew: whether the next start begins at the first records of a new source topic.
          quick_seconds: maximum time that a look waits for a broker.
          clock: returns seconds.
        """
        self._client: AdminClient = connection.admin()
        self._group = group
        self._topics = topics
        self._begins_anew = begins_anew
        self._quick_seconds = quick_seconds
        self._clock = clock
        self._gone: dict[str, float] = {}

    def look(self) -> list[int]:
        """Return the partitions of the source topic; none if no broker answers.

        Raises:
          StreamRefused, StreamEnds: the job must not go on; the message has the reason.
        """
        names = [topic.name for topic in self._topics]
        described = self._client.describe_topics(
            TopicCollection(names), request_timeout=self._quick_seconds
        )
        found = {topic.name: self._answer(topic, described[topic.name]) for topic in self._topics}
        if self._group:
            self._look_at_group()
        source = found[names[0]]
        return sorted(partition.id for partition in source.partitions) if source else []

    def _answer(self, topic: PlannedTopic, answer: Any) -> Any:
        """Return the description of a topic; None if it is unknown now."""
        try:
            description = answer.result(self._quick_seconds)
        except KafkaException as e:
            self._check_gone(topic, e.args[0])
            return None
        except TimeoutError:
            return None
        self._gone.pop(topic.name, None)
        now_id = id_of(description)
        if topic.topic_id and now_id != topic.topic_id:
            self._refuse_new(topic, now_id)
        return description

    def _check_gone(self, topic: PlannedTopic, error: KafkaError) -> None:
        is_gone = error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        if not (is_gone or is_refused(error)):
            return  # no broker answers
        since = self._gone.setdefault(topic.name, self._clock())
        if self._clock() - since < _GONE_SECONDS:
            return
        if is_gone:
            raise StreamRefused(
                f"{topic.flag}: expected topic {topic.name}, got none: it was deleted while the "
                "job ran. Create it again and start the job again, or use another topic"
            )
        raise StreamRefused(
            f"{topic.flag}: expected to be allowed to describe topic {topic.name}, got: "
            f"{error.str()}. The right was taken away while the job ran. Grant it again, and start "
            "the job again"
        )

    def _refuse_new(self, topic: PlannedTopic, now_id: str) -> None:
        what = (
            f"{topic.flag}: expected topic {topic.name} with id {topic.topic_id}, got id {now_id}: "
            "it was deleted and created again while the job ran. "
        )
        if topic is not self._topics[0]:
            raise StreamRefused(
                f"{what}Earlier results are gone with the old topic. Start the job again to go on, "
                "or with --start=earliest to score all records again"
            )
        if self._begins_anew:
            raise StreamEnds(
                f"{what}Start the job again: it begins at the first records of the new topic"
            )
        raise StreamRefused(
            f"{what}Offsets of the old topic would skip new records. Start the job again with "
            "--start=earliest, to score the new topic from its first record"
        )

    def _look_at_group(self) -> None:
        asked = self._client.describe_consumer_groups(
            [self._group], request_timeout=self._quick_seconds
        )
        try:
            members = describe_members(asked[self._group].result(self._quick_seconds))
        except (KafkaException, TimeoutError):
            return
        if members:
            raise StreamRefused(refuse_members(self._group, members))


def refuse_members(group: str, members: str) -> str:
    """Return the problem of a group that others have joined."""
    return (
        f"--group: expected no other consumer in group {group}, got {members}. It would commit "
        "offsets of records that the job has not scored. Stop it, or use another --group"
    )
