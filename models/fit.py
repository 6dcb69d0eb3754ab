"""Fits a signature to columns: the sources of inputs, and the columns of outputs.

It is pure: it loads and reads nothing. All commands and the library fit models with this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import NamedTuple

from scoreline.models.conversions import RAGGED, RAW, SCALED, parse_conversion
from scoreline.models.names import list_names, quote_name, unquote_name
from scoreline.models.signature import (
    InputColumn,
    Signature,
    TensorSpec,
    find_unsupported,
    parse_value,
)

# The column of each score with the digest of its model.
DIGEST_COLUMN = "model_digest"


class OutputColumn(NamedTuple):
    """A stored output: its tensor, its column, and its conversion.

    `binary` keeps a string's bytes, `raw` the stored numbers of a quantized output.
    """

    tensor: TensorSpec
    column: str
    conversion: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FitOptions:
    """Options of inputs and outputs, as text that is not checked yet.

    Attributes:
      columns: `--columns`: by input, a column or `conversion(column)`.
      fills: `--fill`: by input, the value that replaces nulls.
      pads: `--pad`: by input, the value that fills lists that are too short.
      pad_lengths: `--pad_length`: by input of free size, the length to pad lists to.
      truncate: `--truncate`: the inputs whose lists are cut.
      outputs: `--outputs`: by output, a column, `binary(column)` or `raw(column)`; None stores all
        outputs.
    """

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fills: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pads: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pad_lengths: Mapping[str, str] = dataclasses.field(default_factory=dict)
    truncate: tuple[str, ...] = ()
    outputs: Mapping[str, str] | None = None

    @property
    def ragged(self) -> tuple[tuple[str, str], ...]:
        """The inputs that are components of ragged tensors, with their components."""
        asked = ((name, text.partition("(")[0]) for name, text in sorted(self.columns.items()))
        return tuple(
            (name, conversion)
            for name, conversion in asked
            if conversion in RAGGED and self.columns[name] != conversion
        )

    @property
    def asked_outputs(self) -> tuple[str, ...] | None:
        """The requested outputs; None for all."""
        return None if self.outputs is None else tuple(self.outputs)

    def output_column(self, name: str) -> tuple[str, str]:
        """Return the column of an output, and its conversion: `binary`, `raw` or ""."""
        if self.outputs is None or name not in self.outputs:
            return name, ""
        text = self.outputs[name]
        for conversion in ("binary", RAW):
            if text.startswith(f"{conversion}(") and text.endswith(")"):
                return unquote_name(text.removeprefix(f"{conversion}(")[:-1]), conversion
        return unquote_name(text), ""


class SignatureFit(NamedTuple):
    """The fit of a signature to columns.

    Attributes:
      inputs: the source of each input.
      outputs: the outputs to store.
      problems: the reasons why it does not fit, one sentence each.
    """

    inputs: tuple[InputColumn, ...]
    outputs: tuple[OutputColumn, ...]
    problems: tuple[str, ...] = ()


def fit_signature(
    signature: Signature,
    options: FitOptions,
    *,
    record_column: str = "",
    taken: Collection[str] = (),
) -> SignatureFit:
    """Fit a signature to options.

    Args:
      signature: the signature of the model.
      options: the options of inputs and outputs.
      record_column: the rows' column of serialized tf.Examples; "" for none.
      taken: other columns of the result: keys, kept columns, `model_digest`.
    """
    problems: list[str] = []
    wanted = options.outputs
    stored = tuple(spec for spec in signature.outputs if wanted is None or spec.name in wanted)
    problems += find_unsupported(signature._replace(outputs=stored))
    inputs = _choose_inputs(signature, options, record_column, problems)
    outputs = _choose_outputs(signature, options, taken, problems)
    return SignatureFit(tuple(inputs), tuple(outputs), tuple(problems))


def _choose_inputs(
    signature: Signature, options: FitOptions, record_column: str, problems: list[str]
) -> list[InputColumn]:
    """Return the source of each input.

    A signature that takes serialized tf.Examples gets a column of them if there is one: the column
    that `--columns` names for that input, or the records if no option names a feature. Otherwise
    its inputs are the features, which become tf.Examples for each call.
    """
    example = signature.example_input
    of_features = {
        "--columns": [name for name in options.columns if not example or name != example],
        "--fill": list(options.fills),
        "--pad": list(options.pads),
        "--pad_length": list(options.pad_lengths),
        "--truncate": list(options.truncate),
    }
    serialized = options.columns.get(example, record_column) if example else ""
    asked = [f"{flag} {name}" for flag, tensors in of_features.items() for name in tensors]
    if example and example in options.columns and asked:
        problems.append(
            f"--columns {example}={serialized} gives whole tf.Examples: expected no options of "
            f"features, got {', '.join(asked)}. Leave out the one or the others"
        )
    names = [spec.name for spec in signature.inputs]
    problems += [
        f"{flag} {name}: signature '{signature.name}' has no input '{name}'; "
        f"it has {list_names(names)}"
        for flag, tensors in of_features.items()
        for name in tensors
        if name not in names
    ]
    if serialized and not asked:
        return [InputColumn(TensorSpec(example, "string", (None,)), serialized)]
    chosen = (_choose_input(signature, options, spec, problems) for spec in signature.inputs)
    return [source for source in chosen if source is not None]


def _choose_input(
    signature: Signature, options: FitOptions, spec: TensorSpec, problems: list[str]
) -> InputColumn | None:
    asked = _parse_column(options, spec, problems)
    if asked is not None:
        spec, conversion, column = asked
    values = {}
    for flag, texts in (("--fill", options.fills), ("--pad", options.pads)):
        if spec.name in texts:
            try:
                values[flag] = parse_value(flag, spec, texts[spec.name])
            except ValueError as e:
                problems.append(str(e))
    if asked is None:
        return None
    if spec.name in options.pad_lengths:
        try:
            spec = _with_length(signature, spec, options)
        except ValueError as e:
            problems.append(str(e))
    return InputColumn(
        spec,
        column,
        values.get("--fill"),
        conversion,
        values.get("--pad"),
        spec.name in options.truncate,
        bool(signature.example_input),
    )


def _parse_column(
    options: FitOptions, spec: TensorSpec, problems: list[str]
) -> tuple[TensorSpec, str, str] | None:
    """Return the spec of an input's values, their conversion, and their column; None if wrong."""
    if spec.name not in options.columns:
        return spec, "", spec.name  # whatever the name looks like
    try:
        conversion, column = parse_conversion(options.columns[spec.name])
    except ValueError as e:
        problems.append(f"--columns: {e}")
        return None
    if conversion not in (RAW, SCALED):
        return spec, conversion, column
    if spec.quantized is None:
        problems.append(
            f"--columns {quote_name(spec.name)}={conversion}(…): expected a quantized input, "
            f"'{spec.name}' is {spec}. Name the column without {conversion}(…)"
        )
        return None
    spec = spec.to_raw() if conversion == RAW else spec
    return spec, spec.dtype, column


def _with_length(signature: Signature, spec: TensorSpec, options: FitOptions) -> TensorSpec:
    """Return an input whose free size is the one of `--pad_length`.

    Raises:
      ValueError: it has no free size or more than one, its lists are not padded, or it is a
        feature of a tf.Example, whose lists have any length.
    """
    text = options.pad_lengths[spec.name]
    flag = f"--pad_length {spec.name}={text}"
    if not text.isascii() or not text.isdigit() or not int(text):
        raise ValueError(f"{flag}: expected a whole number of at least 1, got '{text}'")
    if spec.row_shape.count(None) != 1:
        raise ValueError(
            f"{flag}: expected an input with one free size for each row, got {spec}. Leave it out"
        )
    if signature.example_input:
        raise ValueError(
            f"{flag}: expected a tensor that lists are padded for, got a feature of a tf.Example. "
            "Leave it out"
        )
    if spec.name not in options.pads:
        raise ValueError(
            f"{flag}: expected a value to pad with. Give it with --pad {spec.name}=VALUE"
        )
    sizes = (int(text) if size is None else size for size in spec.row_shape)
    return spec._replace(shape=(spec.shape[0] if spec.shape else None, *sizes))


def _choose_outputs(
    signature: Signature, options: FitOptions, taken: Collection[str], problems: list[str]
) -> list[OutputColumn]:
    specs = {spec.name: spec for spec in signature.outputs}
    outputs = []
    for name in options.outputs or specs:
        if name not in specs:
            problems.append(
                f"--outputs {name}: signature '{signature.name}' has no output '{name}'; "
                f"it has {list_names(list(specs))}"
            )
            continue
        spec = specs[name]
        column, conversion = options.output_column(name)
        if options.outputs is None and column in taken:  # given names are checked with the options
            problems.append(
                f"output '{name}' has the name of another output column. Rename it with "
                f"--outputs {quote_name(name)}=COLUMN"
            )
        if conversion == "binary" and spec.dtype != "string":
            problems.append(f"--outputs {name}: binary(…) is for strings; it is {spec}")
        if conversion == RAW and spec.quantized is None:
            problems.append(f"--outputs {name}: raw(…) is for quantized outputs; it is {spec}")
        outputs.append(
            OutputColumn(spec.to_raw() if conversion == RAW else spec, column, conversion)
        )
    return outputs
