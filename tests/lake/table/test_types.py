"""Types of kept columns and keys: right, or refused with advice."""

from __future__ import annotations

import datetime
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from scoreline.lake.table.duplicates import _count_repeats
from scoreline.lake.table.staged_file import StagedFile
from scoreline.lake.table.types import key_type, storable_type

UTC = datetime.UTC
_INTERVAL = pa.opaque(pa.binary(12), "INTERVAL", "Parquet")
_VARIANT = pa.opaque(pa.struct({"metadata": pa.binary()}), "VARIANT", "Parquet")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (pa.uint8(), pa.int16()),
        (pa.uint16(), pa.int32()),
        (pa.uint32(), pa.int64()),
        (pa.float16(), pa.float32()),
        (pa.bool_(), pa.bool_()),
        (pa.large_string(), pa.string()),
        (pa.string_view(), pa.string()),
        (pa.json_(), pa.string()),
        (pa.large_binary(), pa.binary()),
        (pa.binary_view(), pa.binary()),
        (pa.binary(4), pa.binary()),
        (pa.uuid(), pa.binary()),
        (pa.date64(), pa.date32()),
        (pa.dictionary(pa.int8(), pa.string()), pa.string()),
        (pa.dictionary(pa.int8(), pa.int64()), pa.int64()),
        (pa.timestamp("ns", "Europe/Vienna"), pa.timestamp("us", "UTC")),
        (pa.timestamp("s"), pa.timestamp("us")),
        (pa.decimal128(10, 2), pa.decimal128(10, 2)),
        (pa.decimal32(5, 2), pa.decimal128(5, 2)),
        (pa.decimal256(38, 2), pa.decimal128(38, 2)),
        (pa.list_(pa.float32(), 3), pa.list_(pa.float32(), 3)),
        (pa.large_list(pa.uint8()), pa.list_(pa.int16())),
        (pa.fixed_shape_tensor(pa.float16(), [2, 2]), pa.list_(pa.float32(), 4)),
        (pa.map_(pa.large_string(), pa.uint8()), pa.map_(pa.string(), pa.int16())),
        (
            pa.struct({"a": pa.uuid(), "b": pa.list_(pa.timestamp("ns"))}),
            pa.struct({"a": pa.binary(), "b": pa.list_(pa.timestamp("us"))}),
        ),
    ],
    ids=str,
)
def test_columns_are_stored_in_types_that_hold_all_their_values(given, stored):
    assert storable_type(given) == stored


_LACKING = {
    pa.uint64(): "uint64. Write it as int64, decimal(20, 0) or text, or leave the column out",
    pa.time32("ms"): "time32[ms]. Write it as text, or as a timestamp, or",
    pa.time64("ns"): "time64[ns]. Write it as text, or as a timestamp, or",
    pa.duration("s"): "duration[s]. Write it as a whole number of seconds or microseconds, or",
    _INTERVAL: "Parquet's INTERVAL. Write it as text, or as whole numbers of months, days",
    pa.month_day_nano_interval(): "month_day_nano_interval. Write it as text, or as whole numbers",
    _VARIANT: "Parquet's VARIANT. Write it as JSON text, or its fields as columns, or",
    pa.decimal256(60, 2): "decimal256(60, 2). Write it with at most 38 digits and a scale",
    pa.decimal128(10, -2): "decimal128(10, -2). Write it with at most 38 digits and a scale",
    pa.bool8(): "extension<arrow.bool8>. Write the values of its storage type, or",
    pa.opaque(pa.binary(), "a", "b"): "extension<arrow.opaque[",
    pa.null(): "null. It has no value in any row; write it with a type, or",
    pa.struct([]): "struct<>. It has no fields, or leave",
    pa.list_view(pa.int64()): "list_view<item: int64>. Write it as a list, or",
    pa.run_end_encoded(pa.int32(), pa.string()): "run_end_encoded<run_ends: int32, values: string>",
    pa.dense_union([pa.field("a", pa.int64())]): "dense_union<a: int64=0>. Write it with another",
}
_AROUND = {
    "plain": lambda kind: kind,
    "in-lists": pa.list_,
    "in-fixed-lists": lambda kind: pa.list_(kind, 2),
    "in-structs": lambda kind: pa.struct({"a": pa.int64(), "b": kind}),
    "in-maps": lambda kind: pa.map_(pa.string(), kind),
}


@pytest.mark.parametrize("around", _AROUND.values(), ids=_AROUND)
@pytest.mark.parametrize(("given", "message"), _LACKING.items(), ids=map(str, _LACKING))
def test_types_delta_lacks_are_refused_with_advice_at_any_depth(given, message, around):
    with pytest.raises(ValueError, match="a Delta table cannot hold") as e:
        storable_type(around(given))
    assert message in str(e.value)


_MIDNIGHT = datetime.datetime(2024, 1, 1, tzinfo=UTC)
_KEYS = {
    pa.int8(): [1, 2],
    pa.uint32(): [1, 2**32 - 1],
    pa.float64(): [1.0, float("nan")],
    pa.bool_(): [True, False],
    pa.string(): ["a", ""],
    pa.string_view(): ["a", "b" * 99],
    pa.dictionary(pa.int8(), pa.string()): ["a", "b"],
    pa.binary(): [b"a", b"\xff"],
    pa.binary(16): [b"a" * 16, b"b" * 16],
    pa.uuid(): [b"a" * 16, b"b" * 16],
    pa.json_(): ["{}", "[]"],
    pa.decimal32(5, 2): [decimal.Decimal("1.25"), decimal.Decimal("1.26")],
    pa.decimal256(30, 0): [decimal.Decimal(1), decimal.Decimal(10**29)],
    pa.date32(): [datetime.date(2024, 1, 1), datetime.date(1, 1, 1)],
    pa.timestamp("ms"): [_MIDNIGHT.replace(tzinfo=None), datetime.datetime.max],  # noqa: DTZ901
    pa.timestamp("us", "Europe/Vienna"): [_MIDNIGHT, _MIDNIGHT.replace(year=1500)],
}


@pytest.mark.parametrize(("kind", "values"), _KEYS.items(), ids=map(str, _KEYS))
def test_each_type_of_key_is_staged_and_counted(tmp_path, kind, values):
    """Regression: keys of a UUID were scored, and then no partition could be committed."""
    rows = pa.RecordBatch.from_arrays([pa.array([*values, *values, None], kind)], ["k"])
    schema = pa.schema({"k": key_type(kind)})
    file = StagedFile(
        fs.LocalFileSystem(), str(tmp_path), "d", 0, "a" * 15, schema, statistics=["k"]
    )
    file.write(rows)
    table = pq.read_table(tmp_path / file.close().path, partitioning=None)
    assert _count_repeats(table) == 2
    assert table["k"].cast(schema.field(0).type).drop_null().to_pylist()[0] == values[0]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.list_(pa.int64(), 2),
        pa.struct({"a": pa.int64()}),
        pa.map_(pa.string(), pa.int64()),
        pa.fixed_shape_tensor(pa.float32(), [2]),
    ],
    ids=str,
)
def test_keys_that_cannot_be_counted_are_refused(kind):
    with pytest.raises(ValueError, match="whose values cannot be counted"):
        key_type(kind)


@pytest.mark.parametrize("kind", [pa.null(), pa.uint64(), pa.time64("us"), _INTERVAL], ids=str)
def test_keys_of_types_that_delta_lacks_are_refused_too(kind):
    with pytest.raises(ValueError, match="a Delta table cannot hold"):
        key_type(kind)


def test_a_value_that_does_not_fit_its_stored_type_names_the_column(tmp_path):
    rows = pa.RecordBatch.from_arrays([pa.array([1, 2**40])], ["n"])
    schema = pa.schema({"n": pa.int32()})
    file = StagedFile(fs.LocalFileSystem(), str(tmp_path), "d", 0, "a" * 15, schema)
    file.write(rows)
    with pytest.raises(pa.ArrowInvalid, match="column 'n', stored as int32: Integer value 1099511"):
        file.close()
    file.abandon()


def test_keys_that_python_cannot_hold_have_no_statistics(tmp_path):
    """Regression: DuckDB's infinite dates ended the job."""
    rows = pa.RecordBatch.from_arrays([pa.array([2**31 - 1, 0], pa.int32()).cast("date32")], ["k"])
    schema = pa.schema({"k": pa.date32()})
    file = StagedFile(
        fs.LocalFileSystem(), str(tmp_path), "d", 0, "a" * 15, schema, statistics=["k"]
    )
    file.write(rows)
    assert '"minValues": {}' in file.close().stats
