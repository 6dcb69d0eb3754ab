from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal

import fastavro
import pyarrow as pa
import pytest

from scoreline.transforms.kafka.avro import AvroDecoder
from scoreline.transforms.kafka.avro_types import parse_avro_schema, parse_columns
from scoreline.transforms.kafka.encode import to_json_values


def logical(base, name, **more):
    return {"type": base, "logicalType": name, **more}


def fixed(size, name="F", **more):
    return {"type": "fixed", "name": name, "size": size, **more}


def record(kind, name="R"):
    return {"type": "record", "name": name, "fields": [{"name": "v", "type": kind}]}


NOON = dt.datetime(2024, 3, 1, 12, 0, 0, 123456, dt.UTC)
MICROS = int(NOON.timestamp()) * 10**6 + 123456
UPPER = "C0FFEE00-0000-4000-8000-00000000000A"
# By name: the Avro type, a written base value, the Arrow type, and the value that is read.
READ = {
    "uuid": (logical("string", "uuid"), UPPER, pa.string(), UPPER),
    "uuid_of_other_text": (logical("string", "uuid"), "none", pa.string(), "none"),
    "uuid_fixed": (fixed(16, logicalType="uuid"), b"\xc0" * 16, pa.binary(), b"\xc0" * 16),
    "decimal": (
        logical("bytes", "decimal", precision=6, scale=2),
        b"\x01\xe2\x40",
        pa.decimal128(6, 2),
        Decimal("1234.56"),
    ),
    "decimal_fixed": (
        fixed(4, logicalType="decimal", precision=9, scale=3),
        b"\xff\xff\xff\xfe",
        pa.decimal128(9, 3),
        Decimal("-0.002"),
    ),
    "decimal_without_scale": (
        logical("bytes", "decimal", precision=4),
        b"\x05",
        pa.decimal128(4, 0),
        Decimal(5),
    ),
    "large_decimal": (
        logical("bytes", "decimal", precision=50, scale=1),
        b"\x05",
        pa.decimal256(50, 1),
        Decimal("0.5"),
    ),
    "decimal_without_precision": (logical("bytes", "decimal"), b"\x05", pa.binary(), b"\x05"),
    "big_decimal": (logical("bytes", "big-decimal"), b"\x05", pa.binary(), b"\x05"),
    "date": (logical("int", "date"), 19783, pa.date32(), NOON.date()),
    "time_millis": (logical("int", "time-millis"), 43_200_123, pa.int32(), 43_200_123),
    "time_before_midnight": (logical("int", "time-millis"), -5, pa.int32(), -5),
    "time_micros": (logical("long", "time-micros"), 86_400_000_001, pa.int64(), 86_400_000_001),
    "millis": (
        logical("long", "timestamp-millis"),
        MICROS // 1000,
        pa.timestamp("ms", "UTC"),
        NOON.replace(microsecond=123000),
    ),
    "micros": (logical("long", "timestamp-micros"), MICROS, pa.timestamp("us", "UTC"), NOON),
    "nanos": (logical("long", "timestamp-nanos"), MICROS * 1000, pa.timestamp("ns", "UTC"), NOON),
    "local_millis": (
        logical("long", "local-timestamp-millis"),
        MICROS // 1000,
        pa.timestamp("ms"),
        NOON.replace(microsecond=123000, tzinfo=None),
    ),
    "local_micros": (
        logical("long", "local-timestamp-micros"),
        MICROS,
        pa.timestamp("us"),
        NOON.replace(tzinfo=None),
    ),
    "local_nanos": (
        logical("long", "local-timestamp-nanos"),
        MICROS * 1000,
        pa.timestamp("ns"),
        NOON.replace(tzinfo=None),
    ),
    "unknown": (logical("long", "tenths"), 7, pa.int64(), 7),
    "known_on_another_base": (logical("string", "timestamp-millis"), "x", pa.string(), "x"),
    "enum": ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", pa.string(), "B"),
    "fixed": (fixed(2), b"ab", pa.binary(), b"ab"),
    "map": (
        {"type": "map", "values": ["null", "float"]},
        {"a": 0.5, "b": None},
        pa.map_(pa.string(), pa.float32()),
        [("a", 0.5), ("b", None)],
    ),
    "int_or_long": (["null", "int", "long"], 2**40, pa.int64(), 2**40),
    "float_or_double": (["double", "float"], 0.1, pa.float64(), 0.1),
}
# Names of types that a schema defines once; a second use refers to them.
DEFINED = ("uuid_fixed", "decimal_fixed", "enum", "fixed")


def base_of(kind):
    """Return a type without logical types, to write base values with."""
    if isinstance(kind, list):
        return [base_of(branch) for branch in kind]
    if isinstance(kind, dict):
        return {name: base_of(part) for name, part in kind.items() if name != "logicalType"}
    return kind


def write(schema, row):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(base_of(schema)), row)
    return stream.getvalue()


def read(schema, rows):
    text = json.dumps(schema)
    columns = parse_avro_schema(text)
    (column,) = AvroDecoder(columns, text).decode([write(schema, {"v": row}) for row in rows])
    return column


def plain(value):
    """Return a value with pandas' timestamps as datetimes."""
    return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value


@pytest.mark.parametrize(("kind", "written", "arrow", "value"), READ.values(), ids=READ)
def test_a_logical_type_is_read_right_or_as_its_base_type(kind, written, arrow, value):
    """As a column, after a null, in a list, and in a record in a record."""
    column = read(record(kind), [written, written])
    assert column.type == arrow
    assert [plain(found) for found in column.to_pylist()] == [value, value]
    nullable = kind if isinstance(kind, list) else ["null", kind]
    if "null" in nullable:
        column = read(record(nullable), [None, written])
        assert [plain(found) for found in column.to_pylist()] == [None, value]
    column = read(record({"type": "array", "items": kind}), [[written], []])
    assert column.type == pa.list_(arrow)
    assert [[plain(v) for v in found] for found in column.to_pylist()] == [[value], []]
    column = read(record(record(kind, "Inner")), [{"v": written}])
    assert column.type == pa.struct([("v", arrow)])
    assert plain(column[0].as_py()["v"]) == value


@pytest.mark.parametrize("name", DEFINED)
def test_a_type_that_is_defined_once_is_read_at_each_use(name):
    kind, written, arrow, value = READ[name]
    fields = [{"name": "v", "type": kind}, {"name": "w", "type": ["null", kind["name"]]}]
    schema = {"type": "record", "name": "R", "namespace": "a.b", "fields": fields}
    columns = parse_avro_schema(json.dumps(schema))
    assert columns == pa.schema([("v", arrow), ("w", arrow)])
    value_bytes = write(schema, {"v": written, "w": written})
    v, w = AvroDecoder(columns, json.dumps(schema)).decode([value_bytes])
    assert v.to_pylist() == w.to_pylist() == [value]


BAD = {
    "decimal_beyond_its_digits": (logical("bytes", "decimal", precision=4, scale=2), b"\x7f" * 6),
    "date_beyond_9999": (logical("int", "date"), 2**31 - 1),
    "time_beyond_9999": (logical("long", "timestamp-millis"), 2**60),
}


@pytest.mark.parametrize(("kind", "written"), BAD.values(), ids=BAD)
def test_a_value_beyond_its_logical_type_is_an_error(kind, written):
    with pytest.raises(ValueError, match="expected"):
        read(record(kind), [written])


NODE = {
    "type": "record",
    "name": "Node",
    "fields": [{"name": "x", "type": "int"}, {"name": "next", "type": ["null", "Node"]}],
}
UNREAD = {
    "union": (["int", "string"], "v", "is a union of int and string, which has no one type"),
    "union_of_records": (["null", record("int", "A"), record("int", "B")], "v", "is a union of"),
    "duration": (fixed(12, logicalType="duration"), "v", "is a duration of months, days and"),
    "huge_decimal": (logical("bytes", "decimal", precision=99), "v", "is a decimal of 99 digits"),
    "recursive": (NODE, "v.next", "is a record Node that contains itself"),
    "in_a_record": (record(["int", "string"], "Inner"), "v.v", "is a union of int and string"),
    "in_a_list": ({"type": "array", "items": ["int", "string"]}, "v", "is a union of int and"),
    "in_a_list_of_records": ({"type": "array", "items": NODE}, "v", "has items with a field 'v.ne"),
    "in_a_map": ({"type": "map", "values": fixed(12, logicalType="duration")}, "v", "is a dura"),
}


@pytest.mark.parametrize(("kind", "path", "reason"), UNREAD.values(), ids=UNREAD)
def test_a_field_that_no_column_holds_is_known_with_its_reason(kind, path, reason):
    schema = record(kind)
    schema["fields"].append({"name": "id", "type": "long"})
    columns = parse_columns(json.dumps(schema))
    assert reason in columns.unread[path]
    assert reason in columns.why_unread("v")  # all of it is wanted
    assert reason in columns.why_unread(f"{path}.deeper")
    assert columns.why_unread("id") == columns.why_unread("vv") == ""


class Schemas:
    """A registry of parsed schemas."""

    def __init__(self, *schemas):
        self._schemas = [fastavro.parse_schema(schema) for schema in schemas]

    def schema_of(self, schema_id):
        return self._schemas[schema_id]


# By name: the type in the writer schema, the one in the reader schema, a base value, the value.
EVOLVED = {
    "millis_to_micros": ("timestamp-millis", "timestamp-micros", MICROS // 1000, NOON),
    "micros_to_nanos": ("timestamp-micros", "timestamp-nanos", MICROS, NOON),
    "now_a_timestamp": (None, "timestamp-micros", MICROS, NOON),
    "was_a_timestamp": ("timestamp-micros", None, MICROS, MICROS),
    "was_a_local_timestamp": ("local-timestamp-millis", None, MICROS, MICROS),
    "micros_to_millis": ("timestamp-micros", "timestamp-millis", MICROS, None),
    "nanos_to_micros": ("timestamp-nanos", "timestamp-micros", MICROS, None),
    "time_to_timestamp": ("time-micros", "timestamp-micros", MICROS, None),
    "zone_lost": ("timestamp-micros", "local-timestamp-micros", MICROS, None),
}


@pytest.mark.parametrize(("has", "wants", "written", "value"), EVOLVED.values(), ids=EVOLVED)
def test_numbers_keep_their_meaning_when_a_schema_changes(has, wants, written, value):
    def kind(name):
        return "long" if name is None else logical("long", name)

    writer = record(["null", kind(has)])
    reader = record([kind(wants), "null"])
    text = json.dumps(reader)
    registry = Schemas(writer, reader)
    decoder = AvroDecoder(parse_avro_schema(text), text, registry=registry)
    message = b"\0\0\0\0\0" + write(writer, {"v": written})
    if value is None:
        clash = f"got schema 0: field 'v': expected {wants}, got {has}"
        with pytest.raises(ValueError, match=clash):
            decoder.decode([message])
        return
    expected = value.replace(microsecond=123000) if "millis_to" in f"{has}_to" and wants else value
    (column,) = decoder.decode([message, message])
    assert [plain(found) for found in column.to_pylist()] == [expected] * 2


def test_scores_show_maps_as_objects_and_nanoseconds_as_times():
    rows = pa.RecordBatch.from_pydict(
        {
            "m": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
            "n": pa.array([[[("a", 1)]], []], pa.list_(pa.map_(pa.string(), pa.int64()))),
            "at": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "UTC")),
            "local": pa.array([1_700_000_000_000_000_000, None], pa.timestamp("ns")),
        }
    )
    first, second = map(json.loads, to_json_values(rows, 1))
    assert first == {
        "m": {"a": 1},
        "n": [{"a": 1}],
        "at": "2023-11-14T22:13:20.123456789+00:00",
        "local": "2023-11-14T22:13:20.000000000",
        "scored_time_ms": 1,
    }
    assert second == {"m": None, "n": [], "at": None, "local": None, "scored_time_ms": 1}
