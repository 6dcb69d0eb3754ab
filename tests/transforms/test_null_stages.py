from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from scoreline.models.signature import InputColumn, TensorSpec
from scoreline.transforms.kafka.decode import DecodeSpec, RepeatedDecode
from scoreline.transforms.kafka.records import RAW_SCHEMA, VALUE
from scoreline.transforms.null_stages import RepeatedFeatures, RepeatedRows, repeat_first

X = InputColumn(TensorSpec("x", "float32", (None,)), "x")


def batch_of(*values):
    return pa.record_batch({"x": pa.array(values, pa.float32())})


@given(st.integers(1, 5), st.lists(st.integers(0, 40), max_size=5))
def test_rows_are_repeated_in_order(size, wanted):
    rows = RepeatedRows(batch_of(*range(size)))
    for count in wanted:
        found = rows.take(count)["x"].to_pylist()
        assert found == [at % size for at in range(count)]


@given(st.integers(1, 5), st.integers(0, 40))
def test_the_first_batch_stands_for_a_shard(size, rows):
    batches = iter([batch_of(*range(size)), batch_of(-1.0)])
    found = list(repeat_first(batches, rows))
    assert sum(batch.num_rows for batch in found) == rows
    assert {value for batch in found for value in batch["x"].to_pylist()} <= set(range(size))
    assert list(repeat_first(iter([]), rows)) == []


def test_features_of_the_first_batch_with_live_rows_are_repeated():
    build = RepeatedFeatures()
    assert build(batch_of(None), [X]).alive.rows == 0
    assert build(batch_of(1.0, None), [X]).alive.rows == 1
    later = build(batch_of(None, 7.0, 8.0), [X])
    assert later.columns["x"].to_pylist() == [1.0, 1.0, 1.0]
    assert (later.alive.rows, later.dead) == (3, None)


def raw_of(*values):
    columns = {field.name: pa.nulls(len(values), field.type) for field in RAW_SCHEMA}
    columns[VALUE] = pa.array(values, RAW_SCHEMA.field(VALUE).type)
    return pa.record_batch(columns, schema=RAW_SCHEMA)


def test_columns_of_the_first_decoded_batch_stand_beside_the_real_records():
    spec = DecodeSpec(format="json", schema=pa.schema({"a": "int64"}))
    decode, decoder = RepeatedDecode(), spec.make()
    first = decode(raw_of(b'{"a": 5}', b"bad"), decoder, spec.schema)
    assert (first.batch["a"].to_pylist(), first.dead.rows) == ([5], [1])
    later = decode(raw_of(b'{"a": 6}', b"bad", None), decoder, spec.schema)
    assert later.dead is None
    assert later.batch["a"].to_pylist() == [5, 5, 5]
    assert later.batch[VALUE].to_pylist() == [b'{"a": 6}', b"bad", None]
    assert later.batch.schema.names == first.batch.schema.names


def test_a_batch_that_has_only_bad_values_is_not_repeated():
    spec = DecodeSpec(format="json", schema=pa.schema({"a": "int64"}))
    decode, decoder = RepeatedDecode(), spec.make()
    assert decode(raw_of(b"bad"), decoder, spec.schema).batch.num_rows == 0
    assert decode(raw_of(b'{"a": 6}'), decoder, spec.schema).batch["a"].to_pylist() == [6]
