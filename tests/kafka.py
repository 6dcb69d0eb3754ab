"""A real broker for tests, and functions that write and read its topics."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from deploy.local.kafka_broker import Broker
from deploy.local.processes import free_ports
from scoreline.pipelines import score_stream
from scoreline.transforms.kafka.client import read_high_watermarks, until_done
from scoreline.transforms.kafka.reader import stop_reading


def start_broker(folder: Path) -> Broker:
    """Start a broker on free loopback ports; it stops when this process ends.

    Like most brokers, it creates a topic that a client asks for, unless the client forbids it.
    """
    port, controller_port = free_ports(2)
    broker = Broker(
        folder=folder,
        port=port,
        controller_port=controller_port,
        owner=os.getpid(),
        settings={"auto.create.topics.enable": "true"},
    )
    broker.start()
    return broker


def make_topics(
    address: str, partitions: int, *names: str, settings: Mapping[str, str] | None = None
) -> None:
    """Create topics and wait until they are ready."""
    admin = AdminClient({"bootstrap.servers": address})
    wanted = [NewTopic(name, partitions, 1, config=dict(settings or {})) for name in names]
    for made in admin.create_topics(wanted).values():
        made.result(120)
    wait_until(lambda: set(names) <= admin.list_topics(timeout=10).topics.keys())


def delete_topic(address: str, topic: str) -> None:
    """Delete a topic and wait until it is gone."""
    admin = AdminClient({"bootstrap.servers": address})
    admin.delete_topics([topic])[topic].result(120)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics)


def make_anew(address: str, topic: str, partitions: int = 4) -> None:
    """Delete a topic and create it again: it has another id."""
    delete_topic(address, topic)
    make_topics(address, partitions, topic, settings={"retention.ms": "-1"})


def add_partitions(address: str, topic: str, total: int) -> None:
    """Add partitions to a topic."""
    admin = AdminClient({"bootstrap.servers": address})
    for done in admin.create_partitions([NewPartitions(topic, total)]).values():
        done.result(120)


def make_producer(address: str, compression: str = "none", **settings: str) -> Producer:
    """Return a producer that survives a broker's restart; settings have `_` instead of dots."""
    return Producer(
        {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.max.bytes": 4_000_000,
            "compression.type": compression,
            "log_level": 0,
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
    )


def send(
    producer: Producer, topic: str, records: Iterable[tuple[bytes | None, bytes | None]], **at: Any
) -> None:
    """Send records and wait until the broker acknowledges them."""
    failed: list[str] = []

    def report(error: KafkaError | None, message: object) -> None:
        if error is not None:
            failed.append(str(error))

    for key, value in records:
        while True:
            try:
                producer.produce(topic, key=key, value=value, on_delivery=report, **at)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0
    assert not failed


def rows(first: int, count: int) -> list[dict[str, Any]]:
    """Return rows of the zoo's model: y = 2·a + b = id."""
    return [{"id": i, "a": i / 2, "b": 0.0} for i in range(first, first + count)]


def as_json(some: Iterable[dict[str, Any]]) -> list[tuple[bytes, bytes]]:
    """Return rows as records, keyed by id."""
    return [(str(row["id"]).encode(), json.dumps(row).encode()) for row in some]


def read_all(address: str, topic: str) -> list[Any]:
    """Return the committed records of a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "tests",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=120).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        left, found = set(partitions), []
        deadline = time.monotonic() + 150
        while left:
            assert time.monotonic() < deadline, f"expected to read topic {topic} to its end"
            for message in consumer.consume(10_000, 0.1):
                if message.error() is None:
                    found.append(message)
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
        return found
    finally:
        consumer.close()


def count_of(address: str, topic: str) -> int:
    """Return the number of used offsets of a topic: records and transaction markers."""
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    partitions = admin.list_topics(topic, timeout=120).topics[topic].partitions
    return sum(read_high_watermarks(admin, topic, partitions).values())


def committed(address: str, group: str, topic: str) -> dict[int, int]:
    """Return a group's committed offsets, also of a broker that was just away.

    Each try is a consumer of its own: one that asked while the group's coordinator was away may
    wait for that answer for more than a minute. Offsets in a transaction that a kill left open do
    not count; with `read_committed` the broker would not answer before it times out, after 2
    minutes.
    """
    settings = {"bootstrap.servers": address, "group.id": group, "log_level": 0}

    def ask() -> dict[int, int]:
        consumer = Consumer({**settings, "isolation.level": "read_uncommitted"})
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            asked = [TopicPartition(topic, number) for number in partitions]
            return {at.partition: at.offset for at in consumer.committed(asked, timeout=10)}
        finally:
            consumer.close()

    return until_done(ask, seconds=120)


def records_done(broker: Broker, topics: Sequence[str]) -> int:
    """Return the number of records of the source topic that a test's group has committed."""
    offsets = committed(broker.address, f"group-of-{topics[0]}", topics[0])
    return sum(max(offset, 0) for offset in offsets.values())


def wait_until(condition: Any, seconds: float = 150) -> None:
    """Check a condition until it is true, at first every 50 ms.

    A new process may need a minute before its first action if other processes start too. Most
    conditions ask the broker, which takes 20 ms of CPU time, so a long wait asks less often.
    """
    deadline, pause = time.monotonic() + seconds, 0.05
    while not condition():
        assert time.monotonic() < deadline, "expected the condition to become true in time"
        time.sleep(pause)
        pause = min(0.4, 1.1 * pause)


def stop(process: Any, expected: int = 0) -> str:
    """Stop a command with SIGTERM and return its output; it must end with the expected code."""
    process.send_signal(signal.SIGTERM)
    code = process.wait(150)
    out = process.printed.read_text()
    assert code == expected, out
    return out


def run_while(arguments: Sequence[str], act: Callable[[], object]) -> int:
    """Run a stream in this process while a thread acts; return its exit code.

    A stream that does not end within 150 s is stopped, which is code 0.
    """
    failed: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as e:
            failed.append(e)
            stop_reading.set()

    thread = threading.Thread(target=run)
    watchdog = threading.Timer(150, stop_reading.set)
    thread.start()
    watchdog.start()
    try:
        return score_stream.main(arguments)
    finally:
        watchdog.cancel()
        thread.join()
        assert not failed, failed


def scores_of(address: str, topic: str) -> list[dict[str, Any]]:
    """Return the scored records of a topic, parsed."""
    return [json.loads(message.value()) for message in read_all(address, topic)]


def assert_scored(scores: list[dict[str, Any]], count: int, *, exactly_once: bool) -> None:
    """Check that each of `count` rows has a score; only one if delivery is exactly once."""
    ids = [score["id"] for score in scores]
    assert set(ids) == set(range(count)), "records were lost"
    if exactly_once:
        assert len(ids) == count, "records were doubled"
    assert all(score["y"] == score["id"] for score in scores)


class Feed:
    """Sends rows in the background while a stream runs, so that a kill happens in mid-stream.

    It sends the first rows at once, and the next rows at a fixed rate after each output topic has a
    record. It sends the last quarter only when `finish` is called. So a process that is killed
    before has records left to read, even on a slow machine.
    """

    CHUNK = 200

    def __init__(
        self, address: str, topic: str, outputs: Sequence[str], count: int = 20_000
    ) -> None:
        self._producer = make_producer(address)
        self._address, self._topic, self._outputs, self._count = address, topic, outputs, count
        self._finish = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._send(range(0, self.CHUNK, self.CHUNK))
            wait_until(self._is_flowing, 240)
            self._send(range(self.CHUNK, self._count * 3 // 4, self.CHUNK), seconds=4.0)
            assert self._finish.wait(240), "finish was not called"
            self._send(range(self._count * 3 // 4, self._count, self.CHUNK))
        except BaseException as e:
            self._error = e

    def _is_flowing(self) -> bool:
        return all(count_of(self._address, output) > 0 for output in self._outputs)

    def _send(self, firsts: range, seconds: float = 0.0) -> None:
        began = time.monotonic()
        for sent, first in enumerate(firsts, 1):
            send(self._producer, self._topic, as_json(rows(first, self.CHUNK)))
            due = began + seconds * sent / len(firsts)
            time.sleep(max(0.0, due - time.monotonic()))

    def finish(self) -> None:
        """Send the last quarter, and wait until all rows are sent."""
        self._finish.set()
        self._thread.join(120)
        assert self._error is None, self._error
        assert not self._thread.is_alive()


# Where a stream's scores go: options of the command.
SINKS: dict[str, dict[str, Any]] = {
    "topic": {},
    "exactly_once": {"exactly_once": True},
    "table": {"output": "scores", "output_topic": None},
}


def arguments_of(
    stream_arguments: Callable[..., list[str]],
    tmp_path: Path,
    sink: Mapping[str, Any],
    *flags: str,
    **options: object,
) -> list[str]:
    """Return a command line with the options of a sink, and others."""
    given = {**sink, **options}
    if given.pop("exactly_once", False):
        flags = (*flags, "--exactly_once")
    if "output" in given:
        given |= {"output": tmp_path / str(given["output"]), "flush_interval_s": 0.1}
    return stream_arguments(*flags, **given)
