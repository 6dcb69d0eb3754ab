"""Arrow lists ↔ dense arrays: compare nesting with a row's shape, check lengths, pad lists.

A row of shape [48, 48, 3] may be nested three levels deep, or be one list of 6,912 values. A
dimension of size 1 needs no level of its own. Level k of a column is its k-th list from outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.models.signature import InputColumn, TensorSpec


class Nesting(NamedTuple):
    """How an Arrow type nests: the size of each level (None if it varies), and its leaf type."""

    sizes: tuple[int | None, ...]
    leaf: pa.DataType


def is_list(data_type: pa.DataType) -> bool:
    """Return whether a type is a list, large list or fixed-size list."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(data_type) for test in tests)


def nesting_of(data_type: pa.DataType) -> Nesting:
    """Return how a type nests; a type that is not a list has no level."""
    sizes: list[int | None] = []
    while is_list(data_type):
        sizes.append(data_type.list_size if pa.types.is_fixed_size_list(data_type) else None)
        data_type = data_type.value_type
    return Nesting(tuple(sizes), data_type)


def match_levels(data_type: pa.DataType, spec: TensorSpec) -> tuple[int | None, ...] | None:
    """Return the size that each level of a column must have to fill a row of the spec.

    A size is None if it is free. The result is None if the nesting does not fit the shape.
    """
    depth = len(nesting_of(data_type).sizes)
    inner = spec.row_shape
    if depth == len(inner):
        return inner
    long = tuple(size for size in inner if size != 1)
    if depth == len(long):
        return long
    if depth == 1 and spec.row_values is not None:
        return (spec.row_values,)
    return None


def find_shape_problem(data_type: pa.DataType, source: InputColumn) -> str:
    """Return why no column of a type can fill an input's shape; "" if its rows can."""
    spec = source.tensor
    levels = match_levels(data_type, spec)
    if levels is None:
        return "Make its lists nest as the shape does, or one flat list of all values"
    for wanted, found in zip(levels, nesting_of(data_type).sizes, strict=True):
        is_ragged = wanted is None and found is None and not source.is_feature
        if is_ragged and source.pad is None:
            return (
                f"Rows may have lists of different lengths: say --pad {spec.name}=VALUE to pad "
                "them to the longest of each call"
            )
        if wanted is not None and found is not None and wanted != found:
            if found < wanted and source.pad is None:
                return f"Pad its lists of {found} with --pad {spec.name}=VALUE"
            if found > wanted and not source.truncate:
                return f"Cut its lists of {found} off with --truncate {spec.name}"
    return ""


def offsets_of(array: pa.Array) -> np.ndarray:
    """Return where each list begins among the flattened values, and where the last one ends.

    A null list counts as empty. Unlike Arrow's own offsets, these begin at 0 for a slice too.
    """
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def map_values(array: pa.Array, function: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Apply `function` to the flat values of nested lists, and return lists of the same shape."""
    if not is_list(array.type):
        return function(array)
    values = map_values(array.flatten(), function)
    if pa.types.is_fixed_size_list(array.type) and not array.null_count:
        return pa.FixedSizeListArray.from_arrays(values, array.type.list_size)
    mask = array.is_null() if array.null_count else None
    return pa.LargeListArray.from_arrays(offsets_of(array), values, mask=mask)


def find_bad_rows(array: pa.Array, source: InputColumn) -> dict[int, str]:
    """Return the rows of a column that cannot fill the input's shape: position → problem.

    Rows that are null as a whole are left out. A fixed-size list without nulls costs nothing here.
    """
    levels = match_levels(array.type, source.tensor) or ()
    problems: dict[int, str] = {}
    parents: np.ndarray | None = None
    for depth, wanted in enumerate(levels):
        if depth and array.null_count:
            _note(problems, parents, array.is_null(), "holds a null list")
        if wanted is not None:
            _check_lengths(array, wanted, source, parents, problems)
        parents = _parents_of_values(array, parents)
        array = array.flatten()
    if levels and array.null_count:
        _note(problems, parents, array.is_null(), "holds a null; give a value for it with --fill")
    return problems


def _check_lengths(
    array: pa.Array,
    wanted: int,
    source: InputColumn,
    parents: np.ndarray | None,
    problems: dict[int, str],
) -> None:
    lengths = pc.list_value_length(array)
    spread = pc.min_max(lengths).as_py()
    if spread["min"] is None or spread["min"] == spread["max"] == wanted:
        return
    name = source.tensor.name
    if source.pad is None and spread["min"] < wanted:
        short = pc.fill_null(pc.less(lengths, wanted), False)
        what = f"has fewer than {wanted} values; pad with --pad {name}=VALUE"
        _note(problems, parents, short, what)
    if not source.truncate and spread["max"] > wanted:
        long = pc.fill_null(pc.greater(lengths, wanted), False)
        _note(problems, parents, long, f"has more than {wanted} values; cut with --truncate {name}")


def _note(problems: dict[int, str], parents: np.ndarray | None, bad: pa.Array, what: str) -> None:
    at = pc.indices_nonzero(bad).to_numpy()
    for row in (at if parents is None else parents[at]).tolist():
        problems.setdefault(row, what)


def _parents_of_values(array: pa.Array, parents: np.ndarray | None) -> np.ndarray:
    """Return the row that each value of a level belongs to."""
    direct = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    return direct if parents is None else parents[direct]


def longest(array: pa.Array) -> np.ndarray:
    """Return the number of values in each row after padding its lists to its own longest list."""
    rows = np.ones(len(array), np.int64)
    parents = np.arange(len(array))
    while is_list(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        widest = np.zeros(len(rows), np.int64)
        np.maximum.at(widest, parents, lengths)
        rows *= np.maximum(widest, 1)
        parents = _parents_of_values(array, parents)
        array = array.flatten()
    return rows


def to_dense(
    array: pa.Array, spec: TensorSpec, read: Callable[[pa.Array], np.ndarray], pad: Any
) -> np.ndarray:
    """Return rows that `find_bad_rows` accepts as one array of shape [rows, *row shape].

    Args:
      array: the column, without null rows.
      spec: the input.
      read: returns the flat values as a NumPy array.
      pad: the value that fills lists that are too short; lists that are too long are cut.
    """
    levels = match_levels(array.type, spec) or ()
    rows = len(array)
    sizes: list[int] = []
    index: np.ndarray | None = None  # position of each value in the result; None if in order
    for wanted in levels:
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        most = int(lengths.max(initial=0))
        size = most if wanted is None else wanted
        in_order = index is None and (lengths == size).all()
        if not in_order:
            parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
            starts = np.cumsum(lengths) - lengths
            within = np.arange(len(parents)) - starts[parents]
            before = np.arange(len(array)) if index is None else index
            index = np.where(
                (within < size) & (before[parents] >= 0), before[parents] * size + within, -1
            )
        sizes.append(size)
        array = array.flatten()
    values = read(array)
    if index is not None:
        dense = np.full(rows * math.prod(sizes), pad, values.dtype)
        kept = index >= 0
        dense[index[kept]] = values[kept]
        values = dense
    return values.reshape(rows, *_fill_in(spec.row_shape, sizes))


def _fill_in(inner: Sequence[int | None], sizes: Sequence[int]) -> tuple[int, ...]:
    """Return a row's shape, its free dimensions replaced by the sizes of the levels."""
    if len(sizes) == len(inner):
        return tuple(sizes)
    left = iter(sizes)
    if None in inner or len(sizes) == sum(size != 1 for size in inner):
        return tuple(1 if size == 1 else next(left) for size in inner)
    return tuple(size for size in inner if size is not None)


def to_lists(
    values: pa.Array, rows: int, shape: Sequence[int], promised: Sequence[int | None]
) -> pa.Array:
    """Return flat values as one nested list for each row.

    Args:
      values: all values, rows first, last dimension fastest.
      rows: how many rows.
      shape: the actual shape of one row.
      promised: the shape in the signature: a fixed dimension becomes a fixed-size list, any other
        a list.
    """
    counts = [rows * math.prod(shape[:depth]) for depth in range(len(shape))]
    for count, size, fixed in reversed(list(zip(counts, shape, promised, strict=True))):
        if fixed is None:
            offsets = np.arange(count + 1, dtype=np.int64) * size
            values = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)
        else:
            values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


def list_type(leaf: pa.DataType, promised: Sequence[int | None]) -> pa.DataType:
    """Return the type that `to_lists` returns for values of a type."""
    for size in reversed(promised):
        leaf = pa.list_(leaf) if size is None else pa.list_(leaf, size)
    return leaf


def fill_null_lists(array: pa.Array, spec: TensorSpec) -> pa.Array:
    """Return a column of lists in which each null of the outermost level is a list of nulls.

    The lists have the sizes that the input wants. If a size is free, nulls stay nulls.
    """
    nesting = nesting_of(array.type)
    levels = match_levels(array.type, spec) or (None,)
    sizes = [has or wants for has, wants in zip(nesting.sizes, levels, strict=False)]
    value: Any = None
    for size in reversed(sizes):
        if size is None:
            return array
        value = [value] * size
    rows = np.where(array.is_valid().to_numpy(zero_copy_only=False), np.arange(len(array)), -1)
    rows[rows < 0] = len(array)
    return pa.concat_arrays([array, pa.array([value], array.type)]).take(pa.array(rows))


def without_null_lists(array: pa.Array) -> pa.Array:
    """Return a column of lists with each null of the outermost level replaced by an empty list."""
    return pa.LargeListArray.from_arrays(offsets_of(array), array.flatten())
