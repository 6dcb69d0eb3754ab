"""Flags of the model: its path, inputs, outputs and calls."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.models.conversions import CONVERSIONS, RAGGED, parse_conversion
from scoreline.models.fit import FitOptions
from scoreline.pipelines.options.command_parser import HOW, MODEL, CommandParser
from scoreline.pipelines.options.reader import OptionReader

# Before a folder of `scoreline optimize`: the cheapest admitted variant for this machine.
AUTO = "auto:"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """Checked settings of the model.

    Attributes:
      path: `--model`.
      signature: the signature to call.
      fit: options of inputs and outputs.
      op_libraries: shared libraries with custom ops.
      tags: of a SavedModel's MetaGraph; () for the only one, or the one for serving.
      digest: the required digest; None for any.
      batch_rows: rows per call; None for automatic.
      batch_timeout_s: maximum seconds of a record batch, in a separate process; None for no limit.
      allow_impure: the reason to go on with a model that fails the purity check; "" stops.
    """

    path: str
    signature: str = "serving_default"
    fit: FitOptions = dataclasses.field(default_factory=FitOptions)
    op_libraries: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    digest: str | None = None
    batch_rows: int | None = None
    batch_timeout_s: float | None = None
    allow_impure: str = ""


def add_flags(parser: CommandParser, *, may_start_process: bool = True) -> None:
    """Declare the flags; `may_start_process` is whether the model may run in its own process."""
    model = parser.group(MODEL)
    model.add_argument(
        "--model",
        metavar="PATH",
        help="SavedModel directory, .keras file, .tflite file or folder of a variant; or auto:DIR, "
        "the cheapest admitted variant in a folder of scoreline optimize, else its parent",
    )
    model.add_argument(
        "--signature",
        metavar="NAME",
        default="serving_default",
        help="signature to call (default: serving_default)",
    )
    model.add_argument(
        "--tags",
        metavar="TAG,…",
        help="tags of the MetaGraph in a SavedModel that has several (default: serve)",
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
    if may_start_process:
        _add_timeout_flag(parser)


def _add_fit_flags(model: argparse._ArgumentGroup) -> None:
    model.add_argument(
        "--columns",
        metavar="T=C,…",
        action="append",
        help="input tensor T is column C, if their names differ; parent.child is a field of a "
        f"struct; T=f(C) converts it, with f one of {', '.join(CONVERSIONS)}; "
        f"{' and '.join(RAGGED)} make the components of a ragged tensor; raw and scaled tell what "
        "integers mean to a quantized input. A name with a comma, an equals sign or a bracket is "
        "written in double quotes",
    )
    model.add_argument(
        "--fill",
        metavar="T=VALUE",
        action="append",
        help="value that replaces nulls of input T; repeatable. Without it a null is an error of "
        "its row",
    )
    model.add_argument(
        "--pad",
        metavar="T=VALUE",
        action="append",
        help="pad lists of input T that are too short, to its fixed size or to the longest of "
        "a call; repeatable",
    )
    model.add_argument(
        "--pad_length",
        metavar="T=N",
        action="append",
        help="pad lists of input T to N values, not to the longest of a call; repeatable. Longer "
        "lists are errors of their rows, unless --truncate cuts them",
    )
    model.add_argument(
        "--truncate",
        metavar="T,…",
        help="cut lists of input T that are too long. Without it they are errors of their rows",
    )
    model.add_argument(
        "--outputs",
        metavar="T[=C],…",
        action="append",
        help="output tensors to store, and their columns (default: all, with their own names); "
        "T=binary(C) stores the bytes of a string output, which need not be text; T=raw(C) the "
        "stored numbers of a quantized one",
    )


def _add_call_flags(parser: CommandParser) -> None:
    how = parser.group(HOW)
    how.add_argument(
        "--batch_rows",
        metavar="auto|N",
        default="auto",
        help="rows per model call (default: auto, tuned while scoring)",
    )
    how.add_argument(
        "--allow_impure",
        metavar="REASON",
        help="score although the score of a row depends on other rows, on earlier calls or on "
        "chance, which is refused otherwise; commits record the reason",
    )


def _add_timeout_flag(parser: CommandParser) -> None:
    how = parser.group(HOW)
    how.add_argument(
        "--batch_timeout_s",
        metavar="S",
        help="maximum seconds of a record batch in the model, which then runs in a separate "
        "process per worker: rows that hang or crash it become dead letters",
    )


def _read_reason(text: str | None, read: OptionReader) -> str:
    if text is not None and not text.strip():
        read.problems.add("--allow_impure: expected a reason, which commits record, got none")
    return (text or "").strip()


def read_model(given: argparse.Namespace, read: OptionReader) -> ModelSettings:
    """Return the settings, and add all problems."""
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
            pad_lengths=read.values("--pad_length", given.pad_length, "T=N"),
            truncate=read.names("--truncate", given.truncate or ""),
            outputs=read.outputs(given.outputs),
        ),
        tags=read.names("--tags", given.tags or ""),
        op_libraries=read.files("--load_op_library", given.load_op_library),
        digest=read.digest(given.model_digest),
        batch_rows=None if is_auto else read.positive("--batch_rows", given.batch_rows, "auto or "),
        batch_timeout_s=read.seconds("--batch_timeout_s", getattr(given, "batch_timeout_s", None)),
        allow_impure=_read_reason(given.allow_impure, read),
    )
