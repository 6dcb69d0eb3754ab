"""Python rows → record batches, column by column, with the types of the model's inputs.

A row is a dict, a NamedTuple, a Beam Row or another object with fields. One Arrow array per input
costs far less than work on each row.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.models.conversions import CONVERSIONS, RAGGED, converted_type
from scoreline.models.signature import InputColumn
from scoreline.models.tensors import arrow_type

# Exceptions of Arrow if a value does not fit a type.
_MISFITS = (pa.ArrowException, TypeError, ValueError, OverflowError)
_MAX_SHOWN = 80
_POINTER_BYTES = 8


class RowBatch(NamedTuple):
    """The inputs of some rows.

    Attributes:
      batch: one column per input, with all rows; a value that does not fit is null.
      misfits: the reason of each row that does not fit, by position.
    """

    batch: pa.RecordBatch
    misfits: dict[int, str]


class RowReader:
    """Reads the inputs of a model from rows.

    Attributes:
      inputs: the source of each input in the record batches of `read`.
    """

    def __init__(self, inputs: Sequence[InputColumn]) -> None:
        """Read the columns that inputs name: fields of rows, `parent.child` for nested ones."""
        self._fields = [source.column for source in inputs]
        # Inputs of several dtypes may read one field; then each has its own column.
        names = [
            source.column if self._fields.count(source.column) == 1 else source.tensor.name
            for source in inputs
        ]
        self.inputs = [s._replace(column=name) for s, name in zip(inputs, names, strict=True)]

    def declared_schema(self) -> pa.Schema:
        """Return the types of the columns; None for columns with a conversion."""
        kinds = [(_types_of(source) or [pa.null()])[0] for source in self.inputs]
        return pa.schema(zip([source.column for source in self.inputs], kinds, strict=True))

    def read(self, rows: Sequence[Any]) -> RowBatch:
        """Return the inputs of rows.

        A missing key of a dict is null.

        Raises:
          ValueError: a row that is not a dict lacks a field.
        """
        misfits: dict[int, str] = {}
        columns = []
        for field, source in zip(self._fields, self.inputs, strict=True):
            values = read_field(rows, field)
            try:
                column = _to_array(values, source)
            except _MISFITS:
                column = _to_array_apart(values, source, field, misfits)
            columns.append(column)
        names = [source.column for source in self.inputs]
        return RowBatch(pa.RecordBatch.from_arrays(columns, names), misfits)


def read_field(rows: Sequence[Any], field: str) -> list[Any]:
    """Return a field of each row; `parent.child` is a nested field, which may be missing.

    Raises:
      ValueError: a row that is not a dict lacks the field.
    """
    if not rows:
        return []
    is_path = "." in field and not _has(rows[0], field)
    get: Callable[[Any], Any] = itemgetter(field) if _is_dict(rows[0]) else attrgetter(field)
    if not is_path:
        try:
            return list(map(get, rows))
        except (KeyError, AttributeError, TypeError):
            pass  # rows differ, or one lacks the field
    path = field.split(".") if is_path else [field]
    return [_follow(row, path) for row in rows]


def _is_dict(row: Any) -> bool:
    return isinstance(row, dict)


def _has(row: Any, field: str) -> bool:
    return field in row if _is_dict(row) else field in getattr(row, "__dict__", ())


def _follow(row: Any, path: Sequence[str]) -> Any:
    value = row
    for name in path:
        if value is None:
            return None
        if _is_dict(value):
            value = value.get(name)
            continue
        try:
            value = getattr(value, name)
        except AttributeError:
            raise ValueError(
                f"expected rows with a field '{'.'.join(path)}', got one with "
                f"{', '.join(fields_of(row)) or type(row).__name__}. Name another with columns"
            ) from None
    return value


def fields_of(row: Any) -> Sequence[str]:
    """Return the names of a row's fields."""
    if _is_dict(row):
        return list(row)
    return list(getattr(row, "_fields", ())) if isinstance(row, tuple) else list(vars(row))


def _to_array(values: Sequence[Any], source: InputColumn) -> pa.Array:
    """Return values as a column of the first type that fits all of them.

    Floats become the nearest float of the input's dtype. They are refused for integer dtypes.
    """
    types = _types_of(source)
    if not types:
        array = pa.array(values)
        converted_type(source.conversion, _leaf_of(array.type))
        return array
    stacked = _stack(values, source)
    if stacked is not None:
        return stacked
    for kind in types[:-1]:
        try:
            return _to_array_of(values, kind)
        except _MISFITS:
            continue
    return _to_array_of(values, types[-1])


def _types_of(source: InputColumn) -> list[pa.DataType]:
    """Return the possible types of an input's values, most likely first; empty for any type."""
    if source.conversion in CONVERSIONS:
        return []
    leaf = arrow_type(source.tensor.dtype)
    if source.conversion in RAGGED:
        return [pa.list_(leaf)] if source.conversion == "values" else []
    nested = leaf
    for _ in source.tensor.row_shape if not source.tensor.is_one_value else ():
        nested = pa.list_(nested)
    return [nested] if nested == pa.list_(leaf) else [nested, pa.list_(leaf)]


def _leaf_of(kind: pa.DataType) -> pa.DataType:
    while pa.types.is_list(kind):
        kind = kind.value_type
    return kind


def _to_array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_integer(_leaf_of(kind)):
        return pa.array(values, kind)
    if kind == _leaf_of(kind) and set(map(type, values)) <= {int, type(None)}:
        return pa.array(values, kind)
    found = pa.array(values)  # with the type given, Arrow would truncate floats
    leaf = _leaf_of(found.type)
    if not any(
        test(leaf) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
    ):
        raise TypeError(f"expected {kind}, got {found.type}")
    return found.cast(kind)


def _stack(values: Sequence[Any], source: InputColumn) -> pa.Array | None:
    """Return NumPy arrays of equal shape as lists of values; None if values are not such arrays."""
    if source.conversion or source.tensor.dtype == "string" or not values:
        return None
    first = values[0]
    if not isinstance(first, np.ndarray) or not first.ndim or first.dtype.kind not in "iufb":
        return None
    if not all(isinstance(v, np.ndarray) and v.shape == first.shape for v in values):
        return None
    if first.ndim == 1 and source.tensor.row_values is None:
        return None  # may be ragged: sizes of lists are checked row by row
    if source.tensor.row_shape not in ((), (1,)) and source.tensor.row_values != first.size:
        return None
    flat = pa.array(np.stack(values).reshape(-1)).cast(arrow_type(source.tensor.dtype))
    return pa.FixedSizeListArray.from_arrays(flat, first.size)


def _to_array_apart(
    values: Sequence[Any], source: InputColumn, field: str, misfits: dict[int, str]
) -> pa.Array:
    """Return a column with null for values that do not fit, and add the reasons to misfits."""
    flat = [v.tolist() if isinstance(v, np.ndarray) and v.ndim > 1 else v for v in values]
    kinds = [None if value is None else _type_alone(value, source) for value in flat]
    found = Counter(kind for kind in kinds if kind)
    usual = found.most_common(1)[0][0] if found else ""
    wrong = [
        row
        for row, (value, kind) in enumerate(zip(flat, kinds, strict=True))
        if value is not None and (kind != usual or not kind)
    ]
    wanted = source.conversion or str(source.tensor)
    for row in wrong:
        shown = repr(values[row])
        shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]} …"
        reason = f"input '{source.tensor.name}' (field '{field}'): expected {wanted}, got {shown}"
        misfits[row] = f"{misfits[row]}; {reason}" if row in misfits else reason
        flat[row] = None
    return _to_array(flat, source)


def _type_alone(value: Any, source: InputColumn) -> str:
    """Return the type of a column of this value alone; "" if it does not fit."""
    try:
        kind = str(_to_array([value.tolist() if hasattr(value, "tolist") else value], source).type)
    except _MISFITS:
        return ""
    return kind


def estimate_bytes(row: Any) -> int:
    """Return the approximate size of a row's values, mostly of texts and arrays."""
    values = row.values() if isinstance(row, dict) else [getattr(row, n) for n in fields_of(row)]
    return sum(_value_bytes(value) for value in values)


def _value_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, list | tuple):
        return _POINTER_BYTES * len(value) + (len(value) * _value_bytes(value[0]) if value else 0)
    return sys.getsizeof(value)


def to_python(column: pa.Array) -> list[Any]:
    """Return the values of an output column without nulls as Python objects."""
    if pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        flat = to_python(column.flatten())
        return [flat[start : start + size] for start in range(0, len(flat), size)]
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
        return values
    return column.to_pylist()
