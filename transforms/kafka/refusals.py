"""Which errors of Kafka a record can cause, and how they are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaError

from scoreline.transforms.kafka.client import is_refused
from scoreline.transforms.kafka.ending import StreamRefused

# All other errors are faults of brokers, topics or rights.
_REFUSALS: Mapping[int, str] = {
    KafkaError.MSG_SIZE_TOO_LARGE: "it is larger than the topic's max.message.bytes",
    KafkaError.RECORD_LIST_TOO_LARGE: "it is larger than the topic's segment.bytes",
    KafkaError.INVALID_RECORD: "the broker found it invalid",
    KafkaError._INVALID_DIFFERENT_RECORD: "another record of its batch is invalid",
    KafkaError.INVALID_TIMESTAMP: "its time is outside of the topic's message.timestamp limits",
}
_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
# Errors of a commit if another consumer has joined the group.
_JOINED = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
)
_NO_KEY = "the broker found it invalid, and it has no key, which a compacted topic requires"


class Undeliverable(RuntimeError):
    """Kafka did not accept records, or there is no topic for them. The message has the reason."""


class NotAcknowledged(Undeliverable):
    """Kafka did not acknowledge records in time."""


def is_refusal(error: KafkaError) -> bool:
    """Return whether a record can be the cause of an error."""
    return error.code() in _REFUSALS


def find_named(errors: Mapping[bytes, KafkaError]) -> dict[bytes, KafkaError]:
    """Return the errors of the records that a broker has named as the bad ones of their batches."""
    codes = {error.code() for error in errors.values()}
    if KafkaError._INVALID_DIFFERENT_RECORD not in codes:
        return {}
    return {v: e for v, e in errors.items() if e.code() == KafkaError.INVALID_RECORD}


def explain(topic: str, key: bytes | None, error: KafkaError) -> str:
    """Return why a topic refuses a score; equal for all scores with the same fault."""
    is_keyless = key is None and error.code() == KafkaError.INVALID_RECORD
    why = _NO_KEY if is_keyless else _REFUSALS[error.code()]
    return f"topic {topic} refuses the score: {why} ({error.name()})"


def to_error(failed: Mapping[str, Iterable[KafkaError]], left: int = 0) -> RuntimeError:
    """Return the exception for records that Kafka did not take.

    Args:
      failed: the errors, by topic.
      left: number of records that are not acknowledged.
    """
    for topic, errors in failed.items():
        for error in errors:
            if is_refused(error) or error.code() in _GONE:
                return StreamRefused(
                    f"Expected to write to topic {topic}: {error.str()}. It was deleted, or the "
                    "right was taken away, while the job ran. Correct this, and start the job "
                    "again: it continues from the last delivered records"
                )
    reasons = dict.fromkeys(f"topic {t}: {e.str()}" for t, errors in failed.items() for e in errors)
    why = "; ".join(list(reasons)[:3]) or f"{left} records not acknowledged in time"
    kind = NotAcknowledged if left else Undeliverable
    return kind(f"Kafka did not accept all records: {why}. They are read and scored again")


def to_commit_error(group: str, error: KafkaError) -> RuntimeError:
    """Return the error for offsets that the broker rejects."""
    what = f"Expected to commit offsets of group {group}, got: {error.str()}. "
    if error.code() in _JOINED:
        return StreamRefused(
            f"--group: {what}Another consumer has joined the group. Stop it, or use another --group"
        )
    if is_refused(error):
        is_id = error.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        return StreamRefused(
            f"{'--exactly_once' if is_id else '--group'}: {what}The right was taken away while the "
            "job ran. Grant it again, and start the job again"
        )
    return Undeliverable(
        f"{what}Check for another consumer in the group, and the group's access rights"
    )
