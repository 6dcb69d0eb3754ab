"""Reads one slot of a Kafka topic, poll by poll."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from apache_beam.transforms.window import TimestampedValue
from confluent_kafka import KafkaError, KafkaException

from scoreline.lake.elements import Reading, RecordKey
from scoreline.transforms import metrics
from scoreline.transforms.kafka.client import (
    Connection,
    is_passing,
    list_partitions,
    read_committed,
    read_ends,
    starting_offsets,
    to_positions,
)
from scoreline.transforms.kafka.holding import Holding, holding_of
from scoreline.transforms.kafka.latency import LatencyController
from scoreline.transforms.kafka.positions import Positions, RecordTimes
from scoreline.transforms.kafka.records import _newest_seconds, take_more, to_raw_batch
from scoreline.transforms.worker.heartbeat import Heartbeat

_IDLE_SECONDS = 1.0
_DISCOVERY_SECONDS = 5.0
_QUICK_SECONDS = 2.0
_SILENT_SECONDS = 5.0
# Kafka expires committed offsets after offsets.retention.minutes: 7 days by default.
_KEEP_SECONDS = 3600.0

# Set by a command whose workers are threads in its own process. Readers then finish their records,
# and the job ends like one with a bounded input.
stop_reading = threading.Event()


class ReadFails(RuntimeError):
    """A topic cannot be read on. The message has partition, reason and advice."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """The topic to read, and the limits of polls and bundles.

    Attributes:
      connection: the connection to Kafka.
      topic: the topic.
      group: the consumer group whose offsets are the start.
      until_end: whether to end at the topic's end at the start of the job.
      latency_target_ms: target time from a record's arrival to its score; None for throughput.
      bundle_seconds: time that polls continue in one bundle after its first record; 0 for one poll.
      poll_bytes: maximum size of the values of a poll. The excess is at most 128 records, or the
        client's queue (queued.max.messages.kbytes, 64 MiB).
      heartbeat_file: file to touch at polls, at most once a second; "" for none.
      is_held: whether the sink holds records over several bundles. Then a position of the runner
        does not prove delivery, and a reader starts at the group's offsets.
    """

    connection: Connection
    topic: str
    group: str
    until_end: bool = False
    latency_target_ms: float | None = None
    bundle_seconds: float = 0.5
    poll_bytes: int = 16 << 20
    heartbeat_file: str = ""
    is_held: bool = False


class Reader:
    """A consumer of one slot's partitions, with its positions."""

    def __init__(self, spec: TopicSpec, reading: Reading, positions: Positions) -> None:
        self._spec = spec
        self.reading = reading
        self._consumer = spec.connection.consumer(
            spec.group,
            fetch_queue_backoff_ms=20,
            enable_partition_eof=positions.ends is not None,
        )
        # Records below the group's offsets are delivered, even if the runner's state is older.
        self._delivered = read_committed(self._consumer, reading.topic, positions.offsets)
        self._at: dict[int, int] = {}
        self._holding: Holding | None = None
        if spec.is_held:
            self._holding = holding_of(
                spec.connection.brokers, spec.group, reading.topic, reading.slot
            )
            self._holding.seen = -1  # the runner's state does not include rows that the sink holds
            self._holding.ended = False
        self._discovered = time.monotonic()
        self._kept_until = 0.0
        self.times = RecordTimes(_SILENT_SECONDS)
        self.control = LatencyController(spec.latency_target_ms)
        self._heartbeat = Heartbeat(spec.heartbeat_file)

    def end(self) -> None:
        """Notify the sink that this reader has ended."""
        if self._holding is not None:
            self._holding.ended = True

    def go_to(self, positions: Positions) -> dict[int, int]:
        """Set the positions of the next poll, and return the effective ones."""
        if self._holding is not None and self._holding.seen != self._holding.losses:
            positions = self._go_back(positions, self._holding)
        wanted = {p: max(o, self._delivered.get(p, 0)) for p, o in positions.offsets.items()}
        if positions.ends is None:
            wanted |= self._find_new(wanted)
        if wanted != self._at:
            self._consumer.assign(to_positions(self.reading.topic, wanted))
            self._at = dict(wanted)
        return wanted

    def _go_back(self, positions: Positions, holding: Holding) -> Positions:
        """Return positions after all records that are delivered or held by this process's sink."""
        holding.seen = holding.losses
        delivered = starting_offsets(self._consumer, self.reading.topic, positions.offsets)
        return positions._replace(
            offsets={p: max(o, holding.offsets.get(p, 0)) for p, o in delivered.items()}
        )

    def _find_new(self, known: Mapping[int, int]) -> dict[int, int]:
        """Return partitions that were added to the topic, and their start offsets."""
        if time.monotonic() - self._discovered < _DISCOVERY_SECONDS:
            return {}
        self._discovered = time.monotonic()
        topic = self.reading.topic
        try:
            there = list_partitions(self._consumer, topic, _QUICK_SECONDS)
            new = [p for p in there if self.reading.owns(p) and p not in known]
            return starting_offsets(self._consumer, topic, new) if new else {}
        except (KafkaException, LookupError):  # no broker answers; try again next time
            return {}

    def keep_offsets(self) -> None:
        """Commit the offsets of fully delivered partitions again, once an hour.

        The group has no active members, so Kafka would expire the offset of an idle partition. A
        restart would then score all its records again.
        """
        now = time.monotonic()
        if now < self._kept_until:
            return
        self._kept_until = now + _KEEP_SECONDS
        topic = self.reading.topic
        asked = to_positions(topic, self._at)
        try:
            found = self._consumer.committed(asked, timeout=_QUICK_SECONDS) if asked else []
            # Only this job commits: an offset equal to the position means that all is delivered.
            same = {p.partition: p.offset for p in found if p.offset == self._at[p.partition]}
            if same:
                self._consumer.commit(offsets=to_positions(topic, same), asynchronous=False)
        except KafkaException:  # no broker answers; there are days left
            return

    def poll(self, seconds: float) -> tuple[list[Any], dict[int, int]]:
        """Return records, and the offsets after them. It waits only for the first record."""
        first = self._consumer.poll(seconds)
        if first is None:
            return [], {}
        messages = take_more(
            lambda rows: self._consumer.consume(rows, 0),
            first,
            self.control.rows,
            self._spec.poll_bytes,
        )
        records = []
        behind: dict[int, int] = {}
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() != KafkaError._PARTITION_EOF:
                self._check(error, message)
                continue
            # The end of a partition may be after its last record because of transaction markers.
            behind[message.partition()] = message.offset() + (error is None)
        self._at |= behind
        return records, behind

    def _check(self, error: KafkaError, message: Any) -> None:
        if is_passing(error):
            return
        where = f"partition {message.partition()} of topic {message.topic()}"
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise ReadFails(
                f"Expected the records of {where} from the offset of group {self._spec.group} on, "
                f"but the broker no longer has them: {error.str()}. They were deleted unread. "
                "Continue with the existing records: --start=earliest"
            )
        raise ReadFails(f"Reading {where} failed: {error.str()}")

    def read(self, tracker: Any, timers: metrics.Tally) -> Iterator[TimestampedValue]:
        """Poll until the bundle is old enough, the topic is idle or the rest is passed on.

        Yields one batch per poll. The next reader polls unclaimed records again.
        """
        is_ours = tracker.try_claim(self.go_to(tracker.current_restriction()))
        self.keep_offsets()
        ends_at = None
        while is_ours and not tracker.current_restriction().is_read:
            now = time.monotonic()
            left = _IDLE_SECONDS if ends_at is None else ends_at - now
            if left <= 0:
                break
            if stop_reading.is_set():
                tracker.try_claim(None)
                break
            messages, behind = self.poll(left)
            self._heartbeat.beat()
            if not behind:
                break
            is_ours = tracker.try_claim(behind)
            if messages and is_ours:
                began = time.monotonic()
                batch = to_raw_batch(self.reading.topic, messages)
                newest = _newest_seconds(batch)
                yield TimestampedValue(self._to_element(batch, timers), min(newest.values()))
                self.control.record(len(messages), time.monotonic() - began)
                self.times.observe(newest)
                ends_at = ends_at or now + self._spec.bundle_seconds

    def _to_element(
        self, batch: pa.RecordBatch, timers: metrics.Tally
    ) -> tuple[RecordKey, pa.RecordBatch]:
        rows, reading = batch.num_rows, self.reading
        timers.count(metrics.ROWS_READ, rows)
        timers.observe(metrics.BATCH_ROWS, rows)
        return RecordKey(reading.topic, reading.slot), batch

    def is_beyond(self, positions: Positions) -> bool:
        """Return whether it is ahead of given positions, because the runner restored older ones."""
        return any(self._at.get(p, 0) > offset for p, offset in positions.offsets.items())

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def first_positions(spec: TopicSpec, reading: Reading) -> Positions:
    """Return the start and end offsets of a slot's partitions for a group."""
    consumer = spec.connection.consumer(spec.group)
    try:
        partitions = [p for p in list_partitions(consumer, reading.topic) if reading.owns(p)]
        ends = None
        if spec.until_end:
            ends = read_ends(consumer, reading.topic, partitions)
        return Positions(starting_offsets(consumer, reading.topic, partitions), ends)
    finally:
        consumer.close()
