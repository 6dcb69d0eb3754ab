"""Reads one slot of a Kafka topic, poll by poll."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from apache_beam.transforms.window import TimestampedValue
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from scoreline.lake.elements import Reading, RecordKey
from scoreline.transforms import metrics, stage_times
from scoreline.transforms.kafka.bounded import BoundedEnd
from scoreline.transforms.kafka.client import (
    Connection,
    is_passing,
    is_refused,
    list_partitions,
    read_bounds,
    read_high_watermarks,
    to_positions,
)
from scoreline.transforms.kafka.ending import StreamEnds, StreamRefused
from scoreline.transforms.kafka.group import note_of, read_committed, starting_offsets
from scoreline.transforms.kafka.holding import Holding, holding_of
from scoreline.transforms.kafka.latency import LatencyController
from scoreline.transforms.kafka.positions import Positions, RecordTimes
from scoreline.transforms.kafka.records import (
    _newest_seconds,
    offset_ranges,
    take_more,
    to_raw_batch,
)
from scoreline.transforms.kafka.topic_watch import PlannedTopic, TopicWatch
from scoreline.transforms.worker.heartbeat import Heartbeat

_IDLE_SECONDS = 1.0
_DISCOVERY_SECONDS = 5.0
_QUICK_SECONDS = 2.0
_SILENT_SECONDS = 5.0
_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
_OUT_OF_RANGE = (
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError._LOG_TRUNCATION,
)
_DAMAGED = (
    KafkaError._BAD_MSG,
    KafkaError._BAD_COMPRESSION,
    KafkaError._NOT_IMPLEMENTED,  # an unknown version of the format
)
# The end of the log that the client knows may lag a little, after its leader has changed.
_FAR = 1 << 20
_DAMAGE = (
    "The broker's disk or the network changed records. Check the broker's disk; with other "
    "replicas, let another broker lead the partition. Then start the job again"
)
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
      topics: the topics of the job with their ids at the start, the one to read first; () if the
        ids are unknown.
      stage_times: the folder to record stage times in (`transforms/stage_times.py`); "" for none.
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
    topics: tuple[PlannedTopic, ...] = ()
    stage_times: str = ""

    @property
    def topic_id(self) -> str:
        """The id of the topic to read; "" if it is unknown."""
        return self.topics[0].topic_id if self.topics else ""


class Reader:
    """A consumer of one slot's partitions, with its positions."""

    def __init__(self, spec: TopicSpec, reading: Reading, positions: Positions) -> None:
        self._spec = spec
        self.reading = reading
        _check_restored(spec, positions)
        self._watch = TopicWatch(
            spec.connection,
            spec.group if reading.slot == 0 else "",  # one reader is enough
            spec.topics or (PlannedTopic(spec.topic, "", "--topic"),),
            begins_anew=spec.is_held,
            quick_seconds=_QUICK_SECONDS,
        )
        self._end = BoundedEnd(reading.topic, positions.ends, self._stable_end)
        self._consumer = spec.connection.consumer(
            spec.group,
            fetch_queue_backoff_ms=20,
            enable_partition_eof=positions.ends is not None,
        )
        # Records below the group's offsets are delivered, even if the runner's state is older.
        self._delivered = read_committed(self._consumer, reading.topic, positions.offsets)
        self._at: dict[int, int] = {}
        self._before: dict[int, int] = {}  # like `_at`, before the newest poll
        self._holding: Holding | None = None
        if spec.is_held:
            self._holding = holding_of(
                spec.connection.brokers, spec.group, reading.topic, reading.slot
            )
            self._holding.seen = -1  # the runner's state does not include rows that the sink holds
            self._holding.ended = self._holding.is_awaited = False
            self._holding.confirmed = {}
        self._looked: float | None = None
        self._kept_until = 0.0
        self.times = RecordTimes(_SILENT_SECONDS)
        self.control = LatencyController(spec.latency_target_ms)
        self._heartbeat = Heartbeat(spec.heartbeat_file)

    def end(self) -> None:
        """Notify the sink that this reader has ended."""
        if self._holding is not None:
            self._holding.is_awaited = True
            self._look()
            self._holding.ended = True

    def go_to(self, positions: Positions) -> dict[int, int]:
        """Set the positions of the next poll, and return the effective ones."""
        if self._holding is not None and self._holding.seen != self._holding.losses:
            positions = self._go_back(positions, self._holding)
        wanted = {p: max(o, self._delivered.get(p, 0)) for p, o in positions.offsets.items()}
        there = self._look()
        if positions.ends is None:
            wanted |= self._find_new(there, wanted)
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

    def _look(self) -> list[int]:
        """Return the partitions of the topic every few seconds; none in between, and at first.

        It also looks when the sink waits for it, to write only records of the planned topic.

        Raises:
          StreamRefused, StreamEnds: a topic is not the planned one any more.
        """
        now, before = time.monotonic(), self._looked
        holding = self._holding
        is_awaited = holding is not None and holding.is_awaited
        if before is not None and now - before < _DISCOVERY_SECONDS and not is_awaited:
            return []
        self._looked = now
        self._end.check(self._at)
        there = self._watch.look()
        if there and holding is not None and holding.confirmed is not None:
            holding.confirmed |= self._at  # read before this look, so they are of this topic
            holding.is_awaited = False
        return [] if before is None else there  # the first positions have all partitions

    def _stable_end(self, partition: int) -> int:
        """Return the offset that a consumer of committed records cannot pass yet."""
        return read_bounds(self._consumer, self.reading.topic, partition)[1]

    def _find_new(self, there: list[int], known: Mapping[int, int]) -> dict[int, int]:
        """Return partitions that were added to the topic, and their start offsets."""
        new = [p for p in there if self.reading.owns(p) and p not in known]
        try:
            return starting_offsets(self._consumer, self.reading.topic, new) if new else {}
        except KafkaException:  # no broker answers; try again next time
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
                note = note_of(self._spec.topic_id)
                self._consumer.commit(offsets=to_positions(topic, same, note), asynchronous=False)
        except KafkaException:  # no broker answers; there are days left
            return

    def poll(self, seconds: float) -> tuple[list[Any], dict[int, int]]:
        """Return records, and the offsets after them. It waits only for the first record."""
        with self._noting_idleness():
            first = self._consumer.poll(seconds)
        if first is None:
            self._end.observe(is_empty=True)
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
        self._before = {partition: self._at.get(partition, 0) for partition in behind}
        self._at |= behind
        self._end.observe(is_empty=not behind)
        return records, behind

    def _noting_idleness(self) -> contextlib.AbstractContextManager[None]:
        """Record the wait in a block as idle if the topic has no more records.

        The last offset of a partition may be the marker of a transaction, which is no record.
        """
        if stage_times.active is None:
            return contextlib.nullcontext()
        for partition, at in self._at.items():
            place = TopicPartition(self.reading.topic, partition)
            _, end = self._consumer.get_watermark_offsets(place, cached=True)
            if not 0 <= end <= at + 1:
                return contextlib.nullcontext()
        return stage_times.marked("poll", is_idle=True)

    def _check(self, error: KafkaError, message: Any) -> None:
        if is_passing(error) or error.code() in _GONE:  # the next look reports what is gone
            return
        where = f"partition {message.partition()} of topic {message.topic()}"
        if error.code() in _OUT_OF_RANGE:
            self._watch.look()  # a topic that was created again has this effect, too
            raise StreamRefused(self._describe_range(message.partition(), where))
        if is_refused(error):
            raise StreamRefused(
                f"--topic: expected to be allowed to read {where}, got: {error.str()}. The right "
                "was taken away while the job ran. Grant it again, and start the job again"
            )
        if error.code() in _DAMAGED:
            raise StreamEnds(
                f"Expected records with the right checksum in {where}, got: {error.str()}. "
                f"{_DAMAGE}"
            )
        raise ReadFails(f"Reading {where} failed: {error.str()}")

    def _describe_range(self, partition: int, where: str) -> str:
        """Return why the next record of a partition does not exist."""
        at = self._at.get(partition, 0)
        first, end = read_bounds(self._consumer, self.reading.topic, partition)
        return describe_range(where, self._spec.group, at, first, end)

    def read(self, tracker: Any, timers: metrics.Tally) -> Iterator[TimestampedValue]:
        """Poll until the bundle is old enough, the topic is idle or the rest is passed on.

        Yields one batch per poll. The next reader polls unclaimed records again.
        """
        if stage_times.active is not None:
            stage_times.active.work_as(self.reading.slot)
        with timers.timed(metrics.POLL_MS):
            at = self.go_to(tracker.current_restriction())
            self.keep_offsets()
        is_ours = tracker.try_claim(at)
        ends_at = None
        while is_ours and not tracker.current_restriction().is_read:
            now = time.monotonic()
            left = _IDLE_SECONDS if ends_at is None else ends_at - now
            if left <= 0:
                break
            if stop_reading.is_set():
                tracker.try_claim(None)
                break
            with timers.timed(metrics.POLL_MS):
                messages, behind = self.poll(left)
            self._heartbeat.beat()
            if not behind:
                break
            is_ours = tracker.try_claim(behind)
            if messages and is_ours:
                began = time.monotonic()
                with timers.timed(metrics.POLL_MS):
                    batch = to_raw_batch(self.reading.topic, messages)
                    self._check_offsets(batch)
                    newest = _newest_seconds(batch)
                yield TimestampedValue(self._to_element(batch, timers), min(newest.values()))
                self.control.record(len(messages), time.monotonic() - began)
                self.times.observe(newest)
                ends_at = ends_at or now + self._spec.bundle_seconds

    def _check_offsets(self, batch: pa.RecordBatch) -> None:
        """Raise StreamEnds if offsets, which checksums do not cover, are not those of a log."""
        for partition, (first, last, is_rising) in offset_ranges(batch).items():
            topic = self.reading.topic
            at = TopicPartition(topic, partition)
            _, end = self._consumer.get_watermark_offsets(at, cached=True)
            if first < self._before[partition] or not is_rising or last > end + _FAR > _FAR:
                raise StreamEnds(
                    f"Expected rising offsets from {self._before[partition]} to {end} in partition "
                    f"{partition} of topic {topic}, got {first} to {last}. {_DAMAGE}"
                )

    def _to_element(
        self, batch: pa.RecordBatch, timers: metrics.Tally
    ) -> tuple[RecordKey, pa.RecordBatch]:
        rows, reading = batch.num_rows, self.reading
        timers.count(metrics.ROWS_READ, rows)
        timers.pass_rows(metrics.POLL_MS, rows)
        timers.observe(metrics.BATCH_ROWS, rows)
        return RecordKey(reading.topic, reading.slot), batch

    def is_beyond(self, positions: Positions) -> bool:
        """Return whether it is ahead of given positions, because the runner restored older ones."""
        return any(self._at.get(p, 0) > offset for p, offset in positions.offsets.items())

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def describe_range(where: str, group: str, at: int, first: int, end: int) -> str:
    """Return the problem of an offset that is outside of a partition's log."""
    if at > end:
        return (
            f"--group: expected offset {end} or less for {where}, the end of its log, got {at} for "
            f"group {group}. The log was cut off, or the offset is of another topic. Start the job "
            "again with --start=earliest or --start=latest"
        )
    return (
        f"--group: expected the records of {where} from offset {at} of group {group} on, but the "
        f"first one is {first}. The others were deleted unread. Continue with the existing "
        "records: --start=earliest"
    )


def _check_restored(spec: TopicSpec, positions: Positions) -> None:
    """Raise if positions that a runner restored are of an older topic of the same name."""
    if spec.topic_id and positions.topic_id not in ("", spec.topic_id):
        raise StreamRefused(
            f"--topic: expected a savepoint with offsets of topic {spec.topic} with id "
            f"{spec.topic_id}, got id {positions.topic_id}: the topic was deleted and created "
            "again. Start the job without the savepoint"
        )


def first_positions(spec: TopicSpec, reading: Reading) -> Positions:
    """Return the start and end offsets of a slot's partitions for a group."""
    consumer = spec.connection.consumer(spec.group)
    try:
        partitions = [p for p in list_partitions(consumer, reading.topic) if reading.owns(p)]
        ends = None
        if spec.until_end:
            ends = read_high_watermarks(spec.connection.admin(), reading.topic, partitions)
        starts = starting_offsets(consumer, reading.topic, partitions)
        return Positions(starts, ends, topic_id=spec.topic_id)
    finally:
        consumer.close()
