from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.lake.files.missing import Constant, add_constants, parse_text
from scoreline.lake.files.partitions import Partition
from scoreline.models.signature import InputColumn, Signature, TensorSpec
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.plan.fit import Fit
from scoreline.pipelines.plan.missing import choose_constants


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 3))
def test_whole_numbers_are_read_exactly(value, zeros):
    text = f"{'-' if value < 0 else ''}{'0' * zeros}{abs(value)}"
    assert parse_text(text, pa.int64()).as_py() == value


@given(st.floats(allow_nan=False))
def test_floats_are_read_as_they_are_written(value):
    assert parse_text(repr(value), pa.float64()).as_py() == value


@pytest.mark.parametrize(
    ("text", "data_type", "value"),
    [
        ("0.1", pa.float32(), 0.10000000149011612),
        ("16777216", pa.float32(), 16777216.0),
        ("true", pa.bool_(), True),
        ("", pa.string(), ""),
        ("é", pa.binary(), "é".encode()),
    ],
)
def test_text_is_read_as_its_type(text, data_type, value):
    assert parse_text(text, data_type).as_py() == value


@pytest.mark.parametrize(
    ("text", "data_type"),
    [
        ("1.5", pa.int64()),
        ("0x1F", pa.int64()),
        (" 1", pa.int64()),
        ("1_000", pa.int64()),
        ("", pa.int64()),
        ("300", pa.int8()),
        ("16777217", pa.float32()),
        ("1e400", pa.float64()),
        ("9" * 400, pa.float64()),
        ("yes", pa.bool_()),
        ("1", pa.list_(pa.int64())),
    ],
)
def test_text_that_is_no_value_of_its_type_is_refused(text, data_type):
    with pytest.raises(ValueError, match="expected a "):
        parse_text(text, data_type)


def test_value_is_that_of_the_partition_or_the_one_given():
    partition = "region=a%2Fb/hour=07"
    assert Constant("hour", pa.int64()).value_in(partition).as_py() == 7
    assert Constant("region", pa.string()).value_in(partition).as_py() == "a/b"
    assert Constant("hour", pa.int64(), "3").value_in(partition).as_py() == 3


def test_constants_are_added_only_where_they_lack_and_in_the_order_asked_for():
    batch = pa.record_batch({"b": [1, 2], "a": ["x", "y"]})
    values = {"c": pa.scalar("z"), "a": pa.scalar("never"), "d": pa.scalar(1.5)}
    added = add_constants(batch, ["c", "a", "b", "d"], values)
    assert added.schema.names == ["c", "a", "b", "d"]
    assert added.to_pylist() == [
        {"c": "z", "a": "x", "b": 1, "d": 1.5},
        {"c": "z", "a": "y", "b": 2, "d": 1.5},
    ]
    assert add_constants(batch, ["b", "a"], {"a": pa.scalar("never")}) is batch


def test_value_of_a_partition_replaces_that_of_a_file():
    batch = pa.record_batch({"b": [1, 2], "a": ["x", "y"]})
    added = add_constants(batch, ["a", "b"], {"a": pa.scalar("z")}, {"a"})
    assert added.to_pylist() == [{"a": "z", "b": 1}, {"a": "z", "b": 2}]


def kinds_of(column, schemas, *inputs):
    """Return the constants for a partition column that feeds inputs, and the problems."""
    problems = Problems()
    fit = Fit(signature=Signature("s", inputs, ()), inputs=inputs, outputs=())
    partitions = [Partition("m=03", (("m", "03"),))]
    found = choose_constants({}, fit, partitions, {s: ["m=03"] for s in schemas}, problems)
    return [(c.column, str(c.data_type)) for c in found], list(problems)


@pytest.mark.parametrize(
    ("held", "dtype", "conversion", "wanted"),
    [
        ([None], "int64", "", "int64"),
        ([pa.int8()], "int64", "", "int64"),
        ([pa.string(), None], "string", "", "string"),
        ([pa.int8()], "string", "", "string"),
        ([pa.int8()], "float32", "float32", "int8"),
        ([None], "string", "", "string"),
    ],
    ids=["not in files", "in files", "in some", "text of a number", "converted", "text"],
)
def test_partition_column_has_the_type_that_its_input_takes(held, dtype, conversion, wanted):
    schemas = [pa.schema([] if kind is None else [("m", kind)]) for kind in held]
    source = InputColumn(TensorSpec("m", dtype, (None,)), "m", conversion=conversion)
    assert kinds_of("m", schemas, source) == ([("m", wanted)], [])
