"""The producer of one slot: sends what came of its records, and commits their offsets with it.

Bundles of a slot follow each other, and a runner spreads them over several instances of a step: all
of a process share one producer.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException
from deltalake.exceptions import DeltaError

from scoreline.lake.kill_points import reach
from scoreline.transforms.kafka.append import AppendConflict, TableSpec
from scoreline.transforms.kafka.client import (
    DELIVERY_MS,
    TIMEOUT_SECONDS,
    Connection,
    commit,
    is_passing,
    is_refused,
    to_positions,
    until_done,
)
from scoreline.transforms.kafka.encode_avro import AvroSpec
from scoreline.transforms.kafka.held_rows import HeldRows
from scoreline.transforms.kafka.holding import holding_of
from scoreline.transforms.kafka.records import OFFSET, largest_by_partition

_LOG = logging.getLogger(__name__)
# librdkafka gives a record up before (DELIVERY_MS), and says so.
_DELIVERY_SECONDS = DELIVERY_MS / 1000 + 30
# A transaction of which no record is taken for so long is given up; they are read again.
_STALLED_SECONDS = 30.0
# A commit that takes longer, once all records are delivered, is given up; they are read again.
_COMMIT_SECONDS = 10.0
_ENDING_AT_ONCE = 8


class Undeliverable(RuntimeError):
    """Records that Kafka did not take, or that there is no topic for; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriteSpec:
    """Where scores and dead letters go, and how.

    Attributes:
      connection: how to reach Kafka.
      topic: of the scores; "" when they go into a table only.
      dead_letter_topic: of the records that could not be scored; "" when that is to fail the job.
      source_topic: where the records are from.
      group: whose offsets on the source topic are committed.
      exactly_once: whether each bundle is one transaction that holds its offsets too.
      table: the table that scores are appended to; None for none. Offsets are committed when the
        topic and the table have what came of their records.
      avro: the schema of the topic's values; None for JSON.
    """

    connection: Connection
    topic: str
    dead_letter_topic: str
    source_topic: str
    group: str
    exactly_once: bool = False
    table: TableSpec | None = None
    avro: AvroSpec | None = None

    def transactional_id(self, slot: int) -> str:
        """Return the id of a slot's transactions: the same after a restart, which ends the old."""
        return f"scoreline-{self.group}-{self.source_topic}-{slot}"


def end_old_transactions(spec: WriteSpec, slots: int, most_slots: int) -> None:
    """Abort what a job that was killed left open, so that the group's offsets can be read.

    Args:
      spec: how it wrote.
      slots: how many slots there are to be.
      most_slots: how many it may have had: no more than partitions had anything to write. Of those
        beyond `slots`, the brokers may not let this user end any; then it began none either.

    Raises:
      KafkaException: a broker does not answer, or does not allow it.
    """

    def end(slot: int) -> None:
        try:
            producer = spec.connection.producer(spec.transactional_id(slot))
            until_done(producer.init_transactions, TIMEOUT_SECONDS)
        except KafkaException as e:
            if slot < slots or not is_refused(e.args[0]):
                raise

    with ThreadPoolExecutor(_ENDING_AT_ONCE) as pool:
        list(pool.map(end, range(max(slots, most_slots))))


class SlotProducer:
    """One producer: a bundle's records of one slot, and the offsets behind them.

    Every method may raise Undeliverable or KafkaException; the bundle fails then.
    """

    def __init__(self, spec: WriteSpec, slot: int) -> None:
        """Connect; with transactions, those that another producer of the slot left open end."""
        self._spec = spec
        self.users: set[int] = set()
        self.is_closed = False
        self._failed: list[str] = []
        self._offsets: dict[int, int] = {}
        self._is_open = False
        self._is_lost = False
        self._consumer = spec.connection.consumer(spec.group)
        self._producer = spec.connection.producer(
            spec.transactional_id(slot) if spec.exactly_once else None
        )
        if spec.exactly_once:
            until_done(self._producer.init_transactions, TIMEOUT_SECONDS)
        self._held: HeldRows | None = None
        if spec.table is not None:
            brokers = spec.connection.brokers
            holding = holding_of(brokers, spec.group, spec.source_topic, slot)
            self._held = HeldRows(spec.table, slot, holding)

    @property
    def is_usable(self) -> bool:
        """Whether nothing of a bundle that failed is left in it."""
        return not (self._is_open or self._is_lost)

    def begin(self) -> None:
        """Begin a bundle, if none is open."""
        if self._spec.exactly_once and not self._is_open:
            self._producer.begin_transaction()
        self._is_open = True

    def send(self, keys: Sequence[bytes | None], values: Sequence[bytes]) -> None:
        """Hand scores to the producer; waits while its queue is full."""
        messages: list[dict[str, Any]] = [
            {"key": key, "value": value} for key, value in zip(keys, values, strict=True)
        ]
        while messages:
            queued = self._producer.produce_batch(
                self._spec.topic, messages, on_delivery=self._report
            )
            if queued == len(messages):
                break
            errors = [m.pop("_error", None) for m in messages]
            left = [m for m, error in zip(messages, errors, strict=True) if error is not None]
            for error in errors:
                if error is not None and error.code() != KafkaError._QUEUE_FULL:
                    raise Undeliverable(f"topic {self._spec.topic}: {error.str()}")
            messages = left
            self._producer.poll(0.05)
        self._producer.poll(0)

    def send_letter(self, key: bytes | None, value: bytes | None, why: Mapping[str, str]) -> None:
        """Hand a record that could not be scored to the producer, as it came, with the reason."""
        headers: dict[str, str | bytes | None] = {**why}
        while True:
            try:
                self._producer.produce(
                    self._spec.dead_letter_topic,
                    key=key,
                    value=value,
                    headers=headers,
                    on_delivery=self._report,
                )
                return
            except BufferError:
                self._producer.poll(0.05)

    def hold(self, rows: pa.RecordBatch) -> None:
        """Keep rows for the table until the next file is due."""
        if self._held is not None:
            self._held.add(rows)

    def write_due(self) -> int:
        """Write what waits for the table, if it is time, and have its offsets committed.

        Returns how many bytes were written.
        """
        if self._held is None or not self._held.is_due:
            return 0
        return self._held.write(self._commit_offsets)

    def observe(self, batch: pa.RecordBatch) -> None:
        """Take note of where the records of a batch are from."""
        for partition, offset in largest_by_partition(batch, OFFSET).items():
            self._offsets[partition] = max(offset + 1, self._offsets.get(partition, 0))

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and len(self._failed) < 3:
            self._failed.append(f"topic {message.topic()}: {error.str()}")

    def finish(self) -> None:
        """Wait until all records are delivered, and have their offsets committed.

        Offsets of rows that wait for the table are committed with them.
        """
        if not self._is_open:
            return
        offsets, self._offsets = self._offsets, {}
        left = self._flush()
        if left or self._failed:
            # Who does not answer now would not answer an abort either.
            self._is_lost = bool(left)
            raise Undeliverable(self._describe(left))
        if self._spec.exactly_once:
            self._commit_transaction(offsets)
        elif self._held is not None:
            self._held.end_bundle(offsets)
        else:
            self._commit_offsets(offsets)
        self._is_open = False

    def _commit_offsets(self, offsets: Mapping[int, int]) -> None:
        try:
            reach("delivered")
            commit(self._consumer, self._spec.source_topic, offsets)
        except KafkaException as e:
            if not is_passing(e.args[0]):
                raise Undeliverable(
                    f"Offsets of group {self._spec.group} are not taken: {e.args[0].str()}. "
                    "Is another consumer in this group, or was the right to it taken away?"
                ) from e
            # The records are delivered; the next commit tells of them too.
            _LOG.warning("Offsets of group %s not committed: %s", self._spec.group, e)

    def _flush(self) -> int:
        """Wait until Kafka has taken all records, however slowly; return how many it has not.

        A transactional producer may get stuck for good when a broker comes back: when nothing is
        taken for a while it is given up; a job that is restarted goes on with another one.
        """
        patience = _STALLED_SECONDS if self._spec.exactly_once else _DELIVERY_SECONDS
        left, deadline = len(self._producer), time.monotonic() + patience
        while waiting := self._producer.flush(1.0):
            if waiting < left:
                left, deadline = waiting, time.monotonic() + patience
            elif time.monotonic() > deadline:
                break
        return waiting

    def _describe(self, left: int) -> str:
        told = "; ".join(dict.fromkeys(self._failed)) or f"{left} records not acknowledged in time"
        self._failed = []
        return f"Kafka did not take all records: {told}. They are read and scored again"

    def _commit_transaction(self, offsets: Mapping[int, int]) -> None:
        def commit_all() -> None:
            until_done(
                self._producer.send_offsets_to_transaction,
                to_positions(self._spec.source_topic, offsets),
                self._consumer.consumer_group_metadata(),
                _COMMIT_SECONDS,
                seconds=_COMMIT_SECONDS,
            )
            until_done(
                self._producer.commit_transaction,
                _COMMIT_SECONDS,
                seconds=_COMMIT_SECONDS,
            )

        try:
            _within(_COMMIT_SECONDS, commit_all)
        except (KafkaException, TimeoutError) as e:
            self._is_lost = True
            raise Undeliverable(f"{self._describe(0)}: {e}") from e

    def close(self) -> None:
        """Give up what is not finished: without its offsets it is read again."""
        self.is_closed = True
        if self._held is not None:
            self._give_up_held(self._held)
        if self._is_lost:  # its calls may hang; the broker ends the transaction in time
            return
        if self._is_open and self._spec.exactly_once:
            try:
                _within(_COMMIT_SECONDS, lambda: self._producer.abort_transaction(_COMMIT_SECONDS))
            except (KafkaException, TimeoutError) as e:
                _LOG.warning("Transaction not aborted: %s; the broker does it in time", e)
                return
        self._producer.purge()
        self._producer.flush(1)
        self._consumer.close()

    def _give_up_held(self, held: HeldRows) -> None:
        if self.is_usable:
            try:
                held.write(self._commit_offsets)
            except (AppendConflict, DeltaError, OSError, pa.ArrowException) as e:
                _LOG.warning("Rows not appended to the table: %s; they are read again", e)
        held.give_up()


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Call in a thread, and raise TimeoutError when it takes longer.

    librdkafka's send_offsets_to_transaction does not keep to its own timeout: while the broker that
    coordinates the group is away, and sometimes after, it hangs (librdkafka issue 5456).
    """
    failed: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as e:  # noqa: BLE001  raised again below
            failed.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"the transaction was not ended within {seconds:.0f} s")
    if failed:
        raise failed[0]


# The runner spreads the bundles of one slot, which follow each other, over several instances of the
# step. They share the slot's producer: a second one with the same transactional id would end it.
_shared: dict[tuple[WriteSpec, int], SlotProducer] = {}
_shared_lock = threading.Lock()


def acquire(spec: WriteSpec, number: int, user: object) -> SlotProducer:
    """Return this process's producer of a slot."""
    with _shared_lock:
        slot = _get(spec, number)
        slot.users.add(id(user))
        return slot


def _get(spec: WriteSpec, number: int) -> SlotProducer:
    slot = _shared.get((spec, number))
    if slot is None:
        slot = _shared[spec, number] = SlotProducer(spec, number)
    return slot


def take_over(spec: WriteSpec, number: int) -> None:
    """Make this process the one whose transactions of a slot count; those of others end.

    Once a slot has a producer here, none of before can move the group's offsets any more.

    Raises:
      KafkaException: a broker does not answer, or does not allow it.
    """
    with _shared_lock:
        _get(spec, number)


def release(
    spec: WriteSpec, number: int, slot: SlotProducer, user: object, *, is_open: bool
) -> None:
    """Close a slot's producer when nobody else uses it, or when the user's bundle of it failed.

    Args:
      spec: how it writes.
      number: the slot.
      slot: its producer.
      user: who used it.
      is_open: whether the user left a bundle of the slot open. One that another user has open is
        let be.
    """
    with _shared_lock:
        slot.users.discard(id(user))
        if slot.is_closed or (slot.users and not is_open):
            return
        if _shared.get((spec, number)) is slot:
            del _shared[spec, number]
        # Nobody begins a new one before what this one holds is written or given up.
        slot.close()


def slots_of(spec: WriteSpec) -> list[SlotProducer]:
    """Return all producers of this process that write so."""
    with _shared_lock:
        return [slot for (other, _), slot in _shared.items() if other == spec]
