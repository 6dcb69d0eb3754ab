"""Brokers and topics of a stream: checks that they answer, exist and may be used."""

from __future__ import annotations

from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation, AdminClient

from scoreline.pipelines.options.kafka_source import SourceSettings
from scoreline.pipelines.options.problems import Passing, Problems
from scoreline.pipelines.options.stream import StreamSettings
from scoreline.pipelines.plan.access import allow, connect, find_access_problems
from scoreline.transforms.kafka.client import (
    DELIVERY_MS,
    Connection,
    NotAllowed,
    describe_topic,
    is_passing,
    read_topic_id,
)
from scoreline.transforms.kafka.properties import find_conflicts
from scoreline.transforms.kafka.registry import Registry
from scoreline.transforms.kafka.topic_watch import PlannedTopic

_QUICK_SECONDS = 10.0


class Topics(NamedTuple):
    """The cluster that holds the topics.

    Attributes:
      connection: the connection of all clients of the job.
      admin: a client that a broker has answered; None if no broker answers.
      planned: the topics of the job with their ids, the source first; () if one is missing or
        may not be used.
    """

    connection: Connection
    admin: AdminClient | None
    planned: tuple[PlannedTopic, ...] = ()

    @property
    def source_id(self) -> str:
        """The id of the source topic; "" if the broker has no ids."""
        return self.planned[0].topic_id if self.planned else ""


def connection_of(source: SourceSettings) -> Connection:
    """Return the connection for clients."""
    return Connection(brokers=source.brokers, config=source.config)


def registry_of(source: SourceSettings) -> Registry | None:
    """Return the schema registry; None if it is not given."""
    if not source.schema_registry:
        return None
    return Registry(url=source.schema_registry, config=source.config)


def find_topics(settings: StreamSettings, problems: Problems) -> Topics:
    """Return the cluster, and add all problems of brokers and topics."""
    source, sink = settings.source, settings.sink
    connection = connection_of(source)
    topics = [
        ("--topic", source.topic, AclOperation.READ),
        ("--output_topic", sink.output_topic, AclOperation.WRITE),
        ("--dead_letter_topic", sink.dead_letter_topic, AclOperation.WRITE),
    ]
    topics = [named for named in topics if named[1]]
    are_usable = _check_clients(settings, connection, problems)
    client = connect(connection, problems) if are_usable else None
    if client is None:
        return Topics(connection, None)
    are_there = True
    planned: tuple[PlannedTopic, ...] = ()
    try:
        for flag, topic, _ in topics:
            try:
                description = describe_topic(client, topic, _QUICK_SECONDS)
                if description.is_internal:
                    problems.add(f"{flag}: expected a topic of your own, got {topic} of Kafka")
            except NotAllowed as e:
                problems.add(f"{flag}: {e}. {allow('Describe', f'topic {topic}')}")
                are_there = False
            except LookupError as e:
                problems.add(f"{flag}: {e}. Create it first")
                are_there = False
        if are_there:
            missing = find_access_problems(client, topics, source.group)
            problems.add_all(missing)
            if not missing:
                planned = tuple(
                    PlannedTopic(topic, _id_of(client, topic), flag) for flag, topic, _ in topics
                )
    except KafkaException as e:
        problems.add(
            as_kafka_problem(e.args[0], f"--brokers: expected Kafka at {source.brokers}, got")
        )
    return Topics(connection, client if are_there else None, planned)


def _id_of(client: AdminClient, topic: str) -> str:
    """Return the id of a topic; "" if the broker has none."""
    topic_id = read_topic_id(client, topic)
    return "" if topic_id == topic else topic_id


def _check_clients(settings: StreamSettings, connection: Connection, problems: Problems) -> bool:
    """Return whether clients can be made; add problems that workers would find much later."""
    if not connection.config:
        return True
    sink = settings.sink
    prefix = f"--kafka_config: {connection.config}: "
    conflicts = find_conflicts(
        connection.settings(),
        exactly_once=sink.exactly_once,
        has_table=bool(sink.output),
        transaction_ms=DELIVERY_MS,
    )
    problems.add_all(prefix + conflict for conflict in conflicts)
    try:
        # They connect only when they are used.
        connection.consumer(settings.source.group).close()
        if not conflicts:
            connection.producer("check" if sink.exactly_once else None)
    except KafkaException as e:
        problems.add(prefix + e.args[0].str())
        return False
    except (TypeError, ValueError, AttributeError) as e:
        problems.add(prefix + str(e))
        return False
    return True


def as_kafka_problem(error: KafkaError, prefix: str) -> str:
    """Return the problem for an error of a client, like `as_problem` for an error of a store."""
    text = error.str().strip()
    if not text or text.endswith(":"):  # the client knows no words for it
        text = f"{text} {error.name()}".strip()
    sentence = f"{prefix}: {text}"
    return Passing(sentence) if is_passing(error) else sentence
