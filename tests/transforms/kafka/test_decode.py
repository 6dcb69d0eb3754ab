from __future__ import annotations

import io
import json

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.lake.files.missing import Constant
from scoreline.lake.files.schema_file import parse_types
from scoreline.transforms.kafka.avro_types import parse_avro_schema
from scoreline.transforms.kafka.decode import DecodeSpec, decode_batch
from scoreline.transforms.kafka.records import HEADERS, RAW_SCHEMA, VALUE
from tests.inputs import to_examples

SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float32()), ("s", pa.string())])
AVRO = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "x", "type": ["null", "float"]},
        {"name": "s", "type": "string"},
    ],
}


def raw_batch(values):
    rows = len(values)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(["t"] * rows).dictionary_encode(),
            pa.array([0] * rows, pa.int32()),
            pa.array(range(rows), pa.int64()),
            pa.array([0] * rows, pa.int64()),
            pa.array([None] * rows, pa.binary()),
            pa.array(values, pa.binary()),
            pa.nulls(rows, RAW_SCHEMA.field(HEADERS).type),
        ],
        schema=RAW_SCHEMA,
    )


def to_avro(row):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, AVRO, row)
    return stream.getvalue()


SPECS = {
    "json": (DecodeSpec(format="json", schema=SCHEMA), lambda row: json.dumps(row).encode()),
    "avro": (DecodeSpec(format="avro", schema=SCHEMA, avro_schema=json.dumps(AVRO)), to_avro),
}
STORED = pa.schema([("id", pa.int64()), ("x", pa.float32()), ("s", pa.large_binary())])


def example_of(**kinds):
    """Return a tf.Example whose features have other types."""
    fields = {"id": 1, "x": 0.5, "s": "a"} | kinds
    return to_examples(pa.table({name: [value] for name, value in fields.items()}))[0]


EXAMPLE = example_of()
POISON = {
    "example_int_for_float": ("example", example_of(x=1), "'x': expected float values, got int64"),
    "example_text_for_int": (
        "example",
        example_of(id="1"),
        "'id': expected int64 values, got byte",
    ),
    "example_float_for_text": ("example", example_of(s=1.5), "'s': expected bytes values, got flo"),
    "example_cut_off": ("example", EXAMPLE[:-3], "was cut off"),
    "example_two_values": (
        "example",
        to_examples(pa.table({"x": [[1.0, 2.0]]}))[0],
        "has 2 values",
    ),
    "example_other_text": ("example", b"hello", "is no tf.Example"),
    "json_cut_off": ("json", b'{"id": 1, "x"', "expected a JSON object"),
    "json_text_for_float": ("json", b'{"id": 1, "x": "1", "s": ""}', "column 'x': expected float"),
    "avro_cut_off": ("avro", b"\x02\x02\0\0", "expected an Avro record"),
    "avro_other": ("avro", b"\xff" * 20, "expected an Avro record"),
}


@pytest.mark.parametrize(("data_format", "bad", "reason"), POISON.values(), ids=POISON.keys())
def test_a_decoder_that_failed_on_one_value_decodes_all_others(data_format, bad, reason):
    if data_format == "example":
        spec, good = DecodeSpec(format="example", schema=STORED), EXAMPLE
    else:
        spec, encode = SPECS[data_format]
        good = encode({"id": 1, "x": 0.5, "s": "a"})
    decoder = spec.make()
    batch, dead = decode_batch(raw_batch([good] * 20 + [bad] + [good] * 200), decoder, spec.schema)
    assert list(dead.rows) == [20]
    assert reason in dead.reasons[0]
    rows = [{"id": 1, "x": 0.5, "s": b"a" if data_format == "example" else "a"}]
    assert batch.select(spec.schema.names).to_pylist() == rows * 220
    batch, dead = decode_batch(raw_batch([good] * 30), decoder, spec.schema)
    assert dead is None
    assert batch.select(spec.schema.names).to_pylist() == rows * 30


good_rows = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**53), 2**53),
        "x": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
        "s": st.text(st.characters(codec="utf-8"), max_size=8),
    }
)


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=60)
@given(
    rows=st.lists(good_rows | st.sampled_from([None, b"", b"\xff\xff", b'{"id": ']), max_size=12)
)
def test_decoded_values_equal_sent_values_and_a_bad_value_costs_itself(name, rows):
    spec, encode = SPECS[name]
    values = [encode(row) if isinstance(row, dict) else row for row in rows]
    batch, dead = decode_batch(raw_batch(values), spec.make(), spec.schema)
    wanted = [row for row in rows if isinstance(row, dict)]
    assert batch.select(SCHEMA.names).to_pylist() == wanted
    assert batch.column(VALUE).to_pylist() == [encode(row) for row in wanted]
    bad = [at for at, row in enumerate(rows) if not isinstance(row, dict)]
    assert (list(dead.rows) if dead else []) == bad
    assert all(dead.reasons if dead else [])


@pytest.mark.parametrize(
    "values",
    [
        [b'{"id": 1}{"id": 2}', b"  "],  # as many rows as values
        [b'{"id":', b'1}{"id": 2}'],
        [b'{"s": "}', b'{"}'],
        [b'{"id": 1}', b'{"id": 1} {"id": 3}'],
        [b'[{"id": 1}]', b'{"id": "1"}'],
        [b'{"id": 1.5}', b"null"],
    ],
)
def test_fragments_are_never_put_together(values):
    good = b'{"id": 7, "x": 1, "s": "\\n"}'
    spec, _ = SPECS["json"]
    batch, dead = decode_batch(raw_batch([good, *values, good]), spec.make(), SCHEMA)
    assert set(batch["id"].to_pylist()) <= {7, 1}
    assert batch.num_rows == 2 + (values[0] == b'{"id": 1}')
    assert dead is not None
    assert len(dead.rows) + batch.num_rows == len(values) + 2


def test_json_may_be_spread_over_lines():
    spec, _ = SPECS["json"]
    batch, dead = decode_batch(raw_batch([b'\n{\n "id": 1,\r\n "x": 2}\n']), spec.make(), SCHEMA)
    assert dead is None
    assert batch.select(SCHEMA.names).to_pylist() == [{"id": 1, "x": 2.0, "s": None}]


def test_avro_types_have_their_counterparts_and_others_are_left_out():
    fields = {
        "i": "int",
        "when": {"type": "long", "logicalType": "timestamp-millis"},
        "list": {"type": "array", "items": ["null", "double"]},
        "inner": {"type": "record", "name": "In", "fields": [{"name": "k", "type": "bytes"}]},
        "again": "In",
        "map": {"type": "map", "values": "int"},
        "either": ["int", "string"],
        "sum": {"type": "bytes", "logicalType": "decimal", "precision": 4},
        "suit": {"type": "enum", "name": "Suit", "symbols": ["A", "B"]},
    }
    text = json.dumps(
        {
            "type": "record",
            "name": "R",
            "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
        }
    )
    inner = pa.struct([("k", pa.binary())])
    assert parse_avro_schema(text) == pa.schema(
        {
            "i": pa.int32(),
            "when": pa.timestamp("ms", "UTC"),
            "list": pa.list_(pa.float64()),
            "inner": inner,
            "again": inner,
            "map": pa.map_(pa.string(), pa.int32()),
            "sum": pa.decimal128(4, 0),
            "suit": pa.string(),
        }
    )


@pytest.mark.parametrize("text", ["{", '"int"', '{"type": "record"}', "[1]"])
def test_a_schema_that_is_no_avro_record_is_refused(text):
    with pytest.raises(ValueError, match="expected an Avro schema"):
        parse_avro_schema(text)


NOT_HELD = {
    "large": ("float", b"1e39"),
    "below": ("float", b"-3.5e38"),
    "double": ("double", b"1e400"),
    "nan": ("float", b"NaN"),
    "infinity": ("double", b"-Infinity"),
    "list": ("list<float>", b"[1, 1e39]"),
    "matrix": ("list<list<float>>", b"[[1], [2, 1e39]]"),
    "struct": ({"y": "float"}, b'{"y": 1e39}'),
    "nan_in_list": ("list<double>", b"[NaN]"),
    "int": ("int32", b"2147483648"),
    "long": ("int64", b"9223372036854775808"),
    "unsigned": ("uint8", b"-1"),
    "list_of_ints": ("list<int8>", b"[1, 128]"),
    "fraction_for_int": ("int64", b"1.5"),
    "decimal": ("decimal128(4, 2)", b"123.45"),
}


@pytest.mark.parametrize(("kind", "number"), NOT_HELD.values(), ids=NOT_HELD)
def test_a_json_number_that_its_column_does_not_hold_is_a_dead_letter(kind, number):
    """As an input, a key or a kept column: no number becomes infinity, NaN or another number."""
    if kind == "decimal128(4, 2)":
        schema = pa.schema([("v", pa.decimal128(4, 2))])
    else:
        schema = parse_types(json.dumps({"v": kind}))
    spec = DecodeSpec(format="json", schema=schema)
    values = [b'{"v": null}', b'{"v": ' + number + b"}", b'{"v": null, "other": 1e39}']
    batch, dead = decode_batch(raw_batch(values), spec.make(), spec.schema)
    assert list(dead.rows) == [1]
    assert batch.column("v").to_pylist() == [None, None]


def test_the_largest_numbers_of_a_column_are_read():
    spec = DecodeSpec(format="json", schema=parse_types('{"f": "float", "l": "list<float>"}'))
    text = b'{"f": 3.4028234663852886e38, "l": [-3.4028234663852886e38, null, 1e-50]}'
    batch, dead = decode_batch(raw_batch([text]), spec.make(), spec.schema)
    assert dead is None
    largest = 3.4028234663852886e38
    assert batch.select(["f", "l"]).to_pylist() == [{"f": largest, "l": [-largest, None, 0.0]}]


USER = pa.struct([("age", pa.float32()), ("at", pa.struct([("x", pa.int64())]))])
KEYS = pa.schema([("id", pa.int64()), ("a", pa.float32()), ("user", USER)])
# By name: a value, and the missing key; "" if none is missing.
ABSENT = {
    "none": (b'{"id": 1, "a": 2, "user": {"age": 3, "at": {"x": 4}}}', ""),
    "nulls": (b'{"id": null, "a": null, "user": {"age": null, "at": {"x": null}}}', ""),
    "null_parents": (b'{"id": 1, "a": 2, "user": null}', ""),
    "null_parent_inside": (b'{"id": 1, "a": 2, "user": {"age": 1, "at": null}}', ""),
    "key": (b'{"a": 2, "user": null}', "id"),
    "input": (b'{"id": 1, "user": null}', "a"),
    "parent": (b'{"id": 1, "a": 2}', "user.age"),
    "field": (b'{"id": 1, "a": 2, "user": {"at": null}}', "user.age"),
    "field_of_a_field": (b'{"id": 1, "a": 2, "user": {"age": 1, "at": {}}}', "user.at.x"),
    "only_elsewhere": (b'{"id": 1, "user": null, "other": {"a": null}}', "a"),
    "only_as_text": (b'{"id": 1, "user": null, "b": "\\"a\\": null"}', "a"),
    "other_case": (b'{"id": 1, "A": null, "user": null}', "a"),
    "escaped": (b'{"id": 1, "\\u0061": null, "user": null}', ""),
    "beside_what_is_not_json": (b'{"id": 1, "a": null, "user": null, "b": NaN}', ""),
    "beside_other_bytes": (b'{"id": 1, "a": null, "user": null, "b": "\xff"}', ""),
}


@pytest.mark.parametrize(("value", "missing"), ABSENT.values(), ids=ABSENT)
def test_a_key_that_is_missing_is_not_a_null(value, missing):
    spec = DecodeSpec(format="json", schema=KEYS, required=("id", "a", "user.age", "user.at.x"))
    good = ABSENT["none"][0]
    batch, dead = decode_batch(raw_batch([good, value, None, good]), spec.make(), KEYS)
    assert (1 in dead.rows) == bool(missing)
    assert batch.num_rows == 3 - bool(missing)
    if missing:
        assert f"expected the key '{missing}', with a value or null" in dead.reasons[0]


def test_a_missing_key_gets_the_value_that_is_given_for_it_and_a_null_stays():
    missing = (
        Constant("a", pa.float32(), "0.5"),
        Constant("s", pa.string(), "none"),
        Constant("kept", pa.int64(), "null"),
    )
    schema = pa.schema(
        [("id", pa.int64()), ("a", pa.float32()), ("s", pa.string()), ("kept", pa.int64())]
    )
    spec = DecodeSpec(format="json", schema=schema, required=("id",), missing=missing)
    values = [b'{"id": 1}', b'{"id": 2, "a": null, "s": null, "kept": 1}', b'{"a": 1}']
    batch, dead = decode_batch(raw_batch(values), spec.make(), schema)
    assert list(dead.rows) == [2]
    assert batch.select(schema.names).to_pylist() == [
        {"id": 1, "a": 0.5, "s": "none", "kept": None},
        {"id": 2, "a": None, "s": None, "kept": 1},
    ]
