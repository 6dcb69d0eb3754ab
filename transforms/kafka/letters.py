"""Dead letters of a stream: records that got no score, as they came, and the reason in headers."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa

from scoreline.transforms.kafka.records import HEADERS, KEY, OFFSET, PARTITION, TIME_MS, VALUE

# Our headers. A record that had them, because it was a dead letter before, gets new ones.
PREFIX = "scoreline."
_NAMES = ("reason", "step", "topic", "partition", "offset", "model_digest", "left_out")
_OURS = frozenset(f"{PREFIX}{name}" for name in _NAMES)
_READ = (PARTITION, OFFSET, TIME_MS, KEY, VALUE, HEADERS, "_step", "_reason", "_model_digest")


class Letter(NamedTuple):
    """A record for the dead letter topic.

    Attributes:
      partition, offset: its position in the source topic.
      key, value: as they came.
      headers: the record's own headers, then ours.
      time_ms: the record's time; None if it has none, and for the time of sending.
      is_short: whether something is left out because the topic refused it.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, Any], ...]
    time_ms: int | None
    is_short: bool = False

    @property
    def reason(self) -> str:
        """The failed step and the reason."""
        ours = dict(self.headers)
        return f"{ours[PREFIX + 'step']}: {ours[PREFIX + 'reason']}"

    def without_time(self) -> Letter:
        """Return the letter with the time of sending; a header has the record's time."""
        time = (f"{PREFIX}left_out", f"time {self.time_ms}")
        return self._replace(time_ms=None, headers=(*self.headers, time), is_short=True)

    def without_value(self) -> Letter:
        """Return the letter without the record's value and headers, for a topic of small records.

        The record itself stays at its offset in the source topic.
        """
        size = 0 if self.value is None else len(self.value)
        ours = [header for header in self.headers if header[0] in _OURS]
        what = (f"{PREFIX}left_out", f"value of {size} bytes, headers")
        return self._replace(value=None, headers=(*ours, what), is_short=True)


def to_letters(dead: pa.RecordBatch, source_topic: str) -> list[Letter]:
    """Return dead rows with the columns of a raw record and `LETTER_COLUMNS` as letters."""
    letters = []
    for row in dead.select(_READ).to_pylist():
        why = {
            "reason": row["_reason"],
            "step": row["_step"],
            "topic": source_topic,
            "partition": str(row[PARTITION]),
            "offset": str(row[OFFSET]),
            "model_digest": row["_model_digest"],
        }
        own = [header for header in row[HEADERS] or () if header[0] not in _OURS]
        ours = [(f"{PREFIX}{name}", text) for name, text in why.items()]
        time_ms = row[TIME_MS] if row[TIME_MS] >= 0 else None
        letters.append(
            Letter(row[PARTITION], row[OFFSET], row[KEY], row[VALUE], (*own, *ours), time_ms)
        )
    return letters
