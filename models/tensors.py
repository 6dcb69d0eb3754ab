"""Arrow ↔ TensorFlow: the only code that turns columns into tensors and tensors into columns.

Numbers cross without a copy where Arrow's memory allows it. Strings cross as their distinct values
plus codes, and TensorFlow gathers the one by the other: building a Python object for each row would
cost more than a small model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.signature import InputColumn, TensorSpec

if TYPE_CHECKING:
    import tensorflow as tf

_ARROW_NAMES = {"float16": "halffloat", "float32": "float", "float64": "double"}


class StringCodes(NamedTuple):
    """A string column: its distinct strings as a tensor, and the code of each row's string."""

    values: tf.Tensor
    codes: np.ndarray


def arrow_type(dtype: str) -> pa.DataType:
    """Return the Arrow type of the values of a tensor dtype; strings are binary."""
    return pa.binary() if dtype == "string" else pa.type_for_alias(_ARROW_NAMES.get(dtype, dtype))


def fill_nulls(array: pa.Array, source: InputColumn) -> pa.Array:
    """Return the column with its nulls replaced by the input's fill value, if it has one.

    Without a fill value nulls stay: they are errors of their rows. Dictionary-encoded columns stay
    dictionary-encoded, and a null may stand among a dictionary's values as well as its indices.
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


def to_values(array: pa.Array, spec: TensorSpec) -> np.ndarray | StringCodes:
    """Return a column without nulls in the form that `to_tensor` slices and converts.

    Raises:
      ValueError: the column holds nulls.
    """
    if array.null_count:
        raise ValueError(f"Input '{spec.name}': expected no nulls, got {array.null_count}")
    if spec.dtype == "string":
        return _to_codes(array)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.to_numpy(zero_copy_only=False).astype(spec.dtype, copy=False)


def _to_codes(array: pa.Array) -> StringCodes:
    import tensorflow as tf

    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    values = array.dictionary.cast(pa.large_binary())
    return StringCodes(
        tf.constant(values.to_pylist(), tf.string, shape=[len(values)]), array.indices.to_numpy()
    )


def to_tensor(
    values: np.ndarray | StringCodes, spec: TensorSpec, start: int, stop: int
) -> tf.Tensor:
    """Return rows start to stop as a tensor of the shape the signature wants."""
    import tensorflow as tf

    if isinstance(values, StringCodes):
        tensor = tf.raw_ops.GatherV2(  # tf.gather's checks cost six times the call
            params=values.values, indices=values.codes[start:stop], axis=0
        )
    else:
        tensor = tf.constant(values[start:stop])
    if spec.shape is not None and len(spec.shape) == 2:
        return tf.reshape(tensor, [stop - start, 1])
    return tensor


def to_column(values: list[np.ndarray], spec: TensorSpec, rows: int) -> pa.Array:
    """Return what the calls for one record batch gave for one output, as one column.

    Args:
      values: the output of each call, in row order, batch dimension first.
      spec: the output; shape [None] or [None, 1] gives scalars, [None, k] fixed-size lists of k.
      rows: the number of rows those calls were given in total.

    Raises:
      ValueError: the outputs do not hold one entry for each row.
    """
    whole = values[0] if len(values) == 1 else np.concatenate(values)
    if whole.ndim == 0 or whole.shape[0] != rows:
        raise ValueError(
            f"Output '{spec.name}' has shape {list(whole.shape)} for {rows} rows; expected its "
            "first dimension to be the number of rows"
        )
    size = int(np.prod(whole.shape[1:], dtype=np.int64))
    flat = _to_flat(whole.reshape(-1), spec)
    is_vector = whole.ndim > 1 and (size != 1 or spec.row_size not in (None, 1))
    return pa.FixedSizeListArray.from_arrays(flat, size) if is_vector else flat


def _to_flat(values: np.ndarray, spec: TensorSpec) -> pa.Array:
    if values.dtype != object:
        return pa.array(values)
    as_bytes = pa.array(values, pa.binary())
    try:
        return as_bytes.cast(pa.string())
    except pa.ArrowInvalid as e:
        raise ValueError(f"Output '{spec.name}': expected UTF-8 text, got other bytes") from e


def output_type(spec: TensorSpec) -> pa.DataType:
    """Return the Arrow type of the column that `to_column` makes of an output."""
    scalar = pa.string() if spec.dtype == "string" else arrow_type(spec.dtype)
    if spec.row_size is not None and spec.row_size != 1:
        return pa.list_(scalar, spec.row_size)
    return scalar


def zeros(spec: TensorSpec, rows: int) -> Any:
    """Return a column of zeros, false or empty strings: input for a warm-up call."""
    blank = {"string": b"", "bool": False}.get(spec.dtype, 0)
    return pa.repeat(pa.scalar(blank, arrow_type(spec.dtype)), rows)
