"""Brokers and topics of a stream: checks that they answer, exist and may be used."""

from __future__ import annotations

from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation, AdminClient

from scoreline.pipelines.options.kafka_source import SourceSettings
from scoreline.pipelines.options.problems import Passing, Problems
from scoreline.pipelines.options.stream import StreamSettings
from scoreline.pipelines.plan.access import allow, connect, find_access_problems
from scoreline.transforms.kafka.client import Connection, NotAllowed, is_passing, list_partitions
from scoreline.transforms.kafka.registry import Registry

_QUICK_SECONDS = 10.0


class Topics(NamedTuple):
    """The cluster that holds the topics.

    Attributes:
      connection: the connection of all clients of the job.
      admin: a client that a broker has answered; None if no broker answers.
    """

    connection: Connection
    admin: AdminClient | None


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
    client = connect(connection, problems)
    if client is None:
        return Topics(connection, None)
    are_there = True
    try:
        for flag, topic, _ in topics:
            try:
                list_partitions(client, topic, _QUICK_SECONDS)
            except NotAllowed as e:
                problems.add(f"{flag}: {e}. {allow('Describe', f'topic {topic}')}")
                are_there = False
            except LookupError as e:
                problems.add(f"{flag}: {e}. Create it first")
                are_there = False
        if are_there:
            problems.add_all(find_access_problems(client, topics, source.group))
    except KafkaException as e:
        problems.add(
            as_kafka_problem(e.args[0], f"--brokers: expected Kafka at {source.brokers}, got")
        )
    return Topics(connection, client if are_there else None)


def as_kafka_problem(error: KafkaError, prefix: str) -> str:
    """Return the problem for an error of a client, like `as_problem` for an error of a store."""
    sentence = f"{prefix}: {error.str()}"
    return Passing(sentence) if is_passing(error) else sentence
