"""Flags about the model: where it is, what feeds it, what is stored of it, how it is called."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.models.conversions import CONVERSIONS, RAGGED, parse_conversion
from scoreline.models.fit import FitOptions
from scoreline.pipelines.options.command_parser import HOW, MODEL, CommandParser
from scoreline.pipelines.options.reader import OptionReader


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """Checked settings about the model.

    Attributes:
      path: `--model`.
      signature: the signature to call.
      fit: what is asked for about inputs and outputs.
      op_libraries: shared libraries with custom ops.
      digest: the digest that the model must have; None for any.
      batch_rows: rows of a call; None finds a good size.
      batch_timeout_s: the most seconds of a record batch, in a process of its own; None for no
        limit.
    """

    path: str
    signature: str = "serving_default"
    fit: FitOptions = dataclasses.field(default_factory=FitOptions)
    op_libraries: tuple[str, ...] = ()
    digest: str | None = None
    batch_rows: int | None = None
    batch_timeout_s: float | None = None


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    model = parser.group(MODEL)
    model.add_argument(
        "--model", metavar="PATH", help="SavedModel directory, .keras file or .tflite file"
    )
    model.add_argument(
        "--signature",
        metavar="NAME",
        default="serving_default",
        help="signature to call (default: serving_default)",
    )
    _add_fit_flags(model)
    model.add_argument(
        "--load_op_library",
        metavar="PATH",
        action="append",
        help="shared library with custom ops, loaded before the model; repeatable",
    )
    model.add_argument(
        "--model_digest", metavar="sha256:…", help="refuse any model with another digest"
    )
    _add_call_flags(parser)


def _add_fit_flags(model: argparse._ArgumentGroup) -> None:
    model.add_argument(
        "--columns",
        metavar="T=C,…",
        action="append",
        help="input tensor T is column C, where their names differ; parent.child is a field of "
        f"a struct, and T=f(C) converts it, where f is one of {', '.join(CONVERSIONS)}; "
        f"{' and '.join(RAGGED)} make the components of a ragged tensor",
    )
    model.add_argument(
        "--fill",
        metavar="T=VALUE",
        action="append",
        help="value for nulls of input T; repeatable. Without it a null is an error of its row",
    )
    model.add_argument(
        "--pad",
        metavar="T=VALUE",
        action="append",
        help="pad lists of input T that are too short, to its fixed size or to the longest of "
        "a call; repeatable",
    )
    model.add_argument(
        "--truncate",
        metavar="T,…",
        help="cut off lists of input T that are too long. Without it they are errors of rows",
    )
    model.add_argument(
        "--outputs",
        metavar="T[=C],…",
        action="append",
        help="output tensors to store, and their columns (default: all, named as they are); "
        "T=binary(C) stores the bytes of a string output, which need not be text",
    )


def _add_call_flags(parser: CommandParser) -> None:
    how = parser.group(HOW)
    how.add_argument(
        "--batch_rows",
        metavar="auto|N",
        default="auto",
        help="rows per model call (default: auto, found while scoring)",
    )
    how.add_argument(
        "--batch_timeout_s",
        metavar="S",
        help="most seconds a record batch may take in the model, which then runs in a process "
        "of its own for each worker: rows that hang or crash it become dead letters",
    )


def read_model(given: argparse.Namespace, read: OptionReader) -> ModelSettings:
    """Return the settings; adds what is wrong with them to the problems."""
    columns = read.pairs("--columns", given.columns, "T=C")
    for text in columns.values():
        try:
            parse_conversion(text)
        except ValueError as e:
            read.problems.add(f"--columns: {e}")
    is_auto = given.batch_rows == "auto"
    return ModelSettings(
        path=read.local("--model", read.required("--model", given.model)),
        signature=given.signature,
        fit=FitOptions(
            columns=columns,
            fills=read.values("--fill", given.fill),
            pads=read.values("--pad", given.pad),
            truncate=read.names("--truncate", given.truncate or ""),
            outputs=read.outputs(given.outputs),
        ),
        op_libraries=read.files("--load_op_library", given.load_op_library),
        digest=read.digest(given.model_digest),
        batch_rows=None if is_auto else read.positive("--batch_rows", given.batch_rows, "auto or "),
        batch_timeout_s=read.seconds("--batch_timeout_s", given.batch_timeout_s),
    )
