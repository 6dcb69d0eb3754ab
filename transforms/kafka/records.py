"""Kafka records as record batches: the columns of a raw record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

# The columns of a raw record. Decoded records keep them, which identifies their source.
TOPIC, PARTITION, OFFSET = "_topic", "_partition", "_offset"
TIME_MS, KEY, VALUE, HEADERS = "_time_ms", "_key", "_value", "_headers"
RAW_SCHEMA = pa.schema(
    [
        (TOPIC, pa.dictionary(pa.int32(), pa.string())),
        (PARTITION, pa.int32()),
        (OFFSET, pa.int64()),
        (TIME_MS, pa.int64()),
        (KEY, pa.binary()),
        (VALUE, pa.binary()),
        (HEADERS, pa.map_(pa.string(), pa.binary())),
    ]
)
_CHUNK_ROWS = 128
# The end of the year 9999. A later time is a mistake of the producer, for example nanoseconds.
# Neither Beam nor a table can hold it.
LATEST_MS = 253_402_300_799_999


def take_more(
    take: Callable[[int], list[Any]], first: Any, max_rows: int, max_bytes: int
) -> list[Any]:
    """Return a record and the available records after it, up to a limit.

    Args:
      take: returns the available records, up to a number.
      first: the record.
      max_rows: maximum number of records.
      max_bytes: maximum size of values. The last records may exceed it if they are larger than
        the ones before.
    """
    messages = [first]
    taken = largest = len(first)
    while len(messages) < max_rows and taken < max_bytes:
        fitting = max(1, (max_bytes - taken) // max(1, largest))
        asked = min(max_rows - len(messages), fitting, _CHUNK_ROWS)
        chunk = take(asked)
        messages += chunk
        if len(chunk) < asked:
            break
        sizes = [len(message) for message in chunk]
        taken += sum(sizes)
        largest = max(largest, *sizes)
    return messages


def to_raw_batch(topic: str, messages: Sequence[Any]) -> pa.RecordBatch:
    """Return records of one topic as a batch of `RAW_SCHEMA`."""
    rows = len(messages)
    return pa.RecordBatch.from_arrays(
        [
            pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), [topic]),
            pa.array([m.partition() for m in messages], pa.int32()),
            pa.array([m.offset() for m in messages], pa.int64()),
            pa.array([m.timestamp()[1] for m in messages], pa.int64()),
            pa.array([m.key() for m in messages], pa.binary()),
            pa.array([m.value() for m in messages], pa.binary()),
            _to_headers([m.headers() for m in messages]),
        ],
        schema=RAW_SCHEMA,
    )


def _to_headers(headers: list[Any]) -> pa.Array:
    """Return the headers of records; null for a record without any."""
    kind = RAW_SCHEMA.field(HEADERS).type
    if not any(headers):
        return pa.nulls(len(headers), kind)
    return pa.array(headers, kind)


def largest_by_partition(batch: pa.RecordBatch, column: str) -> dict[int, int]:
    """Return the largest value of an integer column in each partition of the topic."""
    partitions, values = batch.column(PARTITION).to_numpy(), batch.column(column).to_numpy()
    return {p: int(values[partitions == p].max()) for p in np.unique(partitions).tolist()}


def offset_ranges(batch: pa.RecordBatch) -> dict[int, tuple[int, int, bool]]:
    """Return the smallest and the largest offset of each partition, and whether they rise."""
    partitions, offsets = batch.column(PARTITION).to_numpy(), batch.column(OFFSET).to_numpy()
    ranges = {}
    for partition in np.unique(partitions).tolist():
        own = offsets[partitions == partition]
        is_rising = bool((own[1:] > own[:-1]).all())
        ranges[partition] = (int(own.min()), int(own.max()), is_rising)
    return ranges


def _newest_seconds(raw: pa.RecordBatch) -> dict[int, float]:
    """Return the time of the newest record of each partition, in seconds since 1970."""
    newest_ms = largest_by_partition(raw, TIME_MS)
    return {p: min(time_ms, LATEST_MS) / 1000 for p, time_ms in newest_ms.items()}
