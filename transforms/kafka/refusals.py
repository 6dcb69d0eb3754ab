"""Which errors of Kafka a record can cause, and how they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError

# All other errors are faults of brokers, topics or rights.
_REFUSALS: Mapping[int, str] = {
    KafkaError.MSG_SIZE_TOO_LARGE: "it is larger than the topic's max.message.bytes",
    KafkaError.RECORD_LIST_TOO_LARGE: "it is larger than the topic's segment.bytes",
    KafkaError.INVALID_RECORD: "the broker found it invalid",
    KafkaError._INVALID_DIFFERENT_RECORD: "another record of its batch is invalid",
    KafkaError.INVALID_TIMESTAMP: "its time is outside of the topic's message.timestamp limits",
}
_NO_KEY = "the broker found it invalid, and it has no key, which a compacted topic requires"


class Undeliverable(RuntimeError):
    """Kafka did not accept records, or there is no topic for them. The message has the reason."""


class NotAcknowledged(Undeliverable):
    """Kafka did not acknowledge records in time."""


def is_refusal(error: KafkaError) -> bool:
    """Return whether a record can be the cause of an error."""
    return error.code() in _REFUSALS


def explain(topic: str, key: bytes | None, error: KafkaError) -> str:
    """Return why a topic refuses a score; equal for all scores with the same fault."""
    is_keyless = key is None and error.code() == KafkaError.INVALID_RECORD
    why = _NO_KEY if is_keyless else _REFUSALS[error.code()]
    return f"topic {topic} refuses the score: {why} ({error.name()})"


def describe_failure(reasons: Sequence[str]) -> str:
    """Return the message of an Undeliverable."""
    why = "; ".join(list(dict.fromkeys(reasons))[:3])
    return f"Kafka did not accept all records: {why}. They are read and scored again"
