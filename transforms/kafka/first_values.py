"""The guard at the start of a stream: values that are all in another format than expected.

Without it, a wrong --format turns the whole topic into dead letters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from scoreline.transforms.kafka.ending import StreamRefused
from scoreline.transforms.kafka.records import OFFSET, PARTITION, VALUE

# So many values, and no other, must fail before the format is to blame.
_SAME_REASON, _ANY_REASON = 16, 64
# Numbers, quoted text and bytes differ between equal reasons.
_VARYING = re.compile(r"'[^']*'|\b[0-9a-f]{2}(?: [0-9a-f]{2})+|[0-9]+")


class FirstValues:
    """Counts the values of a process until one is decoded."""

    def __init__(self, topic_format: str) -> None:
        """Set the expected format."""
        self._format = topic_format
        self._reasons: Counter[str] = Counter()
        self._is_over = False

    def observe(self, good: int, dead: Mapping[int, str], raw: pa.RecordBatch) -> None:
        """Count the values of a poll.

        Args:
          good: number of decoded values.
          dead: the reasons of the others, by position.
          raw: all records of the poll.

        Raises:
          StreamRefused: no value was ever decoded: 16 failed for the same reason, or 64.
        """
        self._is_over = self._is_over or good > 0
        if self._is_over:
            return
        values = {row: raw.column(VALUE)[row].as_py() for row in dead}
        for row, reason in dead.items():
            if values[row] is not None:  # a tombstone has no format
                self._reasons[_VARYING.sub("…", reason)] += 1
        total = self._reasons.total()
        if total < (_SAME_REASON if len(self._reasons) == 1 else _ANY_REASON):
            return
        first = next((row for row in dead if values[row] is not None), None)
        if first is None:
            return
        place = f"offset {raw.column(OFFSET)[first]} of partition {raw.column(PARTITION)[first]}"
        reason = " ".join(dead[first].split())
        raise StreamRefused(
            f"Expected {_EXPECTED[self._format]} in the topic, but none of the first {total} "
            f"values can be read. The one at {place}: {reason}. {guess_format(values[first])}. "
            "Correct --format and --schema. If these records are damaged, begin after them with "
            "--start"
        )


_EXPECTED = {
    "json": "JSON objects (--format=json)",
    "avro": "Avro records (--format=avro)",
    "example": "tf.Examples (--format=example)",
}


def guess_format(value: bytes) -> str:
    """Return what a value looks like, and what reads it."""
    if value[:1] == b"\0" and len(value) > 5:
        schema_id = int.from_bytes(value[1:5], "big")
        return (
            f"The value begins with Confluent's header and schema id {schema_id}: read Avro with "
            "--format=avro, and --schema_registry or --avro_schema_id. Other formats behind this "
            "header cannot be read"
        )
    if value.lstrip()[:1] == b"{":
        return "The value looks like a JSON object"
    if value.lstrip()[:1] == b"[":
        return "The value looks like a JSON array: write one object for each record"
    for start, what in _STARTS.items():
        if value.startswith(start):
            return f"The value looks like {what}"
    return f"The value begins with the bytes {value[:8].hex(' ') or '(none)'}"


_STARTS = {
    b"\x1f\x8b": "gzip: write plain values; Kafka's own compression.type is read",
    b"\x28\xb5\x2f\xfd": "zstd: write plain values; Kafka's own compression.type is read",
    b"Obj\x01": "an Avro file with its header: write single records without it",
    b"\xc3\x01": "Avro's single-object encoding, which cannot be read",
    b"PAR1": "a Parquet file",
    b"\n": "a tf.Example (--format=example) or another protocol buffer",
}
