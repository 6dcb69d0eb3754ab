"""CSV files with a header → record batches.

Only an empty field is null: `NA` is a string. `""` is the empty string.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, fs

from scoreline.lake.files.data_file import (
    HEAD_BYTES,
    READ_ERRORS,
    CorruptFile,
    DataFile,
    Footer,
    ReadSpec,
    open_stream,
    unreadable,
    whole_file,
)

_BLOCK_BYTES = 4 << 20  # a row must fit in a block
_SAMPLE_BYTES = 1 << 20
# Integers with more digits may exceed int64, or what float64 holds exactly.
_ZERO_FIRST = r"^[+-]?0[0-9xX]"
_LONG_NUMBER = r"^[+-]?[0-9]{16,}$"


class _Quotes:
    """A stream that counts quotation marks: an unclosed quoted field would swallow rows."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.count += data.count(b'"')
        return data

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def close(self) -> None:
        self._stream.close()


def _open(
    stream: Any, types: Mapping[str, pa.DataType], columns: Sequence[str], block_bytes: int
) -> csv.CSVStreamingReader:
    return csv.open_csv(
        stream,
        read_options=csv.ReadOptions(use_threads=False, block_size=block_bytes),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types,
            include_columns=columns,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def read_csv(file_system: fs.FileSystem, path: str, spec: ReadSpec) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV file, in order, with the types of `spec.schema`.

    Raises:
      CorruptFile: the file lacks a column, ends within quotes, or has a row of over 4 MiB.
      pyarrow.ArrowInvalid: a field is not a value of its type, or a row has a different number of
        fields. The message names the row; the header is row 1.
    """
    columns = list(spec.columns)
    if spec.may_lack:
        header = _read_header(file_system, path)
        columns = [name for name in columns if name in header or name not in spec.may_lack]
    types = {name: spec.schema.field(name).type for name in columns if name in spec.schema.names}
    with open_stream(file_system, path) as stream:
        quotes = _Quotes(stream)
        with _open(quotes, types, columns, _BLOCK_BYTES) as reader:
            try:
                yield from reader
            except pa.ArrowInvalid as e:
                if "straddl" not in str(e):
                    raise
                raise CorruptFile(
                    f"file {path} cannot be read: a row takes more than {_BLOCK_BYTES} bytes, "
                    "which is the most of CSV. Write it as JSON Lines or Parquet"
                ) from e
        if quotes.count % 2:
            raise CorruptFile(
                f"file {path} cannot be read: expected an even number of quotation marks, got "
                f"{quotes.count}: a quoted field never ends"
            )


def describe_csv(file_system: fs.FileSystem, file: DataFile, schema: pa.Schema) -> Footer:
    """Return the footer of a CSV file: the columns in its header that the schema knows."""
    try:
        header = _read_header(file_system, file.path)
    except READ_ERRORS as e:
        return unreadable(file.path, e)
    known = [(name, schema.field(name).type) for name in header if name in schema.names]
    return whole_file(file, pa.schema(known))


def _read_header(file_system: fs.FileSystem, path: str, block_bytes: int = HEAD_BYTES) -> list[str]:
    try:
        with open_stream(file_system, path) as stream, _open(stream, {}, [], block_bytes) as reader:
            return reader.schema.names
    except pa.ArrowInvalid:
        if block_bytes == _BLOCK_BYTES:
            raise
        return _read_header(file_system, path, _BLOCK_BYTES)  # a row can be longer than the sample


def infer_csv(
    file_system: fs.FileSystem, paths: Sequence[str], given: pa.Schema | None
) -> pa.Schema:
    """Infer columns and types from the first megabyte of some files.

    Integers become int64 and other numbers float64. Dates, timestamps and `true`/`false` become
    those types. Everything else is a string. Numbers that would lose digits stay strings: those
    that begin with a zero, such as postal codes, and those too long for int64. A column without any
    value has the null type. Damaged files are skipped here: they fail their partitions.
    """
    if given is not None:
        return given
    found: dict[str, pa.DataType] = {}
    for path in paths:
        try:
            types = _infer_file(file_system, path)
        except READ_ERRORS:
            continue
        for name, kind in types.items():
            found[name] = _widen(found.get(name, kind), kind)
    return pa.schema(list(found.items()))


def _infer_file(file_system: fs.FileSystem, path: str) -> dict[str, pa.DataType]:
    batch = _read_sample(file_system, path, {})
    if batch is None:
        return dict.fromkeys(_read_header(file_system, path), pa.null())
    texts = _read_sample(file_system, path, dict.fromkeys(batch.schema.names, pa.binary())) or batch
    types = {}
    for name, column, text in zip(batch.schema.names, batch.columns, texts.columns, strict=True):
        kind = column.type
        loses = pc.match_substring_regex(text, _ZERO_FIRST)
        if pa.types.is_floating(kind):
            loses = pc.match_substring_regex(text, _LONG_NUMBER)
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if pa.types.is_time(kind) or (is_number and pc.any(loses).as_py()):
            kind = pa.string()
        types[name] = kind
    return types


def _read_sample(
    file_system: fs.FileSystem, path: str, types: Mapping[str, pa.DataType]
) -> pa.RecordBatch | None:
    with (
        open_stream(file_system, path) as stream,
        _open(stream, types, [], _SAMPLE_BYTES) as reader,
    ):
        return next(iter(reader), None)


def _widen(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    fields = [pa.schema([("column", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except pa.ArrowTypeError:
        return pa.string()  # every field is a string
