"""Connections to Kafka: settings from a file, clients made of them, offsets asked for.

Settings may hold secrets. They stay in their file, which every worker reads for itself: they are
in no command line, no job graph and no log.
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
# Long enough for a broker that is just starting, or for one transaction to time out.
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
# Within which Kafka must have taken a record, and a transaction must have ended.
DELIVERY_MS = 120_000
Answer = TypeVar("Answer")
# Of settings for the schema registry's client, as Confluent names them.
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
    """Something that the brokers do not let this user see."""


def parse_properties(text: str) -> dict[str, str]:
    """Return the settings of a properties file: `key=value` lines; `#` begins a comment line.

    Raises:
      ValueError: a line is none, or sets what options set; names the line, never its value.
    """
    settings: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(("#", "!")):
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ValueError(f"line {number}: expected KEY=VALUE as of librdkafka")
        if name in _OUR_OWN:
            raise ValueError(f"line {number}: {name} is set by the command's options; leave it out")
        if name.startswith(REGISTRY_PREFIX) and name[len(REGISTRY_PREFIX) :] not in _OF_REGISTRY:
            known = ", ".join(_OF_REGISTRY)
            raise ValueError(f"line {number}: of {REGISTRY_PREFIX}… only {known} are known")
        settings[name] = value.strip()
    return settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connection:
    """How to reach Kafka.

    Attributes:
      brokers: `host:port,…` to begin with.
      config: a file of further client settings (TLS, SASL), as a worker sees it; "" for none.
    """

    brokers: str
    config: str = ""

    def settings(self, **ours: Any) -> dict[str, Any]:
        """Return a client's settings: defaults of ours, the file's over them, brokers.

        Args:
          ours: defaults, with `_` for the dots of their names.
        """
        given = parse_properties(Path(self.config).read_text("utf-8")) if self.config else {}
        defaults: dict[str, Any] = {"reconnect.backoff.ms": 500, "reconnect.backoff.max.ms": 2000}
        defaults |= {name.replace("_", "."): value for name, value in ours.items()}
        given = {n: value for n, value in given.items() if not n.startswith(REGISTRY_PREFIX)}
        return {**defaults, **given, "bootstrap.servers": self.brokers}

    def consumer(self, group: str, **ours: Any) -> Consumer:
        """Return a consumer that commits only what it is told to, and joins no group by itself."""
        fixed = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "error"}
        return Consumer({**self.settings(**ours), **fixed}, logger=CLIENT_LOG)

    def producer(self, transactional_id: str | None = None) -> Producer:
        """Return an idempotent producer; with an id, a transactional one, not yet initialized.

        Its reports are of errors only: `flush` tells that all else has arrived.
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
        """Return a client that asks about topics and makes them.

        Args:
          on_error: is told, when the client is polled, why a broker cannot be reached.
        """
        settings = self.settings()
        if on_error is not None:
            settings["error_cb"] = on_error
        return AdminClient(settings, logger=CLIENT_LOG)


def until_done(
    call: Callable[..., Answer], *args: Any, seconds: float = TIMEOUT_SECONDS, **kwargs: Any
) -> Answer:
    """Return what a call of a client returns, made again while it fails in a way that passes.

    Raises:
      KafkaException: it fails for good, or for so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call(*args, **kwargs)
        except KafkaException as e:
            if not is_passing(e.args[0]) or time.monotonic() > deadline:
                raise
            _LOG.warning("%s: %s; trying again", getattr(call, "__name__", "call"), e.args[0].str())
        time.sleep(0.2)


def list_partitions(client: Any, topic: str, timeout: float = TIMEOUT_SECONDS) -> list[int]:
    """Return the partitions of a topic, sorted.

    Raises:
      NotAllowed: this user may not see it.
      LookupError: there is no such topic.
      KafkaException: no broker answers.
    """
    found = client.list_topics(topic, timeout=timeout).topics.get(topic)
    if found is not None and found.error is not None and is_refused(found.error):
        raise NotAllowed(f"expected a topic that can be seen, got {topic}: {found.error.str()}")
    if found is None or found.error is not None or not found.partitions:
        why = found.error.str() if found is not None and found.error is not None else "no partition"
        raise LookupError(f"expected a topic that can be read, got {topic}: {why}")
    return sorted(found.partitions)


def read_topic_id(client: AdminClient, topic: str) -> str:
    """Return what tells a topic from all others: made anew, or on another cluster, it has another.

    A broker older than Kafka 2.8 gives none; then it is the topic's name.

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
    """Return the offsets that the consumer's group goes on from, for partitions that have one."""
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
    """Return the first offset that a partition holds, and the one its next record gets."""
    at = TopicPartition(topic, partition)
    first, end = until_done(consumer.get_watermark_offsets, at, timeout=TIMEOUT_SECONDS)
    return int(first), int(end)


def read_ends(consumer: Consumer, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return the offset that the next record of each partition gets."""
    return {partition: read_bounds(consumer, topic, partition)[1] for partition in partitions}


def starting_offsets(consumer: Consumer, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return where to begin: the group's offset, or the first record where it has none."""
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
    """Set a group's offsets on a topic, and return them: `earliest`, `latest` or `timestamp`.

    Done once, before a job begins, so that however often it is restarted it goes on from what it
    has delivered.

    Args:
      connection: how to reach Kafka.
      group: the group, of which no member may be active.
      topic: the topic.
      start: to the first record, behind the last one, or to the first of a time.
      since_ms: that time, in ms since 1970.
      done: offsets below which no partition may be set.

    Raises:
      ValueError: a partition would be; the group stays where it is.
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
                    f"partition {partition} of {topic} would be read from {offsets[partition]} on, "
                    f"and what is below {offset} is done"
                )
        commit(consumer, topic, offsets)
    finally:
        consumer.close()
    return offsets


def advance_group(
    connection: Connection, group: str, topic: str, done: Mapping[int, int]
) -> dict[int, int]:
    """Set a group's offsets to those below which all is done, where it is behind; return these.

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
    """Commit a group's offsets and wait until the broker has them.

    Raises:
      KafkaException: it did not take them.
    """

    def ask() -> None:
        answers = consumer.commit(offsets=to_positions(topic, offsets), asynchronous=False)
        for answer in answers or ():
            if answer.error is not None:
                raise KafkaException(answer.error)

    until_done(ask)


def to_positions(topic: str, offsets: Mapping[int, int]) -> list[TopicPartition]:
    """Return offsets by partition as the client wants them."""
    return [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]


def is_passing(error: KafkaError) -> bool:
    """Return whether a client mends this error by itself: a broker that is away for a while."""
    return bool(error.retriable()) or error.code() in _PASSING


def is_refused(error: KafkaError) -> bool:
    """Return whether the brokers do not let this user do what it asked for."""
    return error.code() in _REFUSED
