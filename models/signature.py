"""What a model is called with: tensors with a dtype and shape, signatures, and their columns."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

DEFAULT_SIGNATURE = "serving_default"


# Arrow types whose every value the tensor dtype holds exactly. No cast may lose a value.
_INTEGERS_WITHIN = {
    "int8": ["int8"],
    "int16": ["int8", "int16", "uint8"],
    "int32": ["int8", "int16", "int32", "uint8", "uint16"],
    "int64": ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"],
    "uint8": ["uint8"],
    "uint16": ["uint8", "uint16"],
    "uint32": ["uint8", "uint16", "uint32"],
    "uint64": ["uint8", "uint16", "uint32", "uint64"],
    "bfloat16": ["int8", "uint8"],
    "float16": ["int8", "uint8"],
    "float32": ["int8", "int16", "uint8", "uint16"],
    "float64": ["int8", "int16", "int32", "uint8", "uint16", "uint32"],
}
_FLOATS_WITHIN = {
    "float16": ["halffloat"],
    "float32": ["halffloat", "float"],
    "float64": ["halffloat", "float", "double"],
}
_TEXTS = ["string", "large_string", "string_view", "binary", "large_binary", "binary_view"]
FITTING_TYPES: Mapping[str, frozenset[str]] = {
    dtype: frozenset(_INTEGERS_WITHIN.get(dtype, []) + _FLOATS_WITHIN.get(dtype, []))
    for dtype in {*_INTEGERS_WITHIN, *_FLOATS_WITHIN}
} | {"bool": frozenset({"bool"}), "string": frozenset(_TEXTS)}


class Quantization(NamedTuple):
    """How a quantized tensor stores a real number: real = (stored - zero point) · scale."""

    dtype: str
    scale: float
    zero_point: int

    def __str__(self) -> str:
        low, high = self.limits
        return (
            f"quantized: {self.dtype} q = x / {self.scale:.6g} {self.zero_point:+d}, "
            f"x from {low:.6g} to {high:.6g}"
        )

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest real number that it stores; others saturate."""
        stored = np.iinfo(self.dtype)
        return (
            (int(stored.min) - self.zero_point) * self.scale,
            (int(stored.max) - self.zero_point) * self.scale,
        )


class TensorSpec(NamedTuple):
    """One input or output: its name, dtype (TensorFlow's name) and shape, batch dimension first.

    `shape` is None if the rank is unknown. A dimension is None if its size is unknown. `optional`
    is true for an input that a row may lack: a feature of a tf.Example with a default value or of
    variable length. `quantized` tells how a quantized tensor stores real numbers. Its dtype is then
    float32 for real numbers, and that of the stored numbers for `raw(…)`.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    optional: bool = False
    quantized: Quantization | None = None

    def __str__(self) -> str:
        sizes = (
            " of unknown rank"
            if self.shape is None
            else f" [{', '.join(str(size) for size in self.shape)}]"
        )
        stored = "" if self.quantized is None else f", {self.quantized}"
        return f"{self.dtype}{sizes}{stored}"

    @property
    def is_raw(self) -> bool:
        """Whether it takes or gives the stored numbers of a quantized tensor."""
        return self.quantized is not None and self.dtype == self.quantized.dtype

    def to_raw(self) -> TensorSpec:
        """Return the spec of the stored numbers of a quantized tensor; others are not changed."""
        return self if self.quantized is None else self._replace(dtype=self.quantized.dtype)

    @classmethod
    def of_json(cls, row: list[Any]) -> TensorSpec:
        """Return the spec that was written to JSON as a list."""
        name, dtype, shape, optional, quantized = row
        return cls(
            name,
            dtype,
            None if shape is None else tuple(shape),
            optional,
            None if quantized is None else Quantization(*quantized),
        )

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """The shape of one row's value; () if the rank is unknown."""
        return () if self.shape is None else self.shape[1:]

    @property
    def is_one_value(self) -> bool:
        """Whether a row holds one value: shape [None], [None, 1] or unknown."""
        return self.row_shape in ((), (1,))

    @property
    def row_values(self) -> int | None:
        """Number of values in a row; None if it is not fixed."""
        sizes = [size for size in self.row_shape if size is not None]
        return math.prod(sizes) if len(sizes) == len(self.row_shape) else None


class Signature(NamedTuple):
    """A serving signature: its key in the model, inputs and outputs, each sorted by name.

    `example_input` names the string input that takes serialized tf.Examples. The inputs are then
    the features that the model parses from them. It is "" for a signature of plain tensors.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example_input: str = ""

    @property
    def batch_rows(self) -> int | None:
        """Rows that every call must have, if the batch dimension is fixed; else None."""
        sizes = {spec.shape[0] for spec in self.inputs if spec.shape}
        return sizes.pop() if len(sizes) == 1 else None

    def to_json(self) -> str:
        """Return this signature as one line of JSON."""
        return json.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> Signature:
        """Return the signature that `to_json` wrote."""
        name, inputs, outputs, example_input = json.loads(text)

        def specs(rows: list[list[Any]]) -> tuple[TensorSpec, ...]:
            return tuple(map(TensorSpec.of_json, rows))

        return cls(name, specs(inputs), specs(outputs), example_input)


class InputColumn(NamedTuple):
    """The column that feeds an input tensor, and how its values are prepared.

    Attributes:
      tensor: the input.
      column: a column of the table, or a field of a struct column as `parent.child`.
      fill: the value that replaces a null, of the row or within its list.
      conversion: the name of one of `scoreline.models.conversions`; "" for none.
      pad: the value that fills a list that is too short, up to the fixed size or to the longest
        list of the call.
      truncate: whether the end of a list that is too long is cut off.
      is_feature: whether the input is a feature of a tf.Example. Its lists may have any length if
        its shape is free.
    """

    tensor: TensorSpec
    column: str
    fill: bool | int | float | bytes | None = None
    conversion: str = ""
    pad: bool | int | float | bytes | None = None
    truncate: bool = False
    is_feature: bool = False

    @property
    def asked(self) -> str:
        """The name of the conversion as the user wrote it; "" for none."""
        return "raw" if self.tensor.is_raw else self.conversion


def fits(data_type: pa.DataType, dtype: str) -> bool:
    """Return whether every value of an Arrow type is exactly a value of a tensor dtype.

    A dictionary fits if its values fit. A column of Arrow's null type fits any dtype: each of its
    rows is a null. Lists are not checked here: see `scoreline.models.shapes`.
    """
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    if pa.types.is_null(data_type):
        return True
    return str(data_type) in FITTING_TYPES.get(dtype, frozenset())


def unique_names(names: Sequence[str], kind: str) -> list[str]:
    """Return names that differ, in the same order: formats allow empty and equal ones.

    An empty name becomes `<kind>_<position>`. Equal names are all numbered: `lstm_0`, `lstm_1`.
    None keeps the bare name, so that it never silently means another tensor than before.
    """
    filled = [name or f"{kind}_{position}" for position, name in enumerate(names)]
    taken = {name for name in filled if filled.count(name) == 1}
    found = []
    for name in filled:
        unique, number = name, 0
        if filled.count(name) > 1:
            while (unique := f"{name}_{number}") in taken:
                number += 1
        taken.add(unique)
        found.append(unique)
    return found


def find_unsupported(signature: Signature) -> list[str]:
    """Return one problem for each input or output that cannot be fed from, or stored as, rows."""
    problems = []
    wants = f"Signature '{signature.name}' wants input"
    for spec in signature.inputs:
        if spec.dtype not in FITTING_TYPES:
            problems.append(
                f"{wants} '{spec.name}' as {spec}; expected a dtype of "
                f"{', '.join(sorted(FITTING_TYPES))}. Export the model with such an input."
            )
        elif spec.shape == ():
            problems.append(
                f"{wants} '{spec.name}' as one value for the whole call ({spec}); expected a batch "
                "dimension. Export the model with this value fixed, or with one for each row."
            )
    sizes = {spec.shape[0] for spec in signature.inputs if spec.shape}
    if len(sizes) > 1:
        found = ", ".join(f"'{s.name}' {s}" for s in signature.inputs if s.shape)
        problems.append(
            f"Signature '{signature.name}' has inputs that do not line up with rows: {found}; "
            "expected the same first dimension for all, None or a fixed batch size. Components of "
            "a sparse tensor cannot be fed from columns: export the model with a dense, ragged or "
            "tf.Example input."
        )
    for spec in signature.outputs:
        gives = f"Signature '{signature.name}' gives output '{spec.name}' as {spec}"
        if spec.dtype not in FITTING_TYPES:
            problems.append(
                f"{gives}; expected a dtype of {', '.join(sorted(FITTING_TYPES))}. Export the "
                "model with such an output, or leave it out with --outputs."
            )
        elif spec.shape == ():
            problems.append(
                f"{gives}: one value for the whole call, not one for each row. Leave it out with "
                "--outputs, or export the model with it repeated for each row: "
                "tf.fill([tf.shape(x)[0]], value)."
            )
    return problems


def parse_value(flag: str, tensor: TensorSpec, text: str) -> bool | int | float | bytes:
    """Return the value of an option such as `--fill T=text` in the tensor's dtype.

    Raises:
      ValueError: the dtype has no such value, or cannot hold it exactly.
    """
    try:
        if tensor.dtype == "string":
            return text.encode()
        if tensor.dtype == "bool":
            return {"true": True, "false": False}[text.lower()]
        if "float" in tensor.dtype:
            return float(text)
        value = int(text)
        np.dtype(tensor.dtype).type(value)  # OverflowError when it does not fit
    except (KeyError, ValueError, OverflowError) as e:
        raise ValueError(f"{flag} {tensor.name}={text}: expected a {tensor.dtype}") from e
    return value
