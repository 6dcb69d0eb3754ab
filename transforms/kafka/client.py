"""Connections to Kafka: settings from a file, clients, and what brokers say about topics.

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
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec, TopicDescription

from scoreline.transforms.kafka.client_log import CLIENT_LOG
from scoreline.transforms.kafka.properties import REGISTRY_PREFIX, parse_properties

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


class NotAllowed(LookupError):
    """The brokers do not allow this user to access a resource."""


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
        """Return a consumer without automatic commits, which does not join its group by itself.

        It checks the checksums of records, unless the file has `check.crcs=false`.
        """
        fixed = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "error"}
        return Consumer({**self.settings(check_crcs=True, **ours), **fixed}, logger=CLIENT_LOG)

    def producer(self, transactional_id: str | None = None, **ours: Any) -> Producer:
        """Return an idempotent producer; with an id, a transactional one, not yet initialized.

        It reports only errors. After `flush` all other records are delivered.
        """
        settings = self.settings(
            linger_ms=2,
            compression_type="lz4",
            partitioner="murmur2_random",
            message_max_bytes=10**7,
            message_timeout_ms=DELIVERY_MS,
            **ours,
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


def describe_topic(
    client: AdminClient, topic: str, timeout: float = TIMEOUT_SECONDS
) -> TopicDescription:
    """Return the description of a topic.

    Unlike `list_topics`, it never makes a broker create the topic, which brokers do by default.

    Raises:
      NotAllowed: this user may not describe it.
      LookupError: there is no such topic.
      KafkaException: no broker answers.
    """
    try:
        return _describe(client, topic, timeout)
    except KafkaException as e:
        error = e.args[0]
        if is_refused(error):
            raise NotAllowed(
                f"expected the right to describe topic {topic}, got: {error.str()}"
            ) from e
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION):
            raise LookupError(f"expected a topic that exists, got {topic}: {error.str()}") from e
        raise


def _describe(client: AdminClient, topic: str, timeout: float) -> TopicDescription:
    asked = client.describe_topics(TopicCollection([topic]), request_timeout=timeout)
    description: TopicDescription = asked[topic].result()
    return description


def list_partitions(client: Any, topic: str, timeout: float = TIMEOUT_SECONDS) -> list[int]:
    """Return the partitions of a topic, sorted.

    Args:
      client: a consumer or an AdminClient.
      topic: the topic.
      timeout: maximum time to wait for a broker, in seconds.

    Raises:
      NotAllowed: this user may not describe it.
      LookupError: there is no such topic.
      KafkaException: no broker answers.
    """
    if isinstance(client, AdminClient):
        return sorted(p.id for p in describe_topic(client, topic, timeout).partitions)
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
    return id_of(until_done(_describe, client, topic, TIMEOUT_SECONDS))


def id_of(description: TopicDescription) -> str:
    """Return the id in a topic's description; the topic's name if the broker has no ids."""
    topic_id: Any = description.topic_id
    is_given = topic_id is not None and (
        topic_id.get_most_significant_bits() or topic_id.get_least_significant_bits()
    )
    return str(topic_id) if is_given else str(description.name)


def read_bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Return the first offset of a partition, and the offset of its next record."""
    at = TopicPartition(topic, partition)
    first, end = until_done(consumer.get_watermark_offsets, at, timeout=TIMEOUT_SECONDS)
    return int(first), int(end)


def read_first_offsets(
    client: AdminClient, topic: str, partitions: Iterable[int], timeout: float = TIMEOUT_SECONDS
) -> dict[int, int]:
    """Return the first offset of each partition's log.

    Raises:
      KafkaException: no broker answers, or there is no such partition.
    """
    return _list_offsets(client, topic, partitions, OffsetSpec.earliest(), timeout)


def read_high_watermarks(
    client: AdminClient, topic: str, partitions: Iterable[int], timeout: float = TIMEOUT_SECONDS
) -> dict[int, int]:
    """Return the end of each partition's log, behind records of open transactions.

    A consumer of committed records gets the offset of the oldest open transaction instead: it may
    read no further yet.

    Raises:
      KafkaException: no broker answers, or there is no such partition.
    """
    return _list_offsets(client, topic, partitions, OffsetSpec.latest(), timeout)


def read_stable_ends(
    client: AdminClient, topic: str, partitions: Iterable[int], timeout: float = TIMEOUT_SECONDS
) -> dict[int, int]:
    """Return the offset below which each partition's records are committed or aborted.

    Raises:
      KafkaException: no broker answers, or there is no such partition.
    """
    level = IsolationLevel.READ_COMMITTED
    return _list_offsets(client, topic, partitions, OffsetSpec.latest(), timeout, level)


def _list_offsets(
    client: AdminClient,
    topic: str,
    partitions: Iterable[int],
    at: OffsetSpec,
    timeout: float,
    level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[int, int]:
    asked = {TopicPartition(topic, partition): at for partition in partitions}

    def ask() -> dict[int, int]:
        answers = client.list_offsets(asked, isolation_level=level, request_timeout=timeout)
        return {at.partition: int(answer.result().offset) for at, answer in answers.items()}

    return until_done(ask, seconds=timeout) if asked else {}


def to_positions(
    topic: str, offsets: Mapping[int, int], note: str | None = None
) -> list[TopicPartition]:
    """Return offsets by partition in the client's type, with a note that brokers keep with them."""
    if note is None:
        return [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    return [TopicPartition(topic, partition, offset, note) for partition, offset in offsets.items()]


def is_passing(error: KafkaError) -> bool:
    """Return whether an error is transient, for example a broker that is down for a while."""
    return bool(error.retriable()) or error.code() in _PASSING


def is_refused(error: KafkaError) -> bool:
    """Return whether an error means that this user lacks a right."""
    return error.code() in _REFUSED
