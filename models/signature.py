"""Named, typed inputs and outputs of a serving signature, and what fits them.

This module imports neither TensorFlow nor Beam: a launcher checks a dataset against a signature
without paying for either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

# Arrow types whose every value the tensor dtype holds exactly. A cast that can lose is never made.
_INTEGERS_WITHIN = {
    "int8": ["int8"],
    "int16": ["int8", "int16", "uint8"],
    "int32": ["int8", "int16", "int32", "uint8", "uint16"],
    "int64": ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"],
    "uint8": ["uint8"],
    "uint16": ["uint8", "uint16"],
    "uint32": ["uint8", "uint16", "uint32"],
    "uint64": ["uint8", "uint16", "uint32", "uint64"],
    "float32": ["int8", "int16", "uint8", "uint16"],
    "float64": ["int8", "int16", "int32", "uint8", "uint16", "uint32"],
}
_FLOATS_WITHIN = {
    "float16": ["halffloat"],
    "float32": ["halffloat", "float"],
    "float64": ["halffloat", "float", "double"],
}
FITTING_TYPES: Mapping[str, frozenset[str]] = {
    dtype: frozenset(_INTEGERS_WITHIN.get(dtype, []) + _FLOATS_WITHIN.get(dtype, []))
    for dtype in {*_INTEGERS_WITHIN, *_FLOATS_WITHIN}
} | {
    "bool": frozenset({"bool"}),
    "string": frozenset({"string", "large_string", "binary", "large_binary"}),
}


class TensorSpec(NamedTuple):
    """One input or output: its name, dtype (TensorFlow's name) and shape, batch dimension first.

    `shape` is None when the rank is unknown; a dimension is None when its size is.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of unknown rank"
        return f"{self.dtype} [{', '.join(str(size) for size in self.shape)}]"

    @property
    def is_scalar_per_row(self) -> bool:
        """Whether a row holds one value: shape [None], [None, 1] or unknown."""
        return self.shape is None or (self.shape[:1] == (None,) and self.shape[1:] in ((), (1,)))

    @property
    def row_size(self) -> int | None:
        """Values per row when a row is a vector of fixed size, shape [None, k]; else None."""
        if self.shape is not None and len(self.shape) == 2 and self.shape[0] is None:
            return self.shape[1]
        return None


class Signature(NamedTuple):
    """A serving signature: its key in the SavedModel, inputs and outputs, each sorted by name."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> str:
        """Return this signature as one line of JSON."""
        return json.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> Signature:
        """Return the signature that `to_json` wrote."""
        name, inputs, outputs = json.loads(text)

        def specs(rows: list[list[Any]]) -> tuple[TensorSpec, ...]:
            return tuple(
                TensorSpec(n, dtype, None if shape is None else tuple(shape))
                for n, dtype, shape in rows
            )

        return cls(name, specs(inputs), specs(outputs))


class InputColumn(NamedTuple):
    """Where an input tensor gets its values: a column, and what stands in for a null there."""

    tensor: TensorSpec
    column: str
    fill: bool | int | float | bytes | None = None


def fits(data_type: pa.DataType, dtype: str) -> bool:
    """Return whether every value of an Arrow type is exactly a value of a tensor dtype.

    A dictionary fits when its values do; a column of Arrow's null type fits anything (each of its
    rows is a null).
    """
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    if pa.types.is_null(data_type):
        return True
    return str(data_type) in FITTING_TYPES.get(dtype, frozenset())


def find_unsupported(signature: Signature) -> list[str]:
    """Return a sentence for each input or output that tabular scoring cannot feed or store."""
    problems = []
    for spec in signature.inputs:
        if spec.dtype not in FITTING_TYPES or not spec.is_scalar_per_row:
            problems.append(
                f"Signature '{signature.name}' wants input '{spec.name}' as {spec}; expected one "
                f"value for each row, shape [None] or [None, 1], of dtype "
                f"{', '.join(sorted(FITTING_TYPES))}. Export the model with such an input."
            )
    for spec in signature.outputs:
        storable = spec.dtype in FITTING_TYPES and (
            spec.is_scalar_per_row or (spec.row_size is not None and spec.dtype != "string")
        )
        if not storable:
            problems.append(
                f"Signature '{signature.name}' gives output '{spec.name}' as {spec}; expected one "
                "value or one vector of fixed size for each row, shape [None] or [None, k]. "
                "Export the model with such an output, or leave it out with --outputs."
            )
    return problems


def find_mismatches(
    signature: Signature, inputs: Sequence[InputColumn], schema: pa.Schema
) -> dict[str, str]:
    """Return, for each input that a table of this schema cannot feed, what is wrong.

    Keys are input names; values read on from "Signature '…'" and leave out the place, so that a
    caller can say one sentence for all partitions with the same problem.
    """
    problems: dict[str, str] = {}
    for tensor, column, _ in inputs:
        wanted = f"Signature '{signature.name}' wants input '{tensor.name}' as {tensor}"
        at = schema.get_all_field_indices(column)
        if not at:
            problems[tensor.name] = (
                f"{wanted}; the table has no column '{column}'. "
                f"Add the column, or name another with --columns {tensor.name}=COLUMN"
            )
        elif len(at) > 1:
            problems[tensor.name] = (
                f"{wanted}; the table has {len(at)} columns named '{column}'. Rename all but one"
            )
        elif not fits(schema.field(at[0]).type, tensor.dtype):
            kind = schema.field(at[0]).type
            problems[tensor.name] = (
                f"{wanted}; the table has column '{column}' as {kind}. Cast it in the table, "
                f"or export the model with an input that holds every {kind}"
            )
    return problems


def parse_fill(tensor: TensorSpec, text: str) -> bool | int | float | bytes:
    """Return a `--fill` value as the tensor's dtype holds it.

    Raises:
      ValueError: the text is no value of that dtype, or not exactly one.
    """
    try:
        if tensor.dtype == "string":
            return text.encode()
        if tensor.dtype == "bool":
            return {"true": True, "false": False}[text.lower()]
        if tensor.dtype.startswith("float"):
            return float(text)
        value = int(text)
        np.dtype(tensor.dtype).type(value)  # OverflowError when it does not fit
    except (KeyError, ValueError, OverflowError) as e:
        raise ValueError(f"--fill {tensor.name}={text}: expected a {tensor.dtype}") from e
    return value
