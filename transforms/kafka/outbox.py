"""The records of an open bundle on their way to Kafka, and what becomes of those it refuses.

A broker that refuses one record refuses the whole batch of its producer. So the records of a
refused batch are sent again, in ever smaller parts, until those that are refused alone are known.
They become dead letters, and all others are delivered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from confluent_kafka import KafkaError

from scoreline.lake.elements import DeadRows
from scoreline.lake.table.letters import to_dead_letters
from scoreline.models.fit import DIGEST_COLUMN
from scoreline.transforms.isolate import EveryRowFails, isolate
from scoreline.transforms.kafka.ending import StreamRefused
from scoreline.transforms.kafka.letters import Letter, to_letters
from scoreline.transforms.kafka.records import KEY
from scoreline.transforms.kafka.refusals import (
    NotAcknowledged,
    Undeliverable,
    explain,
    find_named,
    is_refusal,
    to_error,
)
from scoreline.transforms.kafka.sender import UNLIMITED, Failed, Sender

# Rows of scores are kept until Kafka has taken them. Beyond this size, Kafka must do so at once.
_MAX_BYTES = 64 << 20
# After a refused record, also the next transaction may fail, once, for a reason of its own.
_ATTEMPTS = 5
_QUICK_SECONDS = 5.0
_LOG = logging.getLogger(__name__)


class _Refused(ValueError):
    """Kafka refused at least one of some records."""


class _Scores(NamedTuple):
    """Scored rows of a batch, with the columns of their raw records, and their encoded values."""

    rows: pa.RecordBatch
    keys: list[bytes | None]
    values: list[bytes]


class _Score(NamedTuple):
    """A single score, by its place in the outbox."""

    group: int
    row: int
    key: bytes | None
    value: bytes

    @property
    def cost(self) -> tuple[bool, int]:
        """The order of probing: suspicious records last, so that they are in few parts."""
        return self.key is None, len(self.value)


class Transaction(NamedTuple):
    """How to end the open transaction without effect, and how to begin the next one.

    Attributes:
      abort: takes whether the producer hangs, and returns the producer of the next transaction.
      begin: begins it.
    """

    abort: Callable[[bool], Any]
    begin: Callable[[], None]


class Outbox:
    """The scores and dead letters of a slot's open bundle.

    Every method may raise Undeliverable or StreamRefused.
    """

    def __init__(
        self,
        producer: Any,
        topic: str,
        letter_topic: str,
        source_topic: str,
        flush: Callable[[float | None], int],
        transaction: Transaction | None,
    ) -> None:
        """Set the topics.

        Args:
          producer: the client.
          topic: topic of scores.
          letter_topic: topic of dead letters; "" for none.
          source_topic: topic of the source records.
          flush: waits for deliveries, and returns the number of records that are not acknowledged;
            takes the seconds to wait without any progress, None for the usual ones.
          transaction: the transaction of each bundle; None for none.
        """
        self._sender = Sender(producer, topic, letter_topic, flush)
        self._topic, self._letter_topic, self._source_topic = topic, letter_topic, source_topic
        self._transaction = transaction
        self._has_delivered = False
        self.clear()

    def clear(self) -> None:
        """Forget all records, at the end of a bundle or when they are given up."""
        self._scores: list[_Scores] = []
        self._letters: list[Letter] = []
        self._bytes = 0
        self._refused: set[tuple[int, int]] = set()

    def add_scores(self, rows: pa.RecordBatch, values: list[bytes]) -> None:
        """Pass scores to the producer; wait while its queue is full.

        Args:
          rows: the scored rows, with the columns of their raw records.
          values: the encoded value of each row.
        """
        keys = rows.column(KEY).to_pylist()
        self._scores.append(_Scores(rows, keys, values))
        self._bytes += rows.nbytes
        self._sender.send_scores(keys, values)
        if self._bytes > _MAX_BYTES and self._transaction is None:
            self._settle()

    def add_letters(self, letters: Sequence[Letter]) -> None:
        """Pass dead letters to the producer; wait while its queue is full."""
        if letters and not self._letter_topic:
            first = letters[0]
            raise Undeliverable(
                f"Cannot score the record at {self._place(first)}: {first.reason}. "
                "Set a topic for such records with --dead_letter_topic"
            )
        for letter in letters:
            self._letters.append(letter)
            self._sender.send_letter(len(self._letters) - 1, letter)

    def settle(self) -> set[tuple[int, int]]:
        """Wait until Kafka has all records, and replace refused scores by dead letters.

        Returns the partition and offset of records whose scores were refused. A transaction is
        left open, with all records in it.
        """
        self._settle()
        refused = self._refused
        self.clear()
        return refused

    def _settle(self) -> None:
        failed = self._sender.wait()
        if failed.errors:
            if self._transaction is None:
                self._check_refusals(failed, all)
                self._settle_one_by_one(failed)
            else:
                self._check_refusals(failed, any)
                self._settle_transaction(self._transaction, failed.scores)
        self._has_delivered |= any(group.values for group in self._scores)
        self._scores, self._letters, self._bytes = [], [], 0

    def _settle_one_by_one(self, failed: Failed) -> None:
        """Deliver what was refused, without transactions."""
        refused_letters = [self._letters[number] for number in failed.letters]
        if failed.scores:
            pending = [score for score in self._each() if score.value in failed.scores]
            has_others = self._has_delivered or any(
                value not in failed.scores for group in self._scores for value in group.values
            )
            done: set[bytes] = set()

            def send(scores: Sequence[_Score]) -> dict[bytes, KafkaError]:
                left = [score for score in scores if score.value not in done]
                errors = self._sender.deliver(left, ()).scores
                done.update(score.value for score in left if score.value not in errors)
                return errors

            dead = self._find_refused(pending, send, has_others=has_others)
            # Later scores of a key were delivered before: send them again, in their order.
            first = pending[0]
            again = [s for s in self._each() if s[:2] >= first[:2] and s not in dead]
            while failed.scores:
                failed = self._sender.deliver(again, ())
                again = [score for score in again if score.value in failed.scores]
                self._check_refusals(failed, all)
                self._send_smaller_parts(failed, again)
            letters = self._to_letters(dead)
        else:
            letters = []
        todo = refused_letters + letters
        while todo:
            errors = self._sender.deliver((), todo).letters
            todo = [self._shorten(todo[number], error) for number, error in errors.items()]

    def _settle_transaction(
        self, transaction: Transaction, refused: dict[bytes, KafkaError]
    ) -> None:
        """Deliver all records of the bundle in a new transaction, without the refused ones."""
        self._sender.producer = transaction.abort(False)

        def send(scores: Sequence[_Score]) -> dict[bytes, KafkaError]:
            failed = self._attempt(transaction, scores, ())
            if not failed.errors:
                self._sender.producer = transaction.abort(False)  # it was only a test
            return {v: e for v, e in failed.scores.items() if is_refusal(e)}

        dead: dict[_Score, str] = {}
        scores = list(self._each())
        for _ in range(_ATTEMPTS):  # each may name some of the bad records
            named = find_named(refused)
            dead |= {
                s: explain(self._topic, s.key, named[s.value]) for s in scores if s.value in named
            }
            scores = [score for score in scores if score.value not in named]
            refused = send(scores) if scores else {}
            if not named:
                break
        if refused:
            dead |= self._find_refused(scores, send, has_others=self._has_delivered)
        good = [score for score in self._each() if score not in dead]
        letters = [*self._letters, *self._to_letters(dead)]
        while (failed := self._attempt(transaction, good, letters)).errors:
            for number, error in failed.letters.items():
                if is_refusal(error):
                    letters[number] = self._shorten(letters[number], error)
            self._send_smaller_parts(failed, good)

    def _attempt(
        self, transaction: Transaction, scores: Sequence[_Score], letters: Sequence[Letter]
    ) -> Failed:
        """Send records in a new transaction, which stays open if Kafka takes all of them.

        Otherwise at least one record is refused.
        """
        for _ in range(_ATTEMPTS):
            transaction.begin()
            try:
                failed = self._sender.deliver(scores, letters, _QUICK_SECONDS)
            except NotAcknowledged:
                self._sender.producer = transaction.abort(True)
                continue
            if not failed.errors:
                return failed
            self._sender.producer = transaction.abort(False)
            if any(is_refusal(error) for error in failed.errors):
                return failed
        self._sender.require(failed)
        raise to_error({}, len(scores) + len(letters))

    def _send_smaller_parts(self, failed: Failed, scores: Sequence[_Score]) -> None:
        """Halve the size of parts that are sent together, if scores are refused only together.

        The producer makes batches of up to 1 MB. A topic may take less.
        """
        if not any(is_refusal(error) for error in failed.scores.values()):
            return
        if self._sender.part_bytes <= 1:
            self._sender.require(failed)
        if self._sender.part_bytes == UNLIMITED:
            self._sender.part_bytes = sum(len(score.value) for score in scores)
            _LOG.warning(
                "Topic %s refuses batches of scores that it takes in smaller ones, so they are "
                "sent in small parts, which is slow. Set batch.size in --kafka_config to the "
                "topic's max.message.bytes",
                self._topic,
            )
        self._sender.part_bytes //= 2

    def _find_refused(
        self,
        pending: Sequence[_Score],
        send: Callable[[Sequence[_Score]], dict[bytes, KafkaError]],
        *,
        has_others: bool,
    ) -> dict[_Score, str]:
        """Return the scores that Kafka refuses alone, with the reasons.

        Raises:
          StreamRefused: it refuses all, and has never taken another: the topic is the reason.
        """
        ordered = sorted(pending, key=lambda score: score.cost)

        def call(start: int, stop: int) -> None:
            errors = send(ordered[start:stop])
            if errors:
                score = next(s for s in ordered[start:stop] if s.value in errors)
                raise _Refused(explain(self._topic, score.key, errors[score.value]))

        try:
            dead = isolate(call, len(ordered), str, _Refused(), errors=(_Refused,)).dead
        except EveryRowFails as e:
            reason = str(e).partition(": ")[2]
            if not has_others:
                raise StreamRefused(
                    f"Kafka takes none of {len(ordered)} scores: {reason}. Change the topic's "
                    "settings, or take another --output_topic. No offset was committed"
                ) from e
            dead = dict.fromkeys(range(len(ordered)), reason)
        return {ordered[row]: reason for row, reason in dead.items()}

    def _shorten(self, letter: Letter, error: KafkaError) -> Letter:
        """Return a refused letter without what may be the cause."""
        if is_refusal(error):
            if error.code() == KafkaError.INVALID_TIMESTAMP and letter.time_ms is not None:
                return letter.without_time()
            if letter.value is not None:
                return letter.without_value()
        raise StreamRefused(
            f"Cannot deliver the dead letter of the record at {self._place(letter)}: topic "
            f"{self._letter_topic}: {error.str()}. The reason of the letter: {letter.reason}. "
            "Use a --dead_letter_topic without compaction, whose max.message.bytes is larger than "
            "that of the source"
        )

    def _to_letters(self, dead: Mapping[_Score, str]) -> list[Letter]:
        """Return refused scores as dead letters of their raw records."""
        by_group: dict[int, dict[int, str]] = {}
        for score, reason in dead.items():
            by_group.setdefault(score.group, {})[score.row] = reason
        letters = []
        for number, reasons in sorted(by_group.items()):
            rows = self._scores[number].rows
            digest = rows.column(DIGEST_COLUMN)[0].as_py()
            places = sorted(reasons)
            dead_rows = DeadRows(places, [reasons[row] for row in places], "Send")
            letters += to_letters(to_dead_letters(rows, dead_rows, digest), self._source_topic)
        if letters and not self._letter_topic:
            self.add_letters(letters)  # raises
        self._refused.update((letter.partition, letter.offset) for letter in letters)
        return letters

    def _each(self) -> Iterator[_Score]:
        for number, group in enumerate(self._scores):
            for row, (key, value) in enumerate(zip(group.keys, group.values, strict=True)):
                yield _Score(number, row, key, value)

    def _check_refusals(self, failed: Failed, enough: Callable[[Iterator[bool]], bool]) -> None:
        if not enough(is_refusal(error) for error in failed.errors):
            self._sender.require(failed)

    def _place(self, letter: Letter) -> str:
        return (
            f"offset {letter.offset} of partition {letter.partition} of topic {self._source_topic}"
        )
