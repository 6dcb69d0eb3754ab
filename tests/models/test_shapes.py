from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.models.shapes import find_bad_rows, is_list, map_values, to_dense, to_lists
from scoreline.models.signature import InputColumn, TensorSpec
from scoreline.models.tensors import prepare, to_values

KINDS = st.sampled_from([pa.list_, pa.large_list])
ROWS = st.lists(st.lists(st.integers(-99, 99), max_size=5), max_size=8)
DEEP = st.lists(
    st.lists(st.lists(st.integers(-99, 99), max_size=3), max_size=3), min_size=1, max_size=6
)


def dense(array, shape, pad=None, truncate=False, dtype="int64"):
    source = InputColumn(TensorSpec("x", dtype, (None, *shape)), "x", None, "", pad, truncate)
    return to_values(prepare(array, source), source).rows(0, len(array))


def padded(rows, sizes, pad):
    """Return nested rows, cut and padded to sizes, in plain Python."""
    if not sizes:
        return rows
    filled = [padded(value, sizes[1:], pad) for value in rows[: sizes[0]]]
    blank = np.full(sizes[1:], pad).tolist()
    return filled + [blank] * (sizes[0] - len(filled))


@given(ROWS, KINDS, st.integers(0, 3), st.integers(0, 3))
def test_lists_are_padded_and_cut_to_a_fixed_size(rows, kind, first, last):
    array = pa.array(rows, kind(pa.int64()))
    part = array.slice(first, max(0, len(array) - first - last))
    wanted = [padded(row, (3,), -1) for row in part.to_pylist()]
    assert dense(part, (3,), -1, True).tolist() == wanted


@given(ROWS, KINDS)
def test_lists_are_padded_to_the_longest_of_a_call(rows, kind):
    array = pa.array(rows, kind(pa.int64()))
    source = InputColumn(TensorSpec("x", "int64", (None, None)), "x", pad=0)
    values = to_values(array, source)
    for start in range(0, len(rows), 3):
        stop = min(start + 3, len(rows))
        longest = max(map(len, rows[start:stop]))
        wanted = [padded(row, (longest,), 0) for row in rows[start:stop]]
        assert values.rows(start, stop).tolist() == wanted


@given(DEEP)
def test_nested_lists_are_padded_on_every_level(rows):
    array = pa.array(rows, pa.list_(pa.list_(pa.int64())))
    assert dense(array, (2, 2), 7, True).tolist() == [padded(row, (2, 2), 7) for row in rows]
    wide = max(map(len, rows))
    deep = max((len(inner) for row in rows for inner in row), default=0)
    got = dense(array, (None, None), 7)
    assert got.tolist() == [padded(row, (wide, deep), 7) for row in rows]


@pytest.mark.parametrize(
    ("array", "shape", "wanted"),
    [
        (pa.array([[1, 2, 3, 4]], pa.list_(pa.int64(), 4)), (2, 2), [[[1, 2], [3, 4]]]),
        (pa.array([[1, 2, 3, 4]], pa.list_(pa.int64())), (2, 2), [[[1, 2], [3, 4]]]),
        (pa.array([[1, 2]], pa.list_(pa.int64())), (2, 1), [[[1], [2]]]),
        (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), (None, 1), [[[1], [2]]]),
        (pa.array([5]), (1, 1), [[[5]]]),
        (pa.array([[[1], [2]]], pa.list_(pa.list_(pa.int64(), 1), 2)), (2, 1), [[[1], [2]]]),
    ],
)
def test_dimensions_of_size_one_and_flat_lists(array, shape, wanted):
    assert dense(array, shape).tolist() == wanted


@given(st.lists(st.lists(st.sampled_from(["a", "bb", "ü", ""]), max_size=3), max_size=6))
def test_strings_are_padded_too(rows):
    got = dense(pa.array(rows, pa.list_(pa.string())), (2,), b"-", True, "string")
    assert got.to_objects().tolist() == [
        [text.encode() for text in padded(row, (2,), "-")] for row in rows
    ]


def test_fixed_size_lists_are_not_copied():
    values = pa.array(np.arange(12, dtype=np.float32))
    column = pa.FixedSizeListArray.from_arrays(values, 3)
    got = dense(column.slice(1), (3,), dtype="float32")
    assert got.ctypes.data == values.buffers()[1].address + 12
    assert got.tolist()[0] == [3.0, 4.0, 5.0]


@given(
    st.lists(st.lists(st.integers(0, 9) | st.none(), max_size=4) | st.none(), max_size=10),
    KINDS,
)
def test_bad_rows_are_found_each_by_itself(rows, kind):
    array = pa.array(rows, kind(pa.int64()))
    source = InputColumn(TensorSpec("x", "int64", (None, 2)), "x")
    bad = find_bad_rows(array, source)
    wanted = {i for i, row in enumerate(rows) if row is not None and (len(row) != 2 or None in row)}
    assert set(bad) == wanted
    for row, problem in bad.items():
        if len(rows[row]) < 2:
            assert problem == "has fewer than 2 values; pad with --pad x=VALUE"
        elif len(rows[row]) > 2:
            assert problem == "has more than 2 values; cut with --truncate x"
        else:
            assert problem == "holds a null; give a value for it with --fill"


def test_null_lists_within_lists_belong_to_their_row():
    array = pa.array([[[1]], [None], [[2]]], pa.list_(pa.list_(pa.int64())))
    source = InputColumn(TensorSpec("x", "int64", (None, 1, 1)), "x")
    assert find_bad_rows(array, source) == {1: "holds a null list"}


def test_nulls_within_lists_are_filled_and_null_lists_are_empty_where_padded():
    array = pa.array([[1, None], None], pa.list_(pa.int64()))
    source = InputColumn(TensorSpec("x", "int64", (None, 2)), "x", 5, "", 0)
    prepared = prepare(array, source)
    assert prepared.to_pylist() == [[1, 5], []]
    assert to_values(prepared, source).rows(0, 2).tolist() == [[1, 5], [0, 0]]


@given(DEEP, st.integers(0, 2))
def test_values_are_mapped_whatever_the_nesting(rows, start):
    array = pa.array([*rows, None], pa.list_(pa.list_(pa.int64()))).slice(start)
    got = map_values(
        array, lambda values: pa.array([v * 2 for v in values.to_pylist()], pa.int64())
    )
    assert is_list(got.type)
    doubled = [row and [[v * 2 for v in inner] for inner in row] for row in array.to_pylist()]
    assert got.to_pylist() == doubled


@given(st.integers(0, 4), st.lists(st.integers(0, 3), max_size=3), st.data())
def test_outputs_of_any_rank_become_nested_lists(rows, shape, data):
    fixed = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    promised = [
        size if is_fixed and size else None for size, is_fixed in zip(shape, fixed, strict=True)
    ]
    array = np.arange(rows * int(np.prod(shape))).reshape(rows, *shape)
    got = to_lists(pa.array(array.reshape(-1)), rows, shape, promised)
    assert got.to_pylist() == array.tolist()


def test_one_huge_row_does_not_make_a_call_huge():
    rows = [[0] * (1 << 20)] + [[0]] * 100
    source = InputColumn(TensorSpec("x", "int64", (None, None)), "x", pad=0)
    values = to_values(pa.array(rows, pa.list_(pa.int64())), source)
    assert values.limit(0, 101) == 32
    assert values.limit(1, 101) == 101


def test_rows_that_do_not_fill_the_shape_never_become_an_array():
    spec = TensorSpec("x", "int64", (None, 2))
    with pytest.raises(ValueError, match="Input 'x': row 1 has fewer than 2 values"):
        to_values(pa.array([[1, 2], [3]], pa.list_(pa.int64())), InputColumn(spec, "x"))
    assert to_dense(pa.array([[1, 2]]), spec, lambda a: a.to_numpy(), 0).tolist() == [[1, 2]]
