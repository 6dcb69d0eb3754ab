"""Columns → arrays: the only code that converts columns to tensor values.

Numbers are not copied if Arrow's memory layout allows it. Strings that repeat become their distinct
values plus codes, and the runtime gathers the values by code. Others stay in Arrow's memory: one
Python object for each row would cost more than a small model.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.models.conversions import RAGGED, LossyValue, convert
from scoreline.models.shapes import (
    fill_null_lists,
    find_bad_rows,
    is_list,
    longest,
    map_values,
    match_levels,
    offsets_of,
    to_dense,
    to_lists,
    without_null_lists,
)
from scoreline.models.signature import InputColumn, TensorSpec
from scoreline.models.strings import ArrowStrings, StringCodes, Strings, Value

_ARROW_NAMES = {"float16": "halffloat", "float32": "float", "float64": "double"}
# Maximum values in one call of lists that are padded to the longest list of the call.
_MAX_PADDED_VALUES = 1 << 25
# Sample size for guessing whether the strings of a column repeat.
_SAMPLE_STRINGS = 256


class Values(Protocol):
    """A prepared column: slices of it are arguments of model calls."""

    def rows(self, start: int, stop: int) -> Value:
        """Return the argument of a call for rows start to stop."""

    def limit(self, start: int, stop: int) -> int:
        """Return where a call that begins at start must end, at most stop."""


class _Dense(NamedTuple):
    """One array of all rows."""

    array: np.ndarray
    strings: Strings | None = None

    def rows(self, start: int, stop: int) -> Value:
        part = self.array[start:stop]
        return part if self.strings is None else StringCodes(self.strings, part)

    def limit(self, start: int, stop: int) -> int:
        return stop


class _Padded(NamedTuple):
    """Lists that are padded to the longest of each call."""

    array: pa.Array
    spec: TensorSpec
    pad: Any
    sizes: np.ndarray
    strings: Strings | None = None

    def rows(self, start: int, stop: int) -> Value:
        lists = self.array.slice(start, stop - start)
        part = to_dense(lists, self.spec, _reader(self.spec), self.pad)
        return part if self.strings is None else StringCodes(self.strings, part)

    def limit(self, start: int, stop: int) -> int:
        held = np.maximum.accumulate(self.sizes[start:stop]) * np.arange(1, stop - start + 1)
        return start + max(1, int(np.searchsorted(held, _MAX_PADDED_VALUES, side="right")))


class _PlainStrings(NamedTuple):
    """Strings that rarely repeat: finding the distinct ones would cost more than it saves."""

    array: pa.Array
    row_shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> Value:
        part = self.array.slice(start, stop - start)
        return ArrowStrings(part, (stop - start, *self.row_shape))

    def limit(self, start: int, stop: int) -> int:
        return stop


class _RaggedValues(NamedTuple):
    """The values of all lists of a call."""

    offsets: np.ndarray
    array: np.ndarray
    strings: Strings | None = None

    def rows(self, start: int, stop: int) -> Value:
        part = self.array[self.offsets[start] : self.offsets[stop]]
        return part if self.strings is None else StringCodes(self.strings, part)

    def limit(self, start: int, stop: int) -> int:
        return stop


class _RowSplits(NamedTuple):
    """Where each list of a call begins among the values, and where the last one ends."""

    offsets: np.ndarray

    def rows(self, start: int, stop: int) -> Value:
        return self.offsets[start : stop + 1] - self.offsets[start]

    def limit(self, start: int, stop: int) -> int:
        return stop


def arrow_type(dtype: str) -> pa.DataType:
    """Return the Arrow type of the values of a tensor dtype; strings are binary.

    Arrow has no bfloat16: its values are stored as float32, which holds all of them exactly.
    """
    if dtype == "string":
        return pa.binary()
    if dtype == "bfloat16":
        return pa.float32()
    return pa.type_for_alias(_ARROW_NAMES.get(dtype, dtype))


def numpy_type(dtype: str) -> np.dtype:
    """Return the NumPy type of a tensor dtype."""
    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(object if dtype == "string" else dtype)


def prepare(array: pa.Array, source: InputColumn) -> pa.Array:
    """Convert a column and fill its nulls, as its input asks; the types must fit.

    Nulls stay if there is no fill value: they are errors of their rows. If lists are padded, a null
    list counts as empty. If they are not, a fill value replaces each value of a null list.
    Dictionary-encoded columns stay dictionary-encoded.
    """
    if isinstance(array.type, pa.ExtensionType):
        array = array.storage
    if is_list(array.type):
        if array.null_count and source.pad is not None:
            array = without_null_lists(array)
        elif array.null_count and source.fill is not None and source.conversion not in RAGGED:
            array = fill_null_lists(array, source.tensor)
        if not source.conversion and source.fill is None and not _is_view(array.type):
            return array
        return map_values(array, lambda values: _prepare_values(values, source))
    return _prepare_values(array, source)


def find_lossy_rows(array: pa.Array, source: InputColumn) -> list[int]:
    """Return the rows of a column whose values the input's conversion would change."""
    found, todo = [], [(0, len(array))]
    while todo:
        start, stop = todo.pop()
        try:
            prepare(array.slice(start, stop - start), source)
        except LossyValue:
            if stop - start == 1:
                found.append(start)
                continue
            middle = (start + stop) // 2
            todo += [(start, middle), (middle, stop)]
    return found


def count_saturated(array: pa.Array, spec: TensorSpec) -> int:
    """Return how many real numbers of a prepared column a quantized input cannot hold.

    The model gets the nearest number that it can hold. Stored numbers never saturate.
    """
    if spec.quantized is None or spec.is_raw:
        return 0
    while is_list(array.type):
        array = array.flatten()
    low, high = spec.quantized.limits
    half = spec.quantized.scale / 2  # rounding brings these to the limits
    beyond = pc.or_(pc.less(array, low - half), pc.greater(array, high + half))
    return pc.sum(beyond).as_py() or 0


def _is_view(data_type: pa.DataType) -> bool:
    return "_view" in str(data_type)


def _prepare_values(array: pa.Array, source: InputColumn) -> pa.Array:
    if _is_view(array.type):
        is_text = pa.types.is_string_view(array.type)
        array = array.cast(pa.large_string() if is_text else pa.large_binary())
    return fill_nulls(convert(source.conversion, array), source)


def fill_nulls(array: pa.Array, source: InputColumn) -> pa.Array:
    """Return plain values with their nulls replaced by the input's fill value, if it has one.

    A dictionary can have nulls among its values as well as among its indices.
    """
    if pa.types.is_dictionary(array.type) and array.dictionary.null_count:
        array = array.dictionary_decode()
    if not array.null_count or source.fill is None:
        return array
    if pa.types.is_null(array.type):
        return pa.repeat(pa.scalar(source.fill, arrow_type(source.tensor.dtype)), len(array))
    if pa.types.is_dictionary(array.type):
        if source.tensor.dtype != "string":
            return fill_nulls(array.dictionary_decode(), source)
        fill = pa.array([source.fill], pa.binary()).cast(array.dictionary.type)
        return pa.DictionaryArray.from_arrays(
            pc.fill_null(array.indices.cast(pa.int32()), len(array.dictionary)),
            pa.concat_arrays([array.dictionary, fill]),
        )
    if source.tensor.dtype == "string":
        return pc.fill_null(array, pa.scalar(source.fill, pa.binary()).cast(array.type))
    wide = array.cast(arrow_type(source.tensor.dtype))
    return pc.fill_null(wide, pa.scalar(source.fill, wide.type))


def to_values(array: pa.Array, source: InputColumn) -> Values:
    """Return a prepared column, without bad rows, in a form that is cheap to slice.

    Raises:
      ValueError: a row is null, or its lists do not fill the input's shape.
    """
    spec = source.tensor
    if array.null_count:
        raise ValueError(f"Input '{spec.name}': expected no nulls, got {array.null_count}")
    if not is_list(array.type):
        return _to_dense_values(array, source)
    if source.conversion in RAGGED:
        return _to_ragged(array, source)
    bad = find_bad_rows(array, source)
    if bad:
        row, problem = min(bad.items())
        raise ValueError(f"Input '{spec.name}': row {row} {problem}")
    return _to_dense_values(array, source)


def _to_dense_values(array: pa.Array, source: InputColumn) -> Values:
    spec, pad, strings = source.tensor, source.pad, None
    if spec.dtype == "string" and _is_distinct(array):
        return _PlainStrings(array, tuple(1 for _ in spec.row_shape))
    if spec.dtype == "string":
        array, strings = _encode_strings(array, source.pad)
        pad = len(strings.array) - 1
    if pad is None:
        pad = 0  # nothing is padded
    if source.pad is not None and None in (match_levels(array.type, spec) or ()):
        return _Padded(array, spec, pad, longest(array), strings)
    return _Dense(to_dense(array, spec, _reader(spec), pad), strings)


def _is_distinct(array: pa.Array) -> bool:
    """Return whether plain strings rarely repeat, judged by the first few."""
    if is_list(array.type) or pa.types.is_dictionary(array.type) or len(array) < _SAMPLE_STRINGS:
        return False
    return 2 * len(array.slice(0, _SAMPLE_STRINGS).unique()) > _SAMPLE_STRINGS


def _to_ragged(array: pa.Array, source: InputColumn) -> Values:
    offsets = offsets_of(array)
    if source.conversion == "row_splits":
        return _RowSplits(offsets.astype(numpy_type(source.tensor.dtype)))
    strings = None
    if source.tensor.dtype == "string":
        array, strings = _encode_strings(array, None)
    return _RaggedValues(offsets, _reader(source.tensor)(array.flatten()), strings)


def _reader(spec: TensorSpec) -> Any:
    """Return the function that converts plain values to a NumPy array; strings become codes."""
    if spec.dtype == "string":
        return lambda values: values.indices.to_numpy(zero_copy_only=False)
    dtype = numpy_type(spec.dtype)

    def read(values: pa.Array) -> np.ndarray:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return values.to_numpy(zero_copy_only=False).astype(dtype, copy=False)

    return read


def _encode_strings(array: pa.Array, pad: Any) -> tuple[pa.Array, Strings]:
    """Return a dictionary-encoded column, and its dictionary with the padding value appended."""
    found: list[pa.Array] = []

    def encode(values: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(values.type) and values.dictionary.null_count:
            values = values.dictionary_decode()
            if values.null_count:
                raise ValueError(f"expected no nulls, got {values.null_count}")
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        found.append(values.dictionary)
        return values

    encoded = map_values(array, encode)
    strings = found[0]
    if pad is not None:
        strings = pa.concat_arrays(
            [strings.cast(pa.large_binary()), pa.array([pad], pa.large_binary())]
        )
    return encoded, Strings(strings)


def blank_column(
    source: InputColumn, rows: int, free_size: int = 1, *, ones: bool = False
) -> pa.Array:
    """Return a column of zeros, false or empty strings: input for a warm-up call.

    With `ones`, of ones, true or "1": some models divide by an input.

    Dimensions of free size get `free_size` values. Components of a ragged tensor are made from
    lists of one value.
    """
    spec = source.tensor
    is_ragged = source.conversion in RAGGED
    shape = [1] if is_ragged else [free_size if s is None else s for s in spec.row_shape]
    count = rows * math.prod(shape)
    blank = {"string": b"1" if ones else b"", "bool": ones}.get(spec.dtype, int(ones))
    values = pa.repeat(pa.scalar(blank, arrow_type(spec.dtype)), count)
    return values if spec.is_one_value and not is_ragged else to_lists(values, rows, shape, shape)
