from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pyarrow as pa
import pytest

from scoreline.transforms.kafka.avro import AvroEncoder, AvroSpec, to_avro_schema
from scoreline.transforms.kafka.encode import Encoded, encode_rows, to_json_values, to_types


def test_each_row_is_one_object_with_its_source_and_times():
    rows = pa.RecordBatch.from_pydict(
        {
            "id": [1, 2],
            "at": [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), None],
            "sum": [Decimal("1.50"), None],
            "_topic": pa.array(["t", "t"]).dictionary_encode(),
            "_partition": [0, 3],
            "_offset": [10, 11],
            "_time_ms": [5, 6],
            "_key": [b"\xff", None],
            "y": [0.5, float("nan")],
            "pair": [[1.0, 2.0], [3.0, 4.0]],
            "raw": [b"\xff", b""],
            "model_digest": pa.array(["d", "d"]).dictionary_encode(),
        }
    )
    first, second = (json.loads(value) for value in to_json_values(rows, 7))
    assert first == {
        "id": 1,
        "at": "2026-01-02T00:00:00+00:00",
        "sum": "1.50",
        "source_topic": "t",
        "source_partition": 0,
        "source_offset": 10,
        "event_time_ms": 5,
        "y": 0.5,
        "pair": [1.0, 2.0],
        "raw": "/w==",
        "model_digest": "d",
        "scored_time_ms": 7,
    }
    assert second["y"] is None
    assert second["at"] is None


def test_dictionaries_are_written_as_their_values_whatever_they_hold():
    kinds = {
        "of_two": pa.array(["a", "b", None]).dictionary_encode(),
        "of_one": pa.array(["a", "a", "a"]).dictionary_encode(),
        "one_or_null": pa.array(["a", None, "a"]).dictionary_encode(),
        "null_inside": pa.DictionaryArray.from_arrays([0, 0, 0], pa.array([None], pa.string())),
        "bytes": pa.array([b"\xff", b"\xff", b"\xff"]).dictionary_encode(),
    }
    rows = pa.RecordBatch.from_pydict({"id": [1, 2, 3], **kinds})
    found = [json.loads(value) for value in to_json_values(rows, 7)]
    expected = {name: column.to_pylist() for name, column in kinds.items()}
    expected["bytes"] = ["/w=="] * 3
    assert {name: [row[name] for row in found] for name in kinds} == expected
    only = [json.loads(v) for v in to_json_values(rows.select(["of_one"]), 7)]
    assert only == [{"of_one": "a", "scored_time_ms": 7}] * 3
    assert to_json_values(rows.slice(0, 0), 7) == []


NANOS = pa.array([10**9, 1_700_000_000_123_456_789, None, 5 * 10**9], pa.timestamp("ns", "UTC"))
YEARS = pa.array([0, 600_000_000_000, None, 1], pa.timestamp("s"))
DIGITS = pa.array([Decimal("1.5"), Decimal("123.4"), None, Decimal("0.1")], pa.decimal128(5, 1))
DATES = pa.array([1, 10**7, None, 2], pa.date32())
# By name: a column, the type of its destination, and the reason of its second row.
NOT_STORED = {
    "nanoseconds_in_a_table": ("table", NANOS, pa.timestamp("us", "UTC"), "would lose data"),
    "nanoseconds_in_avro": ("avro", NANOS, pa.timestamp("us", "UTC"), "would lose data"),
    "digits_in_a_table": ("table", DIGITS, pa.decimal128(3, 1), "does not fit"),
    "digits_in_avro": ("avro", DIGITS, pa.decimal128(3, 1), "does not fit"),
    "year_20983_in_json": ("json", YEARS, YEARS.type, "out of range"),
    "date_beyond_9999_in_json": ("json", DATES, pa.date32(), "out of range"),
    "date_beyond_9999_in_avro": ("avro", DATES, pa.date32(), "out of range"),
}


@pytest.mark.parametrize(("sink", "column", "kind", "reason"), NOT_STORED.values(), ids=NOT_STORED)
def test_a_value_that_its_destination_cannot_hold_costs_its_record(sink, column, kind, reason):
    rows = pa.RecordBatch.from_arrays([pa.array([0, 1, 2, 3]), column], ["id", "v"])
    schema = pa.schema([("id", pa.int64()), ("v", kind)])
    encoder = AvroEncoder(AvroSpec(columns=schema, schema=to_avro_schema(schema)))

    def encode(part):
        if sink == "table":
            return Encoded(part, [], to_types(part, schema))
        values = encoder.encode(part) if sink == "avro" else to_json_values(part, 7)
        return Encoded(part, values, None)

    parts, dead = encode_rows(rows, encode)
    assert (dead.rows, dead.step) == ([1], "Encode")
    assert "column 'v': " in dead.reasons[0]
    assert reason in dead.reasons[0]
    assert [row for part in parts for row in part.rows.column("id").to_pylist()] == [0, 2, 3]
    if sink == "table":
        assert all(part.stored.schema == schema for part in parts)
    else:
        assert sum(len(part.values) for part in parts) == 3
