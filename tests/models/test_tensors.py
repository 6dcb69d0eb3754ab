from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.models.outputs import output_type, to_column
from scoreline.models.runtimes.saved_model import to_tensor
from scoreline.models.signature import InputColumn, TensorSpec
from scoreline.models.strings import ArrowStrings, StringCodes
from scoreline.models.tensors import (
    fill_nulls,
    prepare,
    to_values,
)
from tests.strategies import number_columns, text_columns

TEXT = InputColumn(TensorSpec("s", "string", (None,)), "s")


def as_bytes(array):
    return [
        None if v is None else v.encode() if isinstance(v, str) else v for v in array.to_pylist()
    ]


@given(text_columns(nulls=False), st.data())
def test_text_becomes_the_same_strings_for_any_slice(column, data):
    start = data.draw(st.integers(0, len(column)))
    stop = data.draw(st.integers(start, len(column)))
    for part, first, last in (
        (column, start, stop),
        (column.slice(start, stop - start), 0, stop - start),
    ):
        tensor = to_tensor(to_values(part, TEXT).rows(first, last))
        assert tensor.numpy().tolist() == as_bytes(column)[start:stop]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_numbers_become_the_same_numbers_for_any_slice(dtype):
    spec = TensorSpec("x", dtype, (None, 1))

    @given(number_columns(dtype, nulls=False), st.integers(0, 5))
    def check(column, start):
        part = column.slice(start)
        tensor = to_tensor(to_values(part, InputColumn(spec, "x")).rows(0, len(part)))
        assert tensor.shape == (len(part), 1)
        assert tensor.dtype.name == dtype
        np.testing.assert_array_equal(
            tensor.numpy().reshape(-1), np.array(part.to_pylist(), dtype), strict=True
        )

    check()


@given(text_columns())
def test_filled_text_has_the_fill_where_nulls_were(column):
    filled = fill_nulls(column, TEXT._replace(fill="fü".encode()))

    assert filled.null_count == 0
    assert as_bytes(filled) == ["fü".encode() if v is None else v for v in as_bytes(column)]
    tensor = to_tensor(to_values(filled, TEXT).rows(0, len(filled)))
    assert tensor.numpy().tolist() == as_bytes(filled)


@given(number_columns("int64"))
def test_filled_numbers_hold_a_fill_wider_than_the_column(column):
    source = InputColumn(TensorSpec("n", "int64", (None,)), "n", 2**40)
    assert fill_nulls(column, source).to_pylist() == [
        2**40 if v is None else v for v in column.to_pylist()
    ]


def test_column_of_nulls_only_is_filled():
    source = InputColumn(TensorSpec("x", "float32", (None,)), "x", 1.5)
    assert fill_nulls(pa.nulls(3), source).to_pylist() == [1.5] * 3


@given(text_columns() | number_columns("float32"))
def test_without_a_fill_nulls_stay(column):
    assert fill_nulls(column, TEXT).to_pylist().count(None) == column.to_pylist().count(None)


def test_nulls_are_never_converted():
    with pytest.raises(ValueError, match="Input 's': expected no nulls, got 1"):
        to_values(pa.array(["a", None]), TEXT)
    hidden = pa.array(["a", None]).dictionary_encode(null_encoding="encode")
    with pytest.raises(ValueError, match="expected no nulls, got 1"):
        to_values(hidden, TEXT)


def test_null_of_a_dictionary_that_no_row_has_is_no_null():
    column = pa.DictionaryArray.from_arrays(pa.array([1, 1], pa.int8()), pa.array([None, "a"]))
    assert to_values(column, TEXT).rows(0, 2).to_objects().tolist() == [b"a", b"a"]


def test_numbers_that_fit_are_not_copied():
    column = pa.array(np.arange(1000, dtype=np.float32))
    source = InputColumn(TensorSpec("x", "float32", (None,)), "x")
    values = to_values(column.slice(10), source).rows(0, 990)
    assert values.ctypes.data == column.buffers()[1].address + 40


def test_dictionary_text_keeps_its_codes():
    column = pa.array(["a", "b", "a"]).dictionary_encode()
    values = to_values(column, TEXT).rows(0, 3)
    assert isinstance(values, StringCodes)
    assert values.strings.to_list() == [b"a", b"b"]
    assert values.to_objects().tolist() == [b"a", b"b", b"a"]


@pytest.mark.parametrize(
    ("shape", "array", "column"),
    [
        ((None,), np.array([1.0, 2.0], np.float32), pa.array([1, 2], pa.float32())),
        ((None, 1), np.array([[1.0], [2.0]], np.float32), pa.array([1, 2], pa.float32())),
        (
            (None, 2),
            np.array([[1, 2], [3, 4]], np.float32),
            pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2)),
        ),
        (
            (None, 2, 1),
            np.array([[[1], [2]], [[3], [4]]], np.float32),
            pa.array([[[1], [2]], [[3], [4]]], pa.list_(pa.list_(pa.float32(), 1), 2)),
        ),
        (
            (None, None),
            np.array([[1, 2], [3, 4]], np.float32),
            pa.array([[1, 2], [3, 4]], pa.list_(pa.float32())),
        ),
        (
            (None, None, 2),
            np.zeros((2, 0, 2), np.float32),
            pa.array([[], []], pa.list_(pa.list_(pa.float32(), 2))),
        ),
    ],
)
def test_outputs_become_columns_of_the_announced_type(shape, array, column):
    spec = TensorSpec("score", "float32", shape)
    got = to_column(array, spec, 2)
    assert got == column
    assert got.type == output_type(spec)


def as_objects(values):
    return np.array(values, object)


def as_arrow(values):
    return ArrowStrings(pa.array(values, pa.large_binary()), (len(values),))


@pytest.mark.parametrize("output", [as_objects, as_arrow])
def test_text_outputs_become_strings(output):
    spec = TensorSpec("label", "string", (None,))
    text = to_column(output([b"a", "ü".encode()]), spec, 2)
    assert text.to_pylist() == ["a", "ü"]
    assert text.type == output_type(spec)
    raw = output([b"\xff"])
    with pytest.raises(ValueError, match=r"expected UTF-8 text, .* 'label=binary\(label\)'"):
        to_column(raw, spec, 1)
    kept = to_column(raw, spec, 1, "binary")
    assert kept == pa.array([b"\xff"])
    assert kept.type == output_type(spec, "binary")


def test_text_outputs_of_several_values_become_lists():
    spec = TensorSpec("label", "string", (None, 2))
    strings = ArrowStrings(pa.array(list("abcd"), pa.large_binary()), (2, 2))
    column = to_column(strings, spec, 2)
    assert column.to_pylist() == [["a", "b"], ["c", "d"]]
    assert column.type == output_type(spec)
    with pytest.raises(ValueError, match=r"has shape \[2, 2\] for 4 rows"):
        to_column(strings, spec, 4)


@pytest.mark.parametrize("array", [np.float32(1), np.zeros(3, np.float32)])
def test_output_without_one_entry_for_each_row_is_an_error(array):
    with pytest.raises(ValueError, match=r"Output 'score' has shape .* for 2 rows"):
        to_column(np.asarray(array), TensorSpec("score", "float32", (None,)), 2)


def test_output_of_another_shape_than_promised_is_an_error():
    spec = TensorSpec("score", "float32", (None, 3))
    with pytest.raises(ValueError, match=r"has shape \[2, 2\]; the signature promises float32"):
        to_column(np.zeros((2, 2), np.float32), spec, 2)


def test_integers_above_2_to_the_53_are_exact():
    column = pa.array([2**53 + 1, -(2**63), None], pa.int64())
    source = InputColumn(TensorSpec("n", "int64", (None,)), "n", 2**62 + 1)
    tensor = to_tensor(to_values(prepare(column, source), source).rows(0, 3))
    assert tensor.numpy().tolist() == [2**53 + 1, -(2**63), 2**62 + 1]


@pytest.mark.parametrize("view", [pa.string_view(), pa.binary_view()])
def test_views_become_plain_strings(view):
    column = pa.array(["a", "a string too long to be inlined", ""], pa.string()).cast(view)
    values = to_values(prepare(column, TEXT), TEXT).rows(0, 3)
    assert values.to_objects().tolist() == as_bytes(column)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_floats_cross_both_ways(dtype):
    spec = TensorSpec("x", dtype, (None,))
    column = pa.array([1.5, -2.25, 0.0], pa.float16())
    source = InputColumn(spec, "x", conversion=dtype)
    tensor = to_tensor(to_values(prepare(column, source), source).rows(0, 3))
    assert tensor.dtype.name == dtype
    stored = to_column(tensor.numpy(), spec, 3)
    assert stored.type == output_type(spec)
    assert stored.to_pylist() == [1.5, -2.25, 0.0]
