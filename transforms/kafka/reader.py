"""Read one slot of a Kafka topic, poll by poll, without an end."""

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
# Kafka forgets what was committed offsets.retention.minutes ago: 7 days, unless it is set shorter.
_KEEP_SECONDS = 3600.0

# Set by a command whose workers are threads of its own process: readers then finish what they
# hold, and the job ends as one whose input has an end.
stop_reading = threading.Event()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadSpec:
    """What to read, and how.

    Attributes:
      connection: how to reach Kafka.
      topic: the topic.
      group: the consumer group whose offsets say where to begin.
      until_end: end where the topic ended when the job began.
      latency_target_ms: the time within which a record should be scored; None for throughput.
      bundle_seconds: how long polls go on within one bundle once it has records; 0 for one poll.
      poll_bytes: a poll ends once its values have so many; what is over is at most 128 records,
        or the client's queue (queued.max.messages.kbytes, 64 MiB).
      heartbeat_file: touched at polls, at most once a second; "" for none.
      is_held: whether the sink holds records over several bundles. What the runner says was read is
        then no proof that it was delivered: a reader begins at the group's offset.
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
    """A consumer of one slot's partitions, which knows how far it has read."""

    def __init__(self, spec: ReadSpec, reading: Reading, positions: Positions) -> None:
        self._spec = spec
        self.reading = reading
        self._consumer = spec.connection.consumer(
            spec.group,
            fetch_queue_backoff_ms=20,
            enable_partition_eof=positions.ends is not None,
        )
        # What the group has committed is delivered, even if the runner's own state is older.
        self._delivered = read_committed(self._consumer, reading.topic, positions.offsets)
        self._at: dict[int, int] = {}
        self._holding: Holding | None = None
        if spec.is_held:
            self._holding = holding_of(
                spec.connection.brokers, spec.group, reading.topic, reading.slot
            )
            self._holding.seen = -1  # the runner's state says nothing of what the sink holds
            self._holding.ended = False
        self._discovered = time.monotonic()
        self._kept_until = 0.0
        self.times = RecordTimes(_SILENT_SECONDS)
        self.control = LatencyController(spec.latency_target_ms)
        self._heartbeat = Heartbeat(spec.heartbeat_file)

    def end(self) -> None:
        """Tell the sink that nothing more is read."""
        if self._holding is not None:
            self._holding.ended = True

    def go_to(self, positions: Positions) -> dict[int, int]:
        """Have the next poll begin at these positions, and return where that is."""
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
        """Return positions behind what is delivered, and what the sink of this process holds."""
        holding.seen = holding.losses
        delivered = starting_offsets(self._consumer, self.reading.topic, positions.offsets)
        return positions._replace(
            offsets={p: max(o, holding.offsets.get(p, 0)) for p, o in delivered.items()}
        )

    def _find_new(self, known: Mapping[int, int]) -> dict[int, int]:
        """Return partitions that were added to the topic since, and where they begin."""
        if time.monotonic() - self._discovered < _DISCOVERY_SECONDS:
            return {}
        self._discovered = time.monotonic()
        topic = self.reading.topic
        try:
            there = list_partitions(self._consumer, topic, _QUICK_SECONDS)
            new = [p for p in there if self.reading.owns(p) and p not in known]
            return starting_offsets(self._consumer, topic, new) if new else {}
        except (KafkaException, LookupError):  # no broker answers; the next time will do
            return {}

    def keep_offsets(self) -> None:
        """Commit again, once an hour, where partitions are of which all is delivered.

        A group without members keeps no offset by being there: that of a partition that is silent
        would be forgotten, and a restart would score all it holds again.
        """
        now = time.monotonic()
        if now < self._kept_until:
            return
        self._kept_until = now + _KEEP_SECONDS
        topic = self.reading.topic
        asked = to_positions(topic, self._at)
        try:
            found = self._consumer.committed(asked, timeout=_QUICK_SECONDS) if asked else []
            # Nobody else moves them: what is at the same place is delivered, and not in the sink.
            same = {p.partition: p.offset for p in found if p.offset == self._at[p.partition]}
            if same:
                self._consumer.commit(offsets=to_positions(topic, same), asynchronous=False)
        except KafkaException:  # no broker answers; it has days
            return

    def poll(self, seconds: float) -> tuple[list[Any], dict[int, int]]:
        """Return records, waiting for the first only, and the offsets behind them."""
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
            # The end of a partition may be behind its last record: markers of transactions.
            behind[message.partition()] = message.offset() + (error is None)
        self._at |= behind
        return records, behind

    def _check(self, error: KafkaError, message: Any) -> None:
        if is_passing(error):
            return
        where = f"partition {message.partition()} of topic {message.topic()}"
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise RuntimeError(
                f"Expected the records of {where} from the offset of group {self._spec.group} on; "
                f"the broker no longer holds them: {error.str()}. They were deleted unread. "
                "Go on from what there is with --start=earliest"
            )
        raise RuntimeError(f"Reading {where} failed: {error.str()}")

    def read(self, tracker: Any, timers: metrics.Tally) -> Iterator[TimestampedValue]:
        """Poll until the bundle is old enough, the topic is silent or the rest is given away.

        Yields a batch for each poll; what could not be claimed is polled again by another.
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
        """Return whether it has read what is still to be read: the runner went back to a state."""
        return any(self._at.get(p, 0) > offset for p, offset in positions.offsets.items())

    def close(self) -> None:
        """Read nothing more."""
        self._consumer.close()


def first_positions(spec: ReadSpec, reading: Reading) -> Positions:
    """Return where a group is in the partitions of a slot, and where to end."""
    consumer = spec.connection.consumer(spec.group)
    try:
        partitions = [p for p in list_partitions(consumer, reading.topic) if reading.owns(p)]
        ends = None
        if spec.until_end:
            ends = read_ends(consumer, reading.topic, partitions)
        return Positions(starting_offsets(consumer, reading.topic, partitions), ends)
    finally:
        consumer.close()
