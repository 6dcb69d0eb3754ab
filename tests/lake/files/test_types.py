"""One column with several types in several files."""

from __future__ import annotations

import decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.lake.files.types import cast_columns, common_type, find_casts, holds_null

INTS = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32()]
NULLS = pa.null()


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ([pa.int32(), pa.int64()], pa.int64()),
        ([pa.uint8(), pa.int8()], pa.int16()),
        ([pa.uint8(), pa.uint16()], pa.uint16()),
        ([pa.uint32(), pa.int8()], pa.int64()),
        ([pa.float16(), pa.float64()], pa.float64()),
        ([NULLS, pa.string()], pa.string()),
        ([NULLS, pa.list_(pa.int8())], pa.list_(pa.int8())),
        ([pa.list_(NULLS), pa.list_(pa.string())], pa.list_(pa.string())),
        ([pa.list_(pa.int8(), 2), pa.list_(pa.int16(), 2)], pa.list_(pa.int16(), 2)),
        ([pa.list_(pa.int8(), 2), pa.list_(pa.int8())], pa.list_(pa.int8())),
        ([pa.struct([("a", NULLS)]), pa.struct([("a", pa.int8())])], pa.struct([("a", pa.int8())])),
        ([pa.dictionary(pa.int8(), pa.string()), pa.large_string()], pa.string()),
        ([pa.timestamp("ms"), pa.timestamp("us")], pa.timestamp("us")),
        ([pa.decimal128(5, 2), pa.decimal128(7, 1)], pa.decimal128(8, 2)),
        ([NULLS, pa.int32(), NULLS, pa.int64()], pa.int64()),
    ],
    ids=str,
)
def test_common_type_is_the_narrowest_that_holds_all_values(kinds, wanted):
    assert common_type(kinds) == common_type(reversed(kinds)) == wanted


@pytest.mark.parametrize(
    "kinds",
    [
        [pa.int64(), pa.float64()],
        [pa.int32(), pa.float64()],
        [pa.uint64(), pa.int64()],
        [pa.int64(), pa.string()],
        [pa.string(), pa.binary()],
        [pa.bool_(), pa.int8()],
        [pa.date32(), pa.timestamp("us")],
        [pa.timestamp("us"), pa.timestamp("us", "UTC")],
        [pa.decimal128(38, 0), pa.decimal128(38, 10)],
        [pa.list_(pa.int8()), pa.list_(pa.string())],
        [pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])],
        [pa.list_(pa.int8()), pa.int8()],
    ],
    ids=str,
)
def test_types_that_would_lose_values_or_change_their_kind_have_none_in_common(kinds):
    assert common_type(kinds) is None


@given(st.data(), st.sampled_from(INTS + UNSIGNED), st.sampled_from(INTS + UNSIGNED))
def test_every_integer_survives_the_cast_to_the_common_type(data, one, other):
    common = common_type([one, other])
    for kind in (one, other):
        low = 0 if pa.types.is_unsigned_integer(kind) else -(2 ** (kind.bit_width - 1))
        value = data.draw(st.integers(low, low + 2**kind.bit_width - 1))
        assert pa.array([value], kind).cast(common).to_pylist() == [value]


def test_columns_are_cast_only_where_their_values_differ():
    kinds = {
        "n": (pa.int32(), pa.int64()),
        "u": (pa.uint8(), NULLS),
        "text": (pa.string(), pa.large_string()),
        "s": (pa.struct([("a", NULLS), ("b", pa.int8())]), pa.struct([("a", pa.int8())] * 1)),
        "d": (pa.decimal128(3, 1), pa.decimal128(5, 2)),
        "other": (pa.string(), pa.int8()),
    }
    schemas = [pa.schema([(name, pair[i]) for name, pair in kinds.items()]) for i in (0, 1)]
    assert find_casts(schemas, kinds) == {
        "n": pa.int64(),
        "u": pa.uint8(),
        "d": pa.decimal128(5, 2),
    }
    assert find_casts(schemas[:1], kinds) == {}


def test_batch_is_cast_and_a_struct_keeps_to_the_fields_that_were_read():
    wanted = {"s": pa.struct([("a", pa.int64()), ("b", pa.string())]), "d": pa.decimal128(5, 2)}
    batch = pa.record_batch(
        {"s": [{"a": 1}], "d": [decimal.Decimal("1.5")], "x": [2]},
        schema=pa.schema(
            [("s", pa.struct([("a", pa.int8())])), ("d", pa.decimal128(3, 1)), ("x", pa.int8())]
        ),
    )
    cast = cast_columns(batch, wanted)
    assert cast.schema.field("s").type == pa.struct([("a", pa.int64())])
    assert cast.schema.field("x").type == pa.int8()
    assert cast.to_pylist() == batch.to_pylist()


@pytest.mark.parametrize(
    ("kind", "holds"),
    [(NULLS, True), (pa.list_(NULLS), True), (pa.struct([("a", NULLS)]), True), (INTS[0], False)],
)
def test_type_of_nulls_is_found_within_lists_and_structs(kind, holds):
    assert holds_null(kind) is holds
