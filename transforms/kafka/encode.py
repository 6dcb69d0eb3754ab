"""Scored rows → values of Kafka records."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.lake.elements import DeadRows
from scoreline.models.errors import describe_error
from scoreline.transforms.isolate import isolate
from scoreline.transforms.kafka.records import (
    HEADERS,
    KEY,
    LATEST_MS,
    OFFSET,
    PARTITION,
    TIME_MS,
    TOPIC,
    VALUE,
)

# Columns of a scored batch for the sink, besides the keys: the raw record, which becomes a dead
# letter if its score cannot be delivered.
_RAW = (KEY, VALUE, HEADERS)
CARRIED = (TOPIC, PARTITION, OFFSET, TIME_MS, *_RAW)
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

_ENCODE_ERRORS = (ValueError, TypeError, OverflowError, ArithmeticError, pa.ArrowException)
_MILLISECONDS = pa.timestamp("ms", "UTC")


class Encoded(NamedTuple):
    """Scored rows, their values for the topic, and their columns for the table.

    Attributes:
      rows: the rows, with the columns of their raw records.
      values: one value for each row; empty without a topic.
      stored: the rows in the form of the table; None without a table.
    """

    rows: pa.RecordBatch
    values: list[bytes]
    stored: pa.RecordBatch | None


def encode_rows(
    batch: pa.RecordBatch, encode: Callable[[pa.RecordBatch], Encoded]
) -> tuple[list[Encoded], DeadRows | None]:
    """Return the encoded rows, in order, and those that cannot be encoded.

    One value may be beyond the type of its destination, such as a time after the year 9999.
    """
    try:
        return [encode(batch)], None
    except _ENCODE_ERRORS as e:
        isolated = isolate(
            lambda start, stop: encode(batch.slice(start, stop - start)),
            batch.num_rows,
            describe_error,
            e,
            errors=_ENCODE_ERRORS,
            may_all_fail=True,
        )
    parts = [encoded for _, _, encoded in sorted(isolated.parts, key=lambda part: part[0])]
    rows = sorted(isolated.dead)
    return parts, DeadRows(rows, [isolated.dead[row] for row in rows], "Encode")


def to_types(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows with the types of a table; dictionaries stay, as the writer expects them.

    Raises:
      ArrowInvalid: a type does not hold a value; the message names the column.
    """
    columns = []
    for column, field in zip(rows.columns, schema, strict=True):
        if column.type != field.type and not pa.types.is_dictionary(column.type):
            try:
                column = column.cast(field.type)
            except pa.ArrowInvalid as e:
                raise pa.ArrowInvalid(f"column '{field.name}': {e}") from e
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema.names)


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
        if name in _RAW:
            continue
        name = _NAMES.get(name, EVENT_TIME if name == TIME_MS else name)
        if _is_same_in_all(column):
            same[name] = column.dictionary[0].as_py()
        else:
            names.append(name)
            try:
                columns.append(_to_list(column))
            except (ValueError, OverflowError) as e:
                raise ValueError(f"column '{name}': {e}") from e
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
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    elif pa.types.is_timestamp(kind) and kind.unit == "ns":  # beyond Python's datetimes
        column = pc.strftime(column, f"%Y-%m-%dT%H:%M:%S{'+00:00' if kind.tz else ''}")
    elif pa.types.is_nested(kind):
        maps: list[Any] = column.to_pylist(maps_as_pydicts="strict")
        return maps
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
