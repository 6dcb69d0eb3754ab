"""The topics of a load test: made for it, and removed after it."""

from __future__ import annotations

from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from scoreline.pipelines.options.problems import BadOptions, Passing
from scoreline.transforms.kafka.client import Connection, is_passing

PREFIX = "scoreline-load-test-"
_TIMEOUT_S = 30.0
_DELETE_S = 10.0
_BROKERS_OWN = -1  # the broker's own number of replicas


class Topics(NamedTuple):
    """The topics of one start of a pipeline."""

    records: str
    scores: str
    dead_letters: str


def make_topics(connection: Connection, run: str, number: int, partitions: int) -> Topics:
    """Create the topics of one start of a pipeline.

    Args:
      connection: the brokers.
      run: unique name of the load test.
      number: number of the start.
      partitions: partitions of the records and of the scores.

    Raises:
      BadOptions: no broker answers, or it does not create topics.
    """
    topics = Topics(*(f"{PREFIX}{run}-{number}-{what}" for what in ("records", "scores", "dead")))
    counts = (partitions, partitions, 1)
    new = [
        NewTopic(name, num_partitions=count, replication_factor=_BROKERS_OWN)
        for name, count in zip(topics, counts, strict=True)
    ]
    admin = connection.admin()
    try:
        for made in admin.create_topics(new, operation_timeout=_TIMEOUT_S).values():
            made.result(_TIMEOUT_S)
    except (KafkaException, TimeoutError) as e:
        delete_topics(admin, topics)
        error = e.args[0] if isinstance(e, KafkaException) else None
        got = "no answer" if error is None else error.str() or error.name()
        problem = (
            f"brokers: expected Kafka at {connection.brokers} to create the topics {PREFIX}…, "
            f"got: {got}"
        )
        may_pass = error is None or is_passing(error)
        raise BadOptions([Passing(problem) if may_pass else problem]) from e
    return topics


def delete_topics(admin: AdminClient, topics: Topics) -> list[str]:
    """Delete topics that exist; return the names of those that the broker kept."""
    left = []
    for name, done in admin.delete_topics(list(topics), operation_timeout=_DELETE_S).items():
        try:
            done.result(_DELETE_S)
        except TimeoutError:
            left.append(name)
        except KafkaException as e:
            if e.args[0].name() != "UNKNOWN_TOPIC_OR_PART":
                left.append(name)
    return left
