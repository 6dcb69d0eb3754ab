"""What Kafka lets this client do, asked before the first record; nothing is changed there."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from scoreline.pipelines.options.problems import Passing, Problems
from scoreline.transforms.kafka.client import Connection, is_refused

_QUICK_SECONDS = 10.0
# No further attempt mends these.
_FINAL = (KafkaError._AUTHENTICATION, KafkaError._SSL)
_ADVICE = {
    KafkaError._AUTHENTICATION: ". Correct user and password in --kafka_config FILE "
    "(sasl.mechanism, sasl.username, sasl.password), or have the user added on the broker",
    KafkaError._SSL: ". See ssl.ca.location in --kafka_config FILE: the certificate of who signed "
    "the broker's; and that --brokers has the names that are in the broker's",
}


def connect(connection: Connection, problems: Problems) -> AdminClient | None:
    """Return a client that a broker has answered; else None, and why among the problems.

    No secret is in what the client library says: it names settings, not their values.
    """
    told: list[KafkaError] = []
    try:
        client = connection.admin(told.append)
    except KafkaException as e:
        problems.add(f"--kafka_config: {connection.config}: {e.args[0].str()}")
        return None
    deadline = time.monotonic() + _QUICK_SECONDS
    while True:
        try:
            client.list_topics(timeout=1.0)
            return client
        except KafkaException as e:
            client.poll(0)  # has the client tell what it met
            reason = _choose(e.args[0], told)
            if reason.code() in _FINAL or time.monotonic() > deadline:
                told_of = f"--brokers: expected Kafka at {connection.brokers}, got: {reason.str()}"
                is_final = reason.code() in _FINAL
                problems.add(told_of + _ADVICE[reason.code()] if is_final else Passing(told_of))
                return None


def _choose(failure: KafkaError, told: Sequence[KafkaError]) -> KafkaError:
    """Return what says most: a final error, what a broker could not be reached for, the failure."""
    telling = [error for error in told if error.code() != KafkaError._ALL_BROKERS_DOWN]
    final = [error for error in told if error.code() in _FINAL]
    return [failure, *telling, *final][-1]


def find_access_problems(
    client: AdminClient, topics: Sequence[tuple[str, str, AclOperation]], group: str
) -> list[str]:
    """Return what the client needs and may not do, as far as the brokers tell.

    Args:
      client: of the user that the job is.
      topics: flag, topic and what is done with it: READ or WRITE.
      group: which is to be read and committed.
    """
    problems = []
    names = [topic for _, topic, _ in topics]
    described = client.describe_topics(
        TopicCollection(names), include_authorized_operations=True, request_timeout=_QUICK_SECONDS
    )
    for flag, topic, needed in topics:
        problems += _find_missing(described[topic], flag, f"topic {topic}", needed)
    groups = client.describe_consumer_groups(
        [group], include_authorized_operations=True, request_timeout=_QUICK_SECONDS
    )
    return problems + _find_missing(groups[group], "--group", f"group {group}", AclOperation.READ)


def _find_missing(answer: object, flag: str, what: str, needed: AclOperation) -> list[str]:
    try:
        allowed = answer.result(_QUICK_SECONDS).authorized_operations  # type: ignore[attr-defined]
    except KafkaException as e:
        if not is_refused(e.args[0]):
            return []  # it cannot be asked here; the job will meet it
        allowed, got = [], e.args[0].str()
    else:
        if not allowed or needed in allowed:  # none: the broker does not tell
            return []
        got = "only " + ", ".join(sorted(operation.name for operation in allowed))
    return [
        f"{flag}: expected to be allowed to {needed.name} {what}, got {got}. "
        + allow(needed.name.capitalize(), what)
    ]


def allow(operation: str, what: str) -> str:
    """Return what to do about something that is not allowed."""
    kind, _, name = what.partition(" ")
    return (
        f"Have it allowed to the user of --kafka_config: kafka-acls.sh --add --operation "
        f"{operation} --{kind} {name} --allow-principal User:…"
    )
