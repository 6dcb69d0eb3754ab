"""Command line, and reading and writing of rows with Beam, for the row-wise designs."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

Row = dict[str, Any]
# NumPy's name of each TensorFlow output dtype.
_NUMPY = {"float": "float32", "double": "float64", "int32": "int32", "int64": "int64"}


def parse_args(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; fills are texts by input name, and carried columns are a list."""
    parser.add_argument("--input", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--carried", required=True)
    parser.add_argument("--fill", action="append", default=[])
    parser.add_argument("--model_digest", default="")
    args = parser.parse_args(argv)
    args.carried = args.carried.split(",")
    args.fill = dict(fill.split("=", 1) for fill in args.fill)
    return args


def read_signature(model: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the dtypes of inputs and outputs by name, without loading the model."""
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    signature = parse_saved_model(model).meta_graphs[0].signature_def["serving_default"]

    def dtypes(tensors: Any) -> dict[str, str]:
        names = types_pb2.DataType.Name
        return {k: names(v.dtype)[3:].lower() for k, v in sorted(tensors.items())}

    return dtypes(signature.inputs), dtypes(signature.outputs)


def parse_fill(dtype: str, text: str) -> Any:
    """Return a fill value with the type of Parquet's rows."""
    if dtype == "string":
        return text
    return (float if dtype in ("float", "double", "half") else int)(text)


def run(
    args: argparse.Namespace,
    columns: list[str],
    outputs: dict[str, str],
    predict: Callable[[beam.PCollection], beam.PCollection],
) -> None:
    """Read rows as dictionaries, apply `predict`, and write the rows that it returns.

    The pipeline runs in this process, on the same runner as Scoreline.
    """
    options = PipelineOptions(["--runner=FnApiRunner", "--direct_num_workers=1"])
    with beam.Pipeline(options=options) as pipeline:
        rows = pipeline | "ReadRows" >> beam.io.ReadFromParquet(
            f"{args.input}/*/*.parquet", columns=list(dict.fromkeys([*args.carried, *columns]))
        )
        _ = predict(rows) | "WriteRows" >> beam.io.WriteToParquet(
            f"{args.output}/scores",
            _schema(args, outputs),
            codec="snappy",
            file_name_suffix=".parquet",
        )


def _schema(args: argparse.Namespace, outputs: dict[str, str]) -> pa.Schema:
    """Return the schema of scored rows, which Beam requires."""
    read = pq.read_schema(next(Path(args.input).glob("*/*.parquet")))
    scores = [(name, pa.from_numpy_dtype(_NUMPY[dtype])) for name, dtype in outputs.items()]
    carried = [read.field(name) for name in args.carried]
    return pa.schema(
        [*carried, *itertools.starmap(pa.field, scores), ("model_digest", pa.string())]
    )
