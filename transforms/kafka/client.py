"""Connections to Kafka: settings from a file, clients, and offsets of groups and topics.

Settings may hold secrets. They stay in their file, which every worker reads itself. They are never
in a command line, a job graph or a log.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from scoreline.transforms.kafka.client_log import CLIENT_LOG

_LOG = logging.getLogger(__name__)
# Long enough for the start of a broker, or for the timeout of a transaction.
TIMEOUT_SECONDS = 60.0
_PASSING = (
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._RESOLVE,
    KafkaError._WAIT_COORD,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
)
_REFUSED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)
# Time limit for the delivery of a record, and for a transaction.
DELIVERY_MS = 120_000
Answer = TypeVar("Answer")
# Prefix of registry settings in the properties file, as in Confluent's documentation.
REGISTRY_PREFIX = "schema.registry."
_OF_REGISTRY = (
    "basic.auth.credentials.source",
    "basic.auth.user.info",
    "bearer.auth.client.id",
    "bearer.auth.client.secret",
    "bearer.auth.credentials.source",
    "bearer.auth.identity.pool.id",
    "bearer.auth.issuer.endpoint.url",
    "bearer.auth.logical.cluster",
    "bearer.auth.scope",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
)
_OUR_OWN = (
    "bootstrap.servers",
    "group.id",
    "transactional.id",
    "enable.auto.commit",
    "schema.registry.url",
)


class NotAllowed(LookupError):
    """The brokers do not allow this user to access a resource."""


def parse_properties(text: str) -> dict[str, str]:
    """Return the settings of a properties file: `key=value` lines; `#` starts a comment line.

    Raises:
      ValueError: a line is invalid, or sets something that an option sets. The message has the
        number of the line, never its value.
    """
    settings: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(("#", "!")):
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ValueError(f"line {number}: expected KEY=VALUE of librdkafka")
        if name in _OUR_OWN:
            raise ValueError(f"line {number}: {name} is set by the command's options; leave it out")
        if name.startswith(REGISTRY_PREFIX) and name[len(REGISTRY_PREFIX) :] not in _OF_REGISTRY:
            known = ", ".join(_OF_REGISTRY)
            raise ValueError(f"line {number}: expected {REGISTRY_PREFIX}… with one of {known}")
        settings[name] = value.strip()
    return settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connection:
    """How to reach Kafka.

    Attributes:
      brokers: bootstrap servers, as `host:port,…`.
      config: path, on a worker, of a file with further client settings (TLS, SASL); "" for none.
    """

    brokers: str
    config: str = ""

    def settings(self, **ours: Any) -> dict[str, Any]:
        """Return the settings of a client: our defaults, overridden by the file, and the brokers.

        Args:
          ours: further defaults, with `_` instead of dots in their names.
        """
        given = parse_properties(Path(self.config).read_text("utf-8")) if self.config else {}
        defaults: dict[str, Any] = {"reconnect.backoff.ms": 500, "reconnect.backoff.max.ms": 2000}
        defaults |= {name.replace("_", "."): value for name, value in ours.items()}
        given = {n: value for n, value in given.items() if not n.startswith(REGISTRY_PREFIX)}
        return {**defaults, **given, "bootstrap.servers": self.brokers}

    def consumer(self, group: str, **ours: Any) -> Consumer:
        """Return a consumer without automatic commits, which does not join its group by itself."""
        fixed = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "error"}
        return Consumer({**self.settings(**ours), **fixed}, logger=CLIENT_LOG)

    def producer(self, transactional_id: str | None = None) -> Producer:
        """Return an idempotent producer; with an id, a transactional one, not yet initialized.

        It reports only errors. After `flush` all other records are delivered.
        """
        settings = self.settings(
            linger_ms=2,
            compression_type="lz4",
            partitioner="murmur2_random",
            message_max_bytes=10**7,
            message_timeout_ms=DELIVERY_MS,
        )
        fixed: dict[str, Any] = {"enable.idempotence": True, "delivery.report.only.error": True}
        if transactional_id is not None:
            fixed |= {"transactional.id": transactional_id, "transaction.timeout.ms": DELIVERY_MS}
        return Producer({**settings, **fixed}, logger=CLIENT_LOG)

    def admin(self, on_error: Callable[[KafkaError], None] | None = None) -> AdminClient:
        """Return a client that describes and creates topics.

        Args:
          on_error: called, when the client is polled, with the reason why a broker is unreachable.
        """
        settings = self.settings()
        if on_error is not None:
            settings["error_cb"] = on_error
        return AdminClient(settings, logger=CLIENT_LOG)


def until_done(
    call: Callable[..., Answer], *args: Any, seconds: float = TIMEOUT_SECONDS, **kwargs: Any
) -> Answer:
    """Call a client, retry transient errors, and return the result.

    Raises:
      KafkaException: the error is permanent, or lasts longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call(*args, **kwargs)
        except KafkaException as e:
            if not is_passing(e.args[0]) or time.monotonic() > deadline:
                raise
            _LOG.warning("%s: %s; retrying", getattr(call, "__name__", "call"), e.args[0].str())
        time.sleep(0.2)


def list_partitions(client: Any, topic: str, timeout: float = TIMEOUT_SECONDS) -> list[int]:
    """Return the partitions of a topic, sorted.

    Raises:
      NotAllowed: this user may not describe it.
      LookupError: there is no such topic.
      KafkaException: no broker answers.
    """
    found = client.list_topics(topic, timeout=timeout).topics.get(topic)
    if found is not None and found.error is not None and is_refused(found.error):
        raise NotAllowed(f"expected the right to describe topic {topic}, got: {found.error.str()}")
    if found is None or found.error is not None or not found.partitions:
        why = found.error.str() if found is not None and found.error is not None else "no partition"
        raise LookupError(f"expected a topic that exists, got {topic}: {why}")
    return sorted(found.partitions)


def read_topic_id(client: AdminClient, topic: str) -> str:
    """Return the unique id of a topic. A topic that is deleted and created again has a new id.

    A broker before Kafka 2.8 has no ids; then the result is the topic's name.

    Raises:
      KafkaException: no broker answers, or there is no such topic.
    """

    def ask() -> Any:
        asked = client.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT_SECONDS)
        return asked[topic].result()

    topic_id = until_done(ask).topic_id
    is_given = topic_id is not None and (
        topic_id.get_most_significant_bits() or topic_id.get_least_significant_bits()
    )
    return str(topic_id) if is_given else topic


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


def read_bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Return the first offset of a partition, and the offset of its next record."""
    at = TopicPartition(topic, partition)
    first, end = until_done(consumer.get_watermark_offsets, at, timeout=TIMEOUT_SECONDS)
    return int(first), int(end)


def read_ends(consumer: Consumer, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return the offset of the next record of each partition."""
    return {partition: read_bounds(consumer, topic, partition)[1] for partition in partitions}


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
        commit(consumer, topic, offsets)
    finally:
        consumer.close()
    return offsets


def advance_group(
    connection: Connection, group: str, topic: str, done: Mapping[int, int]
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
            commit(consumer, topic, ahead)
    finally:
        consumer.close()
    return ahead


def commit(consumer: Consumer, topic: str, offsets: Mapping[int, int]) -> None:
    """Commit a group's offsets and wait for the broker's answer.

    Raises:
      KafkaException: the broker rejected them.
    """

    def ask() -> None:
        answers = consumer.commit(offsets=to_positions(topic, offsets), asynchronous=False)
        for answer in answers or ():
            if answer.error is not None:
                raise KafkaException(answer.error)

    until_done(ask)


def to_positions(topic: str, offsets: Mapping[int, int]) -> list[TopicPartition]:
    """Return offsets by partition in the client's type."""
    return [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]


def is_passing(error: KafkaError) -> bool:
    """Return whether an error is transient, for example a broker that is down for a while."""
    return bool(error.retriable()) or error.code() in _PASSING


def is_refused(error: KafkaError) -> bool:
    """Return whether an error means that this user lacks a right."""
    return error.code() in _REFUSED
