"""Passes scores and dead letters to a producer, and collects the errors of their delivery."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException

from scoreline.transforms.kafka.letters import Letter
from scoreline.transforms.kafka.refusals import to_error

UNLIMITED = 1 << 62


class Score(Protocol):
    """An encoded score."""

    @property
    def key(self) -> bytes | None:
        """The key of its record."""

    @property
    def value(self) -> bytes:
        """The encoded value, which no other score has."""


class Failed(NamedTuple):
    """The errors of a delivery: of scores by their value, and of letters by their number."""

    scores: dict[bytes, KafkaError]
    letters: dict[int, KafkaError]

    @property
    def errors(self) -> list[KafkaError]:
        """All of them."""
        return [*self.scores.values(), *self.letters.values()]


class Sender:
    """Sends the records of one bundle after the other.

    Attributes:
      producer: the client.
      part_bytes: maximum size of scores that are sent together.
    """

    def __init__(
        self,
        producer: Any,
        topic: str,
        letter_topic: str,
        flush: Callable[[float | None], int],
    ) -> None:
        """Set the topics; see `Outbox`."""
        self.producer, self.part_bytes = producer, UNLIMITED
        self._topic, self._letter_topic, self._flush = topic, letter_topic, flush
        self._failed = Failed({}, {})

    def deliver(
        self, scores: Sequence[Score], letters: Sequence[Letter], patience: float | None = None
    ) -> Failed:
        """Send records, wait for Kafka, and return the errors; see `wait`."""
        self.send_scores([score.key for score in scores], [score.value for score in scores])
        for number, letter in enumerate(letters):
            self.send_letter(number, letter)
        return self.wait(patience)

    def wait(self, patience: float | None = None) -> Failed:
        """Wait until Kafka has answered for all records, and return the errors.

        Raises:
          NotAcknowledged: it did not answer.
        """
        left = self._flush(patience)
        failed, self._failed = self._failed, Failed({}, {})
        if left:
            raise self._to_error(failed, left)
        return failed

    def require(self, failed: Failed) -> None:
        """Raise Undeliverable or StreamRefused unless all was delivered."""
        if failed.errors:
            raise self._to_error(failed)

    def _to_error(self, failed: Failed, left: int = 0) -> RuntimeError:
        scores, letters = failed.scores.values(), failed.letters.values()
        if self._topic == self._letter_topic:
            return to_error({self._topic: [*scores, *letters]}, left)
        return to_error({self._topic: scores, self._letter_topic: letters}, left)

    def send_scores(self, keys: Sequence[bytes | None], values: Sequence[bytes]) -> None:
        """Pass scores to the producer; wait while its queue is full."""
        if self.part_bytes == UNLIMITED:
            self._send_part(keys, values)
            return
        start = size = 0
        for stop, value in enumerate(values):
            if size and size + len(value) > self.part_bytes:
                self._send_part(keys[start:stop], values[start:stop])
                self._flush(None)  # a part is a batch of its own
                start, size = stop, 0
            size += len(value)
        self._send_part(keys[start:], values[start:])

    def _send_part(self, keys: Sequence[bytes | None], values: Sequence[bytes]) -> None:
        messages: list[dict[str, Any]] = [
            {"key": key, "value": value} for key, value in zip(keys, values, strict=True)
        ]
        while messages:
            queued = self.producer.produce_batch(self._topic, messages, on_delivery=self._report)
            if queued == len(messages):
                break
            again = []
            for message in messages:
                error = message.pop("_error", None)
                if error is None:
                    continue
                if error.code() == KafkaError._QUEUE_FULL:
                    again.append(message)
                else:
                    self._failed.scores[message["value"]] = error
            messages = again
            self.producer.poll(0.05)
        self.producer.poll(0)

    def send_letter(self, number: int, letter: Letter) -> None:
        """Pass a dead letter to the producer; its number identifies it in `Failed`."""
        time = {} if letter.time_ms is None else {"timestamp": letter.time_ms}
        while True:
            try:
                self.producer.produce(
                    self._letter_topic,
                    key=letter.key,
                    value=letter.value,
                    headers=list(letter.headers),
                    on_delivery=functools.partial(self._report_letter, number),
                    **time,
                )
                return
            except BufferError:
                self.producer.poll(0.05)
            except KafkaException as e:
                self._failed.letters[number] = e.args[0]  # larger than the client's own limit
                return

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failed.scores[message.value()] = error

    def _report_letter(self, number: int, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failed.letters[number] = error
