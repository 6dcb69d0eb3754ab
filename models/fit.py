"""Fit a signature to columns: where inputs get their values, and which outputs become columns.

Pure: nothing is loaded or read. Every command and the library fit models with this file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import NamedTuple

from scoreline.models.conversions import RAGGED, parse_conversion
from scoreline.models.signature import (
    InputColumn,
    Signature,
    TensorSpec,
    find_unsupported,
    parse_value,
)

# The column of each score that tells which model gave it.
DIGEST_COLUMN = "model_digest"


class OutputColumn(NamedTuple):
    """An output that is stored: its tensor, its column, and `binary` to keep a string's bytes."""

    tensor: TensorSpec
    column: str
    conversion: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FitOptions:
    """What a user asks for about inputs and outputs; the text of each option, not yet checked.

    Attributes:
      columns: `--columns`: by input, a column or `conversion(column)`.
      fills: `--fill`: by input, what stands in for nulls.
      pads: `--pad`: by input, what lists that are too short are padded with.
      truncate: `--truncate`: the inputs whose lists are cut off.
      outputs: `--outputs`: by output, a column or `binary(column)`; None stores all outputs.
    """

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fills: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pads: Mapping[str, str] = dataclasses.field(default_factory=dict)
    truncate: tuple[str, ...] = ()
    outputs: Mapping[str, str] | None = None

    @property
    def ragged(self) -> tuple[tuple[str, str], ...]:
        """The inputs that are components of ragged tensors, and which component."""
        asked = ((name, text.partition("(")[0]) for name, text in sorted(self.columns.items()))
        return tuple(
            (name, conversion)
            for name, conversion in asked
            if conversion in RAGGED and self.columns[name] != conversion
        )

    @property
    def asked_outputs(self) -> tuple[str, ...] | None:
        """The outputs that are asked for by name; None for all."""
        return None if self.outputs is None else tuple(self.outputs)

    def output_column(self, name: str) -> tuple[str, str]:
        """Return the column of an output, and `binary` when its bytes are stored, else ""."""
        column = (self.outputs or {}).get(name, name)
        if column.startswith("binary(") and column.endswith(")"):
            return column.removeprefix("binary(")[:-1], "binary"
        return column, ""


class SignatureFit(NamedTuple):
    """How a signature is fed and stored.

    Attributes:
      inputs: where each input gets its values.
      outputs: the outputs to store.
      problems: why it cannot be done; one sentence each.
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
    """Return how a signature is fed from columns, and how its outputs are stored.

    Args:
      signature: of the model.
      options: what was asked for.
      record_column: the column of serialized tf.Examples that the rows have; "" for none.
      taken: names of output columns that are no outputs: keys, kept columns, `model_digest`.
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
    """Return where each input gets its values.

    A signature that takes serialized tf.Examples is given a column of them where there is one: the
    column that `--columns` names for that input, or the records, unless an option speaks of a
    feature. Elsewhere its inputs are the features, made to tf.Examples for each call.
    """
    example = signature.example_input
    of_features = {
        "--columns": [name for name in options.columns if not example or name != example],
        "--fill": list(options.fills),
        "--pad": list(options.pads),
        "--truncate": list(options.truncate),
    }
    serialized = options.columns.get(example, record_column) if example else ""
    asked = [f"{flag} {name}" for flag, tensors in of_features.items() for name in tensors]
    if example and example in options.columns and asked:
        problems.append(
            f"--columns {example}={serialized} gives whole tf.Examples, so nothing can be done to "
            f"a feature; got {', '.join(asked)}. Leave out the one or the others"
        )
    names = [spec.name for spec in signature.inputs]
    problems += [
        f"{flag} {name}: signature '{signature.name}' has no input '{name}'; "
        f"it has {', '.join(names)}"
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
    values = {}
    for flag, texts in (("--fill", options.fills), ("--pad", options.pads)):
        if spec.name in texts:
            try:
                values[flag] = parse_value(flag, spec, texts[spec.name])
            except ValueError as e:
                problems.append(str(e))
    try:
        conversion, column = parse_conversion(options.columns.get(spec.name, spec.name))
    except ValueError as e:
        problems.append(f"--columns: {e}")
        return None
    return InputColumn(
        spec,
        column,
        values.get("--fill"),
        conversion,
        values.get("--pad"),
        spec.name in options.truncate,
        bool(signature.example_input),
    )


def _choose_outputs(
    signature: Signature, options: FitOptions, taken: Collection[str], problems: list[str]
) -> list[OutputColumn]:
    specs = {spec.name: spec for spec in signature.outputs}
    outputs = []
    for name in options.outputs or specs:
        if name not in specs:
            problems.append(
                f"--outputs {name}: signature '{signature.name}' has no output '{name}'; "
                f"it has {', '.join(specs)}"
            )
            continue
        column, conversion = options.output_column(name)
        if options.outputs is None and column in taken:  # given names are checked with the options
            problems.append(
                f"output '{name}' has the name of another output column. Rename it with "
                f"--outputs {name}=COLUMN"
            )
        if conversion and specs[name].dtype != "string":
            problems.append(f"--outputs {name}: binary(…) is for strings; it is {specs[name]}")
        outputs.append(OutputColumn(specs[name], column, conversion))
    return outputs
