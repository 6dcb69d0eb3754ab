"""The functions of each file format, in one table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from scoreline.lake.elements import Piece, Shard
from scoreline.lake.files.bounds import find_large_value, say_too_large, slice_batch
from scoreline.lake.files.csv import describe_csv, read_csv
from scoreline.lake.files.csv_schema import infer_csv
from scoreline.lake.files.data_file import READ_ERRORS, CorruptFile, DataFile, Footer, ReadSpec
from scoreline.lake.files.examples import describe_tfrecords, infer_examples, read_examples
from scoreline.lake.files.jsonl import describe_jsonl, read_jsonl
from scoreline.lake.files.jsonl_schema import infer_jsonl
from scoreline.lake.files.parquet import read_footer, read_record_batches
from scoreline.lake.files.stored import check_stored

_DESCRIBE_THREADS = 16

_Reader = Callable[[fs.FileSystem, Shard, ReadSpec], Iterator[pa.RecordBatch]]


class Format(NamedTuple):
    """The functions of a format.

    Attributes:
      describe: returns a file's footer before it is read, given the run's schema.
      read: yields a shard's rows in order, in record batches; raises CorruptFile.
      infer: returns the schema of the run, from sampled files and the user's schema; None for files
        that have a schema of their own.
    """

    describe: Callable[[fs.FileSystem, DataFile, pa.Schema | None], Footer]
    read: _Reader
    infer: Callable[[fs.FileSystem, Sequence[str], pa.Schema | None], pa.Schema] | None = None


def _whole_files(
    read: Callable[[fs.FileSystem, str, ReadSpec], Iterator[pa.RecordBatch]],
) -> _Reader:
    """Return a reader of shards from a reader of single files."""

    def read_shard(
        file_system: fs.FileSystem, shard: Shard, spec: ReadSpec
    ) -> Iterator[pa.RecordBatch]:
        for piece in shard.pieces:
            rows = 0
            try:
                _check_size(file_system, piece)
                for batch in read(file_system, piece.path, spec):
                    _check_values(piece.path, rows, batch, spec)
                    check_stored(batch, spec.stored)
                    rows += batch.num_rows
                    for start in range(0, batch.num_rows, spec.batch_rows):
                        part = batch.slice(start, spec.batch_rows)
                        yield from slice_batch(part, spec.limits.batch_bytes)
            except CorruptFile:
                raise
            except READ_ERRORS as e:
                raise CorruptFile(f"file {piece.path} cannot be read: {e}") from e

    return read_shard


def _check_values(path: str, first_row: int, batch: pa.RecordBatch, spec: ReadSpec) -> None:
    large = find_large_value(batch, spec.limits.value_bytes)
    if large is not None:
        row, column, size = large
        where = f"row {first_row + row}"
        raise CorruptFile(f"file {path}, {say_too_large(where, column, size, spec)}")


def _check_size(file_system: fs.FileSystem, piece: Piece) -> None:
    size = file_system.get_file_info(piece.path).size
    if size != piece.size_bytes:
        raise CorruptFile(
            f"file {piece.path} changed since the run was planned: expected {piece.size_bytes} "
            f"bytes, got {size}"
        )


FORMATS: Mapping[str, Format] = {
    "parquet": Format(
        lambda file_system, file, _: read_footer(file_system, file.path), read_record_batches
    ),
    "tfrecord": Format(describe_tfrecords, _whole_files(read_examples), infer_examples),
    "csv": Format(describe_csv, _whole_files(read_csv), infer_csv),
    "jsonl": Format(describe_jsonl, _whole_files(read_jsonl), infer_jsonl),
}


def format_of(name: str, csv_escape: str = "") -> Format:
    """Return the functions of a format, for CSV of a dialect."""
    found = FORMATS[name]
    if name != "csv" or not csv_escape or found.infer is None:
        return found
    return found._replace(
        describe=functools.partial(describe_csv, escape=csv_escape),
        infer=functools.partial(infer_csv, escape=csv_escape),
    )


def describe_files(
    file_system: fs.FileSystem,
    data_format: str,
    files: Sequence[DataFile],
    schema: pa.Schema | None,
    csv_escape: str = "",
) -> Iterable[Footer]:
    """Yield the footers of files, in order, reading several at a time.

    Consecutive files with equal schemas share one object: a schema takes more memory than the rest
    of a footer.
    """
    describe = format_of(data_format, csv_escape).describe
    held: pa.Schema | None = None
    with ThreadPoolExecutor(_DESCRIBE_THREADS) as pool:
        for footer in pool.map(lambda file: describe(file_system, file, schema), files):
            if footer.schema is None:
                yield footer
                continue
            if held is None or not held.equals(footer.schema, check_metadata=True):
                held = footer.schema
            yield footer._replace(schema=held)
