"""The rights of this client in Kafka, checked before the first record. Read only."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from scoreline.pipelines.options.problems import Passing, Problems
from scoreline.transforms.kafka.client import Connection, is_refused

_QUICK_SECONDS = 10.0
# Permanent errors, with advice.
_FINAL = (KafkaError._AUTHENTICATION, KafkaError._SSL)
_ADVICE = {
    KafkaError._AUTHENTICATION: ". Correct user and password in --kafka_config FILE "
    "(sasl.mechanism, sasl.username, sasl.password), or add the user on the broker",
    KafkaError._SSL: ". Check ssl.ca.location in --kafka_config FILE: it must be the CA of the "
    "broker's certificate; and --brokers must have the names in that certificate",
}


def connect(connection: Connection, problems: Problems) -> AdminClient | None:
    """Return a client that a broker has answered; otherwise None, with a problem.

    Messages of the client library have names of settings, but no values, so no secrets.
    """
    reported: list[KafkaError] = []
    try:
        client = connection.admin(reported.append)
    except KafkaException as e:
        problems.add(f"--kafka_config: {connection.config}: {e.args[0].str()}")
        return None
    deadline = time.monotonic() + _QUICK_SECONDS
    while True:
        try:
            client.list_topics(timeout=1.0)
            return client
        except KafkaException as e:
            client.poll(0)  # calls the error callback
            reason = _choose(e.args[0], reported)
            if reason.code() in _FINAL or time.monotonic() > deadline:
                text = f"--brokers: expected Kafka at {connection.brokers}, got: {reason.str()}"
                if reason.code() in _FINAL:
                    problems.add(text + _ADVICE[reason.code()])
                else:  # a broker that expects another protocol only closes the connection
                    advice = "If the brokers run, check security.protocol in --kafka_config FILE"
                    problems.add(Passing(f"{text}. {advice}" if connection.config else text))
                return None


def _choose(failure: KafkaError, reported: Sequence[KafkaError]) -> KafkaError:
    """Return the most useful error: permanent, then unreachable broker, then the failure."""
    telling = [error for error in reported if error.code() != KafkaError._ALL_BROKERS_DOWN]
    final = [error for error in reported if error.code() in _FINAL]
    return [failure, *telling, *final][-1]


def find_access_problems(
    client: AdminClient, topics: Sequence[tuple[str, str, AclOperation]], group: str
) -> list[str]:
    """Return a problem for each missing right, as far as brokers report rights.

    Args:
      client: a client of the job's user.
      topics: flag, topic, and the needed operation: READ or WRITE.
      group: the consumer group of the job.
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
            return []  # unknown here; the job would report it
        allowed, got = [], e.args[0].str()
    else:
        if not allowed or needed in allowed:  # empty: the broker does not report rights
            return []
        got = "only " + ", ".join(sorted(operation.name for operation in allowed))
    return [
        f"{flag}: expected to be allowed to {needed.name} {what}, got {got}. "
        + allow(needed.name.capitalize(), what)
    ]


def allow(operation: str, what: str) -> str:
    """Return advice for a missing right."""
    kind, _, name = what.partition(" ")
    return (
        f"Allow it for the user of --kafka_config: kafka-acls.sh --add --operation "
        f"{operation} --{kind} {name} --allow-principal User:…"
    )
