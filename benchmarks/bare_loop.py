"""The baseline: pyarrow → a SavedModel's signature → pyarrow, in the fastest plain loop.

This is the code that a user would write by hand for one run on one machine, with the settings that
measured best. It has no check, no retry, no commit and no second worker. It imports nothing of this
project.

    python benchmarks/bare_loop.py --input … --model … --carried flight_id,carrier --output …
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# Rows of a record batch (several model calls) and of a written row group.
_BATCH_ROWS = 131_072
_ROW_GROUP_ROWS = 262_144


def main(argv: Sequence[str] | None = None) -> None:
    args = _parse_args(argv)
    tf = _import_tensorflow(args.hide_keras)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = tf.saved_model.load(args.model)
    function = model.signatures["serving_default"]
    specs = function.structured_input_signature[1]
    fills = {name: _parse(specs[name], text) for name, _, text in map(_split, args.fill)}
    carried = args.carried.split(",")

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for start in range(0, batch.num_rows, args.call_rows):
                part = batch.slice(start, args.call_rows)
                tensors = {name: _to_tensor(tf, part[name], fills.get(name)) for name in specs}
                yield _to_scored(part, function(**tensors), carried, args.model_digest)

    for folder in sorted(Path(args.input).glob("*=*")):
        output = Path(args.output) / folder.name
        output.mkdir(parents=True)
        batches = _read(sorted(folder.glob("*.parquet")), [*carried, *specs])
        _write(output / "scores.parquet", score(batches))


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--carried", required=True, help="columns to copy, comma-separated")
    parser.add_argument("--fill", action="append", default=[], help="T=VALUE for nulls; repeatable")
    parser.add_argument("--model_digest", default="", help="value of the column model_digest")
    parser.add_argument("--call_rows", type=int, default=32_768, help="rows per model call")
    parser.add_argument("--hide_keras", action="store_true", help="import TensorFlow without Keras")
    return parser.parse_args(argv)


def _import_tensorflow(hide_keras: bool) -> Any:
    """Import TensorFlow as usual, or without Keras."""
    if hide_keras:
        sys.modules["keras"] = None  # type: ignore[assignment]
    import tensorflow as tf

    return tf


def _split(text: str) -> tuple[str, str, str]:
    return text.partition("=")


def _parse(spec: Any, text: str) -> Any:
    if spec.dtype.name == "string":
        return text
    return spec.dtype.as_numpy_dtype(text).item()


def _read(files: Sequence[Path], wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
    columns = list(dict.fromkeys(wanted))
    for file in files:
        schema = pq.read_schema(file)
        strings = [name for name in columns if pa.types.is_string(schema.field(name).type)]
        source = pq.ParquetFile(file, read_dictionary=strings, pre_buffer=False)
        yield from source.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)


def _to_tensor(tf: Any, array: pa.Array, fill: Any) -> Any:
    """Return a column as a tensor, with nulls replaced."""
    if not pa.types.is_dictionary(array.type):
        return tf.constant((array.fill_null(fill) if array.null_count else array).to_numpy())
    values, codes = array.dictionary.to_pylist(), array.indices
    if codes.null_count:
        codes = codes.fill_null(len(values))
        values.append(fill)
    return tf.gather(tf.constant(values, tf.string), codes.to_numpy())


def _to_scored(
    batch: pa.RecordBatch, outputs: dict[str, Any], carried: Sequence[str], digest: str
) -> pa.RecordBatch:
    digests = pa.DictionaryArray.from_arrays(np.zeros(batch.num_rows, np.int32), pa.array([digest]))
    scores = [pa.array(tensor.numpy().reshape(-1)) for tensor in outputs.values()]
    return pa.RecordBatch.from_arrays(
        [*(batch.column(name) for name in carried), *scores, digests],
        [*carried, *outputs, "model_digest"],
    )


def _write(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    """Write one file with Snappy, dictionaries for strings only, and no statistics."""
    first = next(batches)
    strings = [field.name for field in first.schema if pa.types.is_dictionary(field.type)]
    waiting, rows = [first], first.num_rows
    with pq.ParquetWriter(
        path, first.schema, use_dictionary=strings, write_statistics=False, store_schema=False
    ) as writer:
        for batch in batches:
            waiting.append(batch)
            rows += batch.num_rows
            if rows >= _ROW_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting, rows = [], 0
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))


if __name__ == "__main__":
    main()
