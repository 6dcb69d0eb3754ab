"""Scored rows → values of Kafka records."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.transforms.kafka.records import KEY, LATEST_MS, OFFSET, PARTITION, TIME_MS, TOPIC

# Columns of a scored batch for the sink, besides the keys.
CARRIED = (TOPIC, PARTITION, OFFSET, TIME_MS, KEY)
# Their names in a value.
_NAMES = {TOPIC: "source_topic", PARTITION: "source_partition", OFFSET: "source_offset"}
EVENT_TIME, SCORED_TIME = "event_time_ms", "scored_time_ms"
VALUE_NAMES = (*_NAMES.values(), EVENT_TIME, SCORED_TIME)
# Their names in a table and in Avro, whose time types need no unit in the name.
SOURCE_FIELDS = (
    pa.field("source_topic", pa.string()),
    pa.field("source_partition", pa.int32()),
    pa.field("source_offset", pa.int64()),
    pa.field("event_time", pa.timestamp("us", "UTC")),
    pa.field("scored_time", pa.timestamp("us", "UTC")),
)

_MILLISECONDS = pa.timestamp("ms", "UTC")


def to_json_values(scored: pa.RecordBatch, now_ms: int) -> list[bytes]:
    """Return one JSON object per row of a scored batch.

    It holds keys, kept columns, outputs, `model_digest`, `source_topic`, `source_partition`,
    `source_offset`, `event_time_ms` (of the source record) and `scored_time_ms`. NaN and infinite
    numbers become null, because JSON lacks them. Bytes are base64. Values that are equal in all
    rows come last.
    """
    names: list[str] = []
    columns: list[list[Any]] = []
    same: dict[str, Any] = {}
    for name, column in zip(scored.schema.names, scored.columns, strict=True):
        if name == KEY:
            continue
        name = _NAMES.get(name, EVENT_TIME if name == TIME_MS else name)
        if _is_same_in_all(column):
            same[name] = column.dictionary[0].as_py()
        else:
            names.append(name)
            columns.append(_to_list(column))
    same[SCORED_TIME] = now_ms
    if not names:
        return [orjson.dumps(same, default=_to_json)] * scored.num_rows
    # Join two objects: drop the end of the first and the start of the second.
    end = b"," + orjson.dumps(same, default=_to_json)[1:]
    return [
        orjson.dumps(dict(zip(names, row, strict=True)), default=_to_json)[:-1] + end
        for row in zip(*columns, strict=True)
    ]


def _is_same_in_all(column: pa.Array) -> bool:
    """Return whether a column is a dictionary of one value, like digest and topic."""
    return (
        pa.types.is_dictionary(column.type)
        and len(column.dictionary) == 1
        and not column.null_count
        and not column.dictionary.null_count
    )


def _to_list(column: pa.Array) -> list[Any]:
    """Return the values of a column. Dictionaries are decoded first, which saves 2 µs per value."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values: list[Any] = column.to_pylist()
    return values


def to_columns(scored: pa.RecordBatch, now_ms: int) -> pa.RecordBatch:
    """Return a scored batch in the form of the table: its own columns, then `SOURCE_FIELDS`.

    The time is null if a record has none, or one after the year 9999.
    """
    own = [name for name in scored.schema.names if name not in CARRIED]
    times = scored.column(TIME_MS)
    is_time = pc.and_(pc.greater_equal(times, 0), pc.less_equal(times, LATEST_MS))
    times = pc.if_else(is_time, times, pa.scalar(None, times.type))
    columns = [
        *(scored.column(name) for name in own),
        *(scored.column(name) for name in _NAMES),
        times.cast(_MILLISECONDS).cast(SOURCE_FIELDS[-2].type),
        pa.repeat(pa.scalar(now_ms, _MILLISECONDS), scored.num_rows).cast(SOURCE_FIELDS[-1].type),
    ]
    return pa.RecordBatch.from_arrays(columns, [*own, *(field.name for field in SOURCE_FIELDS)])


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)  # decimals
