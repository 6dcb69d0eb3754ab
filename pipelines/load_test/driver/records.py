"""The values of records that a load test sends, from files or from a topic."""

from __future__ import annotations

import gzip
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.dataset

from scoreline.lake.files.tfrecord import read_records
from scoreline.pipelines.options.problems import BadOptions
from scoreline.transforms.kafka.client import (
    Connection,
    list_partitions,
    read_bounds,
    to_positions,
)

# So many different values are sent; they repeat after that.
MAX_VALUES = 20_000
_TOPIC_S = 30.0


def read_file_values(path: str, limit: int = MAX_VALUES) -> list[bytes]:
    """Return the first values of files.

    Rows of Parquet become JSON objects, with the columns whose types JSON can carry: texts,
    numbers, booleans and times, also in lists and structs, and the partition. A line of a `.jsonl`
    or `.json` file, and a record of a `.tfrecord` or `.tfrecord.gz` file, is a value as it is.

    Args:
      path: a file, or a folder with files, also in hive partitions.
      limit: maximum number of values.

    Raises:
      BadOptions: there is no file, or it cannot be read.
    """
    files = _find_files(Path(path))
    if not files:
        raise BadOptions(
            [f"records: expected .parquet, .jsonl or .tfrecord files, found none at {path}"]
        )
    try:
        values = list(itertools.islice(_read(files), limit))
    except (OSError, pa.ArrowException, ValueError, TypeError) as e:
        raise BadOptions([f"records: cannot read {path}: {e}"]) from e
    if not values:
        raise BadOptions([f"records: expected rows, got none in {path}"])
    return values


_SUFFIXES = (".parquet", ".jsonl", ".json", ".tfrecord", ".tfrecord.gz")


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name.endswith(_SUFFIXES) else []
    hidden = ("_", ".")
    return sorted(
        file
        for file in path.rglob("*")
        if file.name.endswith(_SUFFIXES)
        and not any(part.startswith(hidden) for part in file.relative_to(path).parts)
    )


def _read(files: list[Path]) -> Iterator[bytes]:
    for file in files:
        if file.name.endswith(".parquet"):
            yield from _read_parquet(file)
        elif file.name.endswith((".jsonl", ".json")):
            with file.open("rb") as lines:
                yield from (line.rstrip(b"\r\n") for line in lines if line.strip())
        else:
            with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
                yield from (record.data for record in read_records(stream))


def _read_parquet(file: Path) -> Iterator[bytes]:
    dataset = pyarrow.dataset.dataset(file, format="parquet", partitioning="hive")
    names = [field.name for field in dataset.schema if _fits_json(field.type)]
    for batch in dataset.to_batches(columns=names, batch_size=1024):
        for row in batch.to_pylist():
            yield orjson.dumps(row)


def _fits_json(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return all(_fits_json(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        return _fits_json(kind.value_type)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    is_time = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return is_text or is_number or is_time or pa.types.is_boolean(kind)


def read_topic_values(connection: Connection, topic: str, limit: int = MAX_VALUES) -> list[bytes]:
    """Return the first values of a topic; its consumers are not affected.

    Raises:
      BadOptions: the topic does not exist, or has no records.
    """
    consumer = connection.consumer("scoreline-load-test-records")
    values: list[bytes] = []
    try:
        partitions = list_partitions(consumer, topic)
        bounds = {p: read_bounds(consumer, topic, p) for p in partitions}
        left = {p: end for p, (first, end) in bounds.items() if end > first}
        consumer.assign(to_positions(topic, {p: bounds[p][0] for p in left}))
        deadline = time.monotonic() + _TOPIC_S
        while left and len(values) < limit and time.monotonic() < deadline:
            for message in consumer.consume(1000, 1.0):
                value, partition = message.value(), message.partition()
                if message.error() is None and value is not None:
                    values.append(value)
                if partition is not None and (message.offset() or 0) + 1 >= left.get(partition, 0):
                    left.pop(partition, None)
    except LookupError as e:
        raise BadOptions([f"records: {e}"]) from e
    finally:
        consumer.close()
    if not values:
        raise BadOptions([f"records: expected records in topic {topic}, got none"])
    return values[:limit]
