"""The producer of one slot: sends the results of records, and commits their offsets with them.

Bundles of a slot are sequential. A runner may spread them over several instances of a step, and all
instances in a process share one producer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from confluent_kafka import KafkaException, Producer
from deltalake.exceptions import DeltaError

from scoreline.lake.kill_points import reach
from scoreline.transforms import stage_times
from scoreline.transforms.kafka.append import AppendConflict, TableSpec
from scoreline.transforms.kafka.avro import AvroSpec
from scoreline.transforms.kafka.client import (
    DELIVERY_MS,
    TIMEOUT_SECONDS,
    Connection,
    is_passing,
    is_refused,
    to_positions,
    until_done,
)
from scoreline.transforms.kafka.ending import StreamRefused
from scoreline.transforms.kafka.group import commit, note_of
from scoreline.transforms.kafka.held_rows import HeldRows
from scoreline.transforms.kafka.holding import holding_of
from scoreline.transforms.kafka.letters import Letter
from scoreline.transforms.kafka.outbox import Outbox, Transaction
from scoreline.transforms.kafka.records import OFFSET, largest_by_partition
from scoreline.transforms.kafka.refusals import NotAcknowledged, Undeliverable, to_commit_error

_LOG = logging.getLogger(__name__)
# librdkafka gives up on a record earlier (after DELIVERY_MS), and reports it.
_DELIVERY_SECONDS = DELIVERY_MS / 1000 + 30
# A transaction without any delivery for this time is given up; its records are read again.
_STALLED_SECONDS = 30.0
# A commit that takes longer after all deliveries is given up; its records are read again.
_COMMIT_SECONDS = 10.0
_ENDING_AT_ONCE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriteSpec:
    """Destinations of scores and dead letters, and the delivery guarantee.

    Attributes:
      connection: the connection to Kafka.
      topic: topic of scores; "" if they go to a table only.
      dead_letter_topic: topic of records that cannot be scored; "" if they fail the job.
      source_topic: topic of the source records.
      group: consumer group whose offsets on the source topic are committed.
      source_topic_id: the id of the source topic; "" if it is unknown.
      sends_nothing: whether scores are left out, though their offsets are committed.
      exactly_once: whether each bundle is one transaction that includes its offsets.
      table: the table to which scores are appended, or None. Offsets are committed after topic and
        table have the results of their records.
      avro: the schema of values in the topic; None for JSON.
    """

    connection: Connection
    topic: str
    dead_letter_topic: str
    source_topic: str
    group: str
    exactly_once: bool = False
    table: TableSpec | None = None
    avro: AvroSpec | None = None
    source_topic_id: str = ""
    sends_nothing: bool = False

    def transactional_id(self, slot: int) -> str:
        """Return the id of a slot's transactions. A restart reuses it, which ends the old ones."""
        return f"scoreline-{self.group}-{self.source_topic}-{slot}"


def end_old_transactions(spec: WriteSpec, slots: int, max_slots: int) -> None:
    """Abort open transactions of a killed job, so that the group's offsets can be read.

    Args:
      spec: the destinations of the killed job.
      slots: number of slots of the new job.
      max_slots: maximum number of slots of the killed job: the number of partitions. This user may
        lack the right to end transactions beyond `slots`; then it has started none either.

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
        list(pool.map(end, range(max(slots, max_slots))))


class SlotProducer:
    """Delivers the records of a slot's bundles, and commits the offsets after them.

    Every method may raise Undeliverable or KafkaException. Then the bundle fails.
    """

    def __init__(self, spec: WriteSpec, slot: int) -> None:
        """Connect. This aborts open transactions of an earlier producer of the slot."""
        self._spec = spec
        self.users: set[int] = set()
        self.is_closed = False
        self._offsets: dict[int, int] = {}
        self._is_open = False
        self._in_transaction = False
        self._is_lost = False
        self._consumer = spec.connection.consumer(spec.group)
        self._transactional_id = spec.transactional_id(slot) if spec.exactly_once else None
        self._producer = spec.connection.producer(self._transactional_id)
        if spec.exactly_once:
            until_done(self._producer.init_transactions, TIMEOUT_SECONDS)
        self._outbox = Outbox(
            self._producer,
            spec.topic,
            spec.dead_letter_topic,
            spec.source_topic,
            self._flush,
            Transaction(self._abort, self._begin_transaction) if spec.exactly_once else None,
        )
        self._held: HeldRows | None = None
        if spec.table is not None:
            brokers = spec.connection.brokers
            holding = holding_of(brokers, spec.group, spec.source_topic, slot)
            self._held = HeldRows(spec.table, slot, holding)

    @property
    def is_usable(self) -> bool:
        """Whether it holds no records of a failed bundle."""
        return not (self._is_open or self._is_lost)

    def begin(self) -> None:
        """Start a bundle, if none is open."""
        if self._spec.exactly_once and not self._is_open:
            self._begin_transaction()
        self._is_open = True

    def _begin_transaction(self) -> None:
        self._producer.begin_transaction()
        self._in_transaction = True

    def send(self, rows: pa.RecordBatch, values: list[bytes]) -> None:
        """Pass scores to the producer; see `Outbox.add_scores`."""
        with self._noting_loss():
            self._outbox.add_scores(rows, values)

    def send_letters(self, letters: Sequence[Letter]) -> None:
        """Pass records without a score to the producer; see `Outbox.add_letters`."""
        self._outbox.add_letters(letters)

    def hold(self, rows: pa.RecordBatch) -> None:
        """Keep rows for the table until the next file is due."""
        if self._held is not None:
            self._held.add(rows)

    def write_due(self) -> int:
        """If the next file is due, append waiting rows to the table and commit their offsets.

        Returns the number of bytes written.
        """
        if self._held is None or not self._held.is_due:
            return 0
        return self._held.write(self._commit_offsets)

    def observe(self, batch: pa.RecordBatch) -> None:
        """Record the offsets of a batch."""
        for partition, offset in largest_by_partition(batch, OFFSET).items():
            self._offsets[partition] = max(offset + 1, self._offsets.get(partition, 0))

    def finish(self) -> int:
        """Wait until all records are delivered, then commit their offsets.

        Offsets of rows that wait for the table are committed with those rows. Returns the number of
        records whose scores Kafka refused; they are dead letters now.
        """
        if not self._is_open:
            return 0
        offsets, self._offsets = self._offsets, {}
        with self._noting_loss():
            refused = self._outbox.settle()
        if self._spec.exactly_once:
            with stage_times.marked("commit"):
                self._commit_transaction(offsets)
        elif self._held is not None:
            self._held.drop(refused)
            self._held.end_bundle(offsets)
        else:
            self._commit_offsets(offsets)
        self._is_open = False
        return len(refused)

    @contextlib.contextmanager
    def _noting_loss(self) -> Iterator[None]:
        """Give the producer up if Kafka does not acknowledge its records."""
        try:
            yield
        except NotAcknowledged:
            self._is_lost = True  # a broker that ignores the flush would ignore an abort too
            raise

    def _commit_offsets(self, offsets: Mapping[int, int]) -> None:
        try:
            reach("delivered")
            spec = self._spec
            with stage_times.marked("commit"):
                commit(self._consumer, spec.source_topic, offsets, spec.source_topic_id)
        except KafkaException as e:
            if not is_passing(e.args[0]):
                raise to_commit_error(self._spec.group, e.args[0]) from e
            # The records are delivered, and the next commit includes their offsets.
            _LOG.warning("Offsets of group %s not committed: %s", self._spec.group, e)

    def _flush(self, patience: float | None = None) -> int:
        """Wait while Kafka makes progress on deliveries; return the number of undelivered records.

        A transactional producer may hang for ever after a broker's restart. Therefore it is given
        up if no record is delivered for a while. A restarted job continues with a new producer.
        """
        if patience is None:
            patience = _STALLED_SECONDS if self._spec.exactly_once else _DELIVERY_SECONDS
        left, deadline = len(self._producer), time.monotonic() + patience
        while waiting := self._producer.flush(1.0):
            if waiting < left:
                left, deadline = waiting, time.monotonic() + patience
            elif time.monotonic() > deadline:
                break
        return waiting

    def _abort(self, hangs: bool) -> Producer:
        """End the open transaction without effect, and return the producer of the next one.

        After a refused record, librdkafka's transactional producer may hang in a later transaction.
        Then a new one takes its id, which also ends the transaction.
        """
        try:
            if hangs:
                self._producer.purge()
                self._producer = self._spec.connection.producer(self._transactional_id)
                until_done(self._producer.init_transactions, TIMEOUT_SECONDS)
            else:
                abort = self._producer.abort_transaction
                _within(_COMMIT_SECONDS, lambda: abort(_COMMIT_SECONDS))
        except (KafkaException, TimeoutError) as e:
            self._is_lost = True
            raise Undeliverable(f"A transaction with refused records did not end: {e}") from e
        self._in_transaction = False
        return self._producer

    def _commit_transaction(self, offsets: Mapping[int, int]) -> None:
        def commit_all() -> None:
            until_done(
                self._producer.send_offsets_to_transaction,
                to_positions(self._spec.source_topic, offsets, note_of(self._spec.source_topic_id)),
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
            if isinstance(e, KafkaException) and is_refused(e.args[0]):
                raise to_commit_error(self._spec.group, e.args[0]) from e
            raise Undeliverable(
                f"Kafka did not commit a transaction: {e}. Its records are read and scored again"
            ) from e

    def close(self) -> None:
        """Give up unfinished records; without committed offsets they are read again."""
        self.is_closed = True
        if self._held is not None:
            self._give_up_held(self._held)
        if self._is_lost:  # its calls may hang; the broker aborts the transaction at its timeout
            return
        if self._is_open and self._in_transaction:
            try:
                _within(_COMMIT_SECONDS, lambda: self._producer.abort_transaction(_COMMIT_SECONDS))
            except (KafkaException, TimeoutError) as e:
                _LOG.warning("Transaction not aborted: %s; the broker aborts it later", e)
                return
        self._producer.purge()
        self._producer.flush(1)
        self._consumer.close()

    def _give_up_held(self, held: HeldRows) -> None:
        if self.is_usable:
            try:
                held.write(self._commit_offsets)
            except (AppendConflict, StreamRefused, DeltaError, OSError, pa.ArrowException) as e:
                _LOG.warning("Rows not appended to the table: %s; they are read again", e)
        held.give_up()


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Call in a thread, and raise TimeoutError if it takes longer.

    librdkafka's send_offsets_to_transaction ignores its own timeout. It hangs while the broker that
    coordinates the group is down, and sometimes afterwards (librdkafka issue 5456).
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
        raise TimeoutError(f"expected the end of the transaction in {seconds:.0f} s")
    if failed:
        raise failed[0]


# The runner spreads the sequential bundles of a slot over several instances of the step. They share
# the slot's producer, because a second one with the same transactional id would fence it.
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
    """Make this process the owner of a slot's transactions, and end those of others.

    After that, no earlier producer of the slot can commit offsets of the group.

    Raises:
      KafkaException: a broker does not answer, or does not allow it.
    """
    with _shared_lock:
        _get(spec, number)


def release(
    spec: WriteSpec, number: int, slot: SlotProducer, user: object, *, is_open: bool
) -> None:
    """Close a slot's producer if it has no other user, or if the user's bundle has failed.

    Args:
      spec: the destinations.
      number: the slot.
      slot: its producer.
      user: the instance that used it.
      is_open: whether this user left a bundle open. A bundle of another user is not touched.
    """
    with _shared_lock:
        slot.users.discard(id(user))
        if slot.is_closed or (slot.users and not is_open):
            return
        if _shared.get((spec, number)) is slot:
            del _shared[spec, number]
        # The lock prevents a new producer until the rows of this one are written or given up.
        slot.close()


def slots_of(spec: WriteSpec) -> list[SlotProducer]:
    """Return all producers of this process with these destinations."""
    with _shared_lock:
        return [slot for (other, _), slot in _shared.items() if other == spec]
