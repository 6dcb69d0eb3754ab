"""The rows of `tests.fakes`, written in every input format."""

from __future__ import annotations

import datetime
import gzip
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake
from pyarrow import csv
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from scoreline.lake.files.tfrecord import masked_crc
from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.fakes import make_rows, read_scores, write_file

FORMATS = ("parquet", "tfrecord", "tfrecord.gz", "csv", "csv.gz", "jsonl", "json.gz", "delta")


def flags_of(suffix: str) -> list[str]:
    """Return the options that feed the fake model from a format.

    Text has no float32 type, so the options ask for the nearest float32.
    """
    is_text = suffix.startswith(("csv", "json"))
    return ["--columns=x=float32(x)"] if is_text else []


def frame(data: bytes) -> bytes:
    """Return a record with TFRecord framing."""
    head = struct.pack("<Q", len(data))
    crcs = [struct.pack("<I", masked_crc(part)) for part in (head, data)]
    return head + crcs[0] + data + crcs[1]


def to_examples(rows: pa.Table) -> list[bytes]:
    """Return each row as a serialized tf.Example."""
    columns = []
    kinds = {"string": pa.large_binary(), "float": pa.float32(), "double": pa.float32()}
    for column in rows.combine_chunks().columns:
        values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if pa.types.is_list(values.type):
            stored = kinds.get(str(values.type.value_type), pa.int64())
            columns.append(values.cast(pa.large_list(stored)))
            continue
        stored = kinds.get(str(values.type), pa.int64())
        lists = [None if value is None else [value] for value in values.cast(stored).to_pylist()]
        columns.append(pa.array(lists, pa.large_list(stored)))
    batch = pa.RecordBatch.from_arrays(columns, rows.schema.names)
    return RecordBatchToExamplesEncoder().encode(batch)


def write_tfrecord(path: Path, records: Iterable[bytes]) -> Path:
    """Write records, compressed if the name has a suffix of compression."""
    return write_bytes(path, b"".join(map(frame, records)))


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file and its folder, compressed if the name has a suffix of compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def to_csv(rows: pa.Table) -> bytes:
    """Return rows as CSV."""
    sink = pa.BufferOutputStream()
    csv.write_csv(rows, sink)
    return sink.getvalue().to_pybytes()


def to_jsonl(rows: pa.Table) -> bytes:
    """Return rows as JSON Lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows.to_pylist())


_WRITERS: dict[str, Callable[[pa.Table], bytes]] = {
    "tfrecord": lambda rows: b"".join(map(frame, to_examples(rows))),
    "csv": to_csv,
    "jsonl": to_jsonl,
    "json": to_jsonl,
}


def write_rows(root: Path, partition: str, name: str, rows: pa.Table, suffix: str) -> Path:
    """Write a file of rows in a format into a partition's folder."""
    if suffix == "parquet":
        return write_file(root, partition, f"{name}.parquet", rows)
    data = _WRITERS[suffix.removesuffix(".gz")](rows)
    return write_bytes(root / partition / f"{name}.{suffix}", data)


def write_dataset(
    root: Path, suffix: str, days: int = 3, rows: int = 300, files: int = 2
) -> tuple[str, pa.Table]:
    """Write days 2024-01-01 … in a format, and return the dataset and all its rows."""
    tables = []
    first_id = 0
    for day in range(1, days + 1):
        for file in range(files):
            table = make_rows(first_id, rows // files)
            first_id += rows // files
            tables.append(table)
            if suffix == "delta":
                date = pa.repeat(datetime.date(2024, 1, day), table.num_rows)
                dated = table.append_column("date", date)
                write_deltalake(str(root), dated, partition_by=["date"], mode="append")
            else:
                write_rows(root, f"date=2024-01-{day:02d}", str(file), table, suffix)
    return str(root), pa.concat_tables(tables)


def save_example_model(path: Path) -> str:
    """Save a model that parses tf.Examples: score = 2·x + 3·n, x float32, n int64."""
    tf = import_tensorflow()

    class Parser(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serve(self, examples):
            parsed = tf.io.parse_example(
                examples,
                {
                    "x": tf.io.FixedLenFeature([], tf.float32),
                    "n": tf.io.FixedLenFeature([], tf.int64),
                },
            )
            return {"score": 2.0 * parsed["x"] + 3.0 * tf.cast(parsed["n"], tf.float32)}

    module = Parser()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return str(path)


def by_id(rows: pa.Table, column: str = "score") -> dict[int, float]:
    """Return the values of a column by id."""
    return dict(zip(rows["id"].to_pylist(), rows[column].to_pylist(), strict=True))


def example_scores(rows: pa.Table) -> dict[int, float]:
    """Return the scores of `save_example_model` by id."""
    score = pc.add(pc.multiply(rows["x"], 2.0), pc.multiply(rows["n"].cast(pa.float32()), 3.0))
    return dict(zip(rows["id"].to_pylist(), score.to_pylist(), strict=True))


def assert_scores(output: Path, wanted: Mapping[Any, float]) -> None:
    """Assert that a table has exactly these scores by id."""
    got = by_id(read_scores(output))
    assert got.keys() == wanted.keys()
    np.testing.assert_allclose([got[i] for i in wanted], list(wanted.values()), rtol=1e-6)


def flip_middle(path: Path) -> None:
    """Change all bits of the byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))
