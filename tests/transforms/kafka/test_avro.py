from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal

import fastavro
import pyarrow as pa
import pytest

from scoreline.transforms.kafka.avro import (
    AvroDecoder,
    AvroEncoder,
    AvroSpec,
    to_avro_schema,
)
from scoreline.transforms.kafka.avro_types import parse_avro_schema
from scoreline.transforms.kafka.encode import SOURCE_FIELDS

AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.UTC)
SOURCE = {
    "model_digest": "d",
    "source_topic": "t",
    "source_partition": 3,
    "source_offset": 9,
    "event_time": AT,
    "scored_time": AT,
}
NESTED = pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))])
COLUMNS = pa.schema(
    [
        ("id", pa.int64()),
        ("small", pa.int16()),
        ("day", pa.date32()),
        ("price", pa.decimal128(10, 2)),
        ("local", pa.timestamp("us")),
        ("nested", NESTED),
        ("raw", pa.binary()),
        ("props", pa.map_(pa.string(), pa.float32())),
        ("tags", pa.list_(pa.string())),
        ("score", pa.float32()),
        ("double", pa.float64()),
        ("pair", pa.list_(pa.float32(), 2)),
        ("matrix", pa.list_(pa.list_(pa.float32(), 2), 2)),
        ("flag", pa.bool_()),
        ("model_digest", pa.string()),
        *SOURCE_FIELDS,
    ]
)
OUTPUTS = {"score", "double", "pair", "matrix", "flag"}
ROW = {
    "id": 1,
    "small": 3,
    "day": dt.date(2026, 1, 1),
    "price": Decimal("1.50"),
    "local": dt.datetime(2026, 1, 1, 5),  # noqa: DTZ001  a time without a zone
    "nested": {"a": 1, "b": ["x", None]},
    "raw": b"\xff",
    "props": {"x": 0.5, "y": None},
    "tags": ["ü", None],
    "score": 0.5,
    "double": float("inf"),
    "pair": [1.0, 2.0],
    "matrix": [[1.0, 2.0], [3.0, 4.0]],
    "flag": True,
    **SOURCE,
}
EMPTY = dict.fromkeys(COLUMNS.names) | SOURCE | {"event_time": None}


def to_batch(rows, columns=COLUMNS):
    (batch,) = pa.Table.from_pylist(rows, columns).to_batches()
    at = columns.names.index("model_digest")  # like the model's step
    return batch.set_column(at, "model_digest", batch.column(at).dictionary_encode())


def read(value, schema):
    stream = io.BytesIO(value)
    row = fastavro.schemaless_reader(stream, json.loads(schema), None)
    assert stream.tell() == len(value)
    return row


def test_rows_come_back_as_they_were_whatever_their_types():
    schema = to_avro_schema(COLUMNS, OUTPUTS)
    values = AvroEncoder(AvroSpec(columns=COLUMNS, schema=schema)).encode(to_batch([ROW, EMPTY]))
    assert [read(value, schema) for value in values] == [ROW, EMPTY]


def test_confluents_header_is_before_each_value():
    schema = to_avro_schema(COLUMNS, OUTPUTS)
    spec = AvroSpec(columns=COLUMNS, schema=schema, schema_id=258)
    for value in AvroEncoder(spec).encode(to_batch([ROW, EMPTY])):
        assert value[:5] == b"\0\0\0\1\2"
        assert read(value[5:], schema)["model_digest"] == "d"


def test_an_output_that_is_added_leaves_the_schema_readable_both_ways():
    old_columns = pa.schema([field for field in COLUMNS if field.name != "pair"])
    old, new = to_avro_schema(old_columns, OUTPUTS), to_avro_schema(COLUMNS, OUTPUTS)
    (was,) = AvroEncoder(AvroSpec(columns=old_columns, schema=old)).encode(
        to_batch([ROW], old_columns)
    )
    (now,) = AvroEncoder(AvroSpec(columns=COLUMNS, schema=new)).encode(to_batch([ROW]))
    read_was = fastavro.schemaless_reader(io.BytesIO(was), json.loads(old), json.loads(new))
    read_now = fastavro.schemaless_reader(io.BytesIO(now), json.loads(new), json.loads(old))
    assert read_was == {**ROW, "pair": None}
    assert read_now == {name: ROW[name] for name in old_columns.names}


def test_a_stream_can_read_the_output_of_another_stream():
    columns = COLUMNS
    schema = to_avro_schema(columns, OUTPUTS)
    spec = AvroSpec(columns=columns, schema=schema, schema_id=5)
    values = AvroEncoder(spec).encode(to_batch([ROW]))
    found = parse_avro_schema(schema)
    assert set(found.names) == set(columns.names)
    decoded = AvroDecoder(found, schema, 5).decode(values)
    row = {
        name: column.to_pylist(maps_as_pydicts="strict")[0]
        for name, column in zip(found.names, decoded, strict=True)
    }
    assert row == {name: ROW[name] for name in columns.names}


def test_all_names_and_types_that_avro_lacks_are_reported():
    columns = pa.schema(
        [
            ("a-b", pa.int64()),
            ("1st", pa.int64()),
            ("map", pa.map_(pa.int64(), pa.int64())),
            ("inner", pa.struct([("x y", pa.int64())])),
            ("fine", pa.int64()),
        ]
    )
    with pytest.raises(ValueError, match="not a name in Avro") as e:
        to_avro_schema(columns)
    for told in ("'a-b'", "'1st'", "column 'map': Avro has no type for map<", "'x y'"):
        assert told in str(e.value)
    assert "fine" not in str(e.value)
