"""Arrays → columns: the only code that converts outputs of a model to columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from scoreline.models.shapes import list_type, to_lists
from scoreline.models.signature import Quantization, TensorSpec
from scoreline.models.strings import ArrowStrings, Output
from scoreline.models.tensors import arrow_type


def to_column(value: Output, spec: TensorSpec, rows: int, conversion: str = "") -> pa.Array:
    """Convert the result of one call for one output to a column.

    Args:
      value: the output, batch dimension first.
      spec: the output; one value per row becomes a plain column, more become nested lists.
      rows: the number of rows in the call.
      conversion: `binary` keeps the bytes of a string output, which then need not be UTF-8; `raw`
        the stored numbers of a quantized output.

    Raises:
      ValueError: the output does not hold one entry for each row, or is not UTF-8 text.
    """
    if value.ndim == 0 or value.shape[0] != rows:
        raise ValueError(
            f"Output '{spec.name}' has shape {list(value.shape)} for {rows} rows; expected its "
            "first dimension to be the number of rows"
        )
    shape = value.shape[1:]
    if isinstance(value, ArrowStrings):
        flat = _to_text(value.array, spec, conversion)
    else:
        flat = _to_flat(value.reshape(-1), spec, conversion)
    if spec.is_one_value and shape in ((), (1,)):
        return flat
    promised = spec.row_shape
    fits = len(promised) == len(shape) and all(
        size in (None, found) for size, found in zip(promised, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"Output '{spec.name}' has shape {list(value.shape)}; the signature promises {spec}"
        )
    return to_lists(flat, rows, shape, promised)


def _to_flat(values: np.ndarray, spec: TensorSpec, conversion: str) -> pa.Array:
    if spec.quantized is not None and conversion != "raw":
        return pa.array(_dequantize(values, spec.quantized))
    if spec.dtype == "bfloat16":
        return pa.array(values.astype(np.float32))
    if values.dtype != object:
        return pa.array(values)
    return _to_text(pa.array(values, pa.binary()), spec, conversion)


def _to_text(strings: pa.Array, spec: TensorSpec, conversion: str) -> pa.Array:
    as_bytes = strings.cast(pa.binary())
    if conversion == "binary":
        return as_bytes
    try:
        return as_bytes.cast(pa.string())
    except pa.ArrowInvalid as e:
        raise ValueError(
            f"Output '{spec.name}': expected UTF-8 text, got other bytes; store them as they are "
            f"with --outputs '{spec.name}=binary({spec.name})'"
        ) from e


def _dequantize(values: np.ndarray, quantized: Quantization) -> np.ndarray:
    """Return quantized numbers as real numbers: r = (q - zero point) · scale."""
    # float32 holds all steps of 8 and 16 bits.
    wide = np.dtype(np.float32 if values.dtype.itemsize < 4 else np.float64)
    steps = values.astype(wide) - quantized.zero_point
    return np.asarray(steps * wide.type(quantized.scale), np.float32)


def output_type(spec: TensorSpec, conversion: str = "") -> pa.DataType:
    """Return the Arrow type of the column that `to_column` returns for an output."""
    leaf = arrow_type(spec.to_raw().dtype if conversion == "raw" else spec.dtype)
    if spec.dtype == "string" and conversion != "binary":
        leaf = pa.string()
    return leaf if spec.is_one_value else list_type(leaf, spec.row_shape)
