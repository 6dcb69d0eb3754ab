"""CSV files with a header → record batches.

Only an empty field is null: `NA` is a string. `""` is the empty string.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
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
from scoreline.lake.files.exact import find_changed_text, may_have_changed
from scoreline.lake.files.quotes import BadQuote, CheckedStream, row_of

_BLOCK_BYTES = 4 << 20  # a row must fit in a block
_FIRST_ROW = 2  # the header is row 1
# `0` and `1` are numbers, unless somebody asked for bool.
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_OTHER_DIALECT = (
    ". If a backslash escapes quotation marks, as in files of Spark, set --csv_escape '\\'; if "
    "they are doubled, set --csv_escape '\"'"
)
_VALUE_ERROR = re.compile(
    r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to ([^:]+(?:\[[^\]]*\])?): (.*)",
    re.DOTALL,
)
_FIELDS_ERROR = re.compile(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)")


def open_csv(
    stream: Any,
    types: Mapping[str, pa.DataType],
    columns: Sequence[str],
    block_bytes: int,
    *,
    is_inferred: bool = True,
) -> csv.CSVStreamingReader:
    """Return a reader of an open file; columns without a type have an inferred one."""
    bools = {"true_values": _TRUE, "false_values": _FALSE} if is_inferred else {}
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
            **bools,
        ),
    )


def read_csv(file_system: fs.FileSystem, path: str, spec: ReadSpec) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV file, in order, with the types of `spec.schema`.

    A file of white space has no rows.

    Raises:
      CorruptFile: the file lacks a column, has a quotation mark in the wrong place, a row of over
        4 MiB or with another number of fields, or a field that is not a value of its type, or is
        read as another number. The message names the row; the header is row 1.
    """
    columns = list(spec.columns)
    if spec.may_lack:
        header = read_header(file_system, path, spec.csv_escape)
        columns = [name for name in columns if name in header or name not in spec.may_lack]
    types = {name: spec.schema.field(name).type for name in columns if name in spec.schema.names}
    with open_stream(file_system, path) as raw:
        stream = CheckedStream(raw, spec.csv_escape, find_codes=_has_numbers(types))
        try:
            yield from _read_batches(file_system, path, stream, types, columns, spec)
        except (BadQuote, pa.ArrowInvalid) as e:
            if stream.is_blank:
                return
            problem = explain_csv(file_system, path, e, spec.csv_escape)
            raise CorruptFile(f"file {path} cannot be read: {problem}") from e


def _read_batches(
    file_system: fs.FileSystem,
    path: str,
    stream: CheckedStream,
    types: Mapping[str, pa.DataType],
    columns: Sequence[str],
    spec: ReadSpec,
) -> Iterator[pa.RecordBatch]:
    """Yield batches, and examine the texts of numbers once if any may have changed."""
    floats = [name for name, kind in types.items() if pa.types.is_floating(kind)]
    is_examined = False
    with open_csv(stream, types, columns, _BLOCK_BYTES, is_inferred=spec.is_inferred) as reader:
        for batch in reader:
            if not is_examined and (
                stream.has_codes or any(may_have_changed(batch.column(name)) for name in floats)
            ):
                _examine(file_system, path, types, spec)
                is_examined = True
            yield batch


def _examine(
    file_system: fs.FileSystem, path: str, types: Mapping[str, pa.DataType], spec: ReadSpec
) -> None:
    """Raise CorruptFile at the first text that is read as another number."""
    numbers = {name: kind for name, kind in types.items() if _is_number(kind)}
    texts = dict.fromkeys(numbers, pa.binary())
    row = _FIRST_ROW
    with open_stream(file_system, path) as raw:
        stream = CheckedStream(raw, spec.csv_escape)
        try:
            for batch in open_csv(stream, texts, list(texts), _BLOCK_BYTES):
                for name, kind in numbers.items():
                    found = find_changed_text(
                        batch.column(name), kind, is_inferred=spec.is_inferred
                    )
                    if found:
                        at, problem = found
                        raise CorruptFile(
                            f"file {path} cannot be read: row {row + at}, column '{name}': "
                            f"{problem}"
                        )
                row += batch.num_rows
        except (pa.ArrowInvalid, BadQuote):
            return  # the reader comes to this row, and names it


def _is_number(data_type: pa.DataType) -> bool:
    return pa.types.is_integer(data_type) or pa.types.is_floating(data_type)


def _has_numbers(types: Mapping[str, pa.DataType]) -> bool:
    return any(map(_is_number, types.values()))


def explain_csv(file_system: fs.FileSystem, path: str, error: Exception, escape: str) -> str:
    """Return the problem of a file that cannot be parsed, in our words, with its row."""
    text = str(error)
    if isinstance(error, BadQuote):
        with open_stream(file_system, path) as raw:
            row = str(row_of(raw, error.start, escape))
        return f"row {row}: {text}{'' if escape else _OTHER_DIALECT}"
    if "straddl" in text:
        return (
            f"a row takes more than {_BLOCK_BYTES} bytes, which is the most of CSV. Write it as "
            "JSON Lines or Parquet"
        )
    if found := _FIELDS_ERROR.search(text):
        row, wanted, got = found.groups()
        return f"row {row or '?'}: expected {wanted} fields, as in the header, got {got}"
    if not (found := _VALUE_ERROR.search(text)):
        return text
    number, row, kind, problem = found.groups()
    header = read_header(file_system, path, escape)
    value = problem.removeprefix("invalid value ")
    if "invalid UTF8" in problem:
        kind, value = "UTF-8", "other bytes"
    elif "zone offset" in problem:
        kind = f"{kind}, {'without' if ' no ' in problem else 'with'} a zone offset"
        value = problem.partition(" offset in ")[2].partition(". If these")[0]
    return (
        f"row {row or _FIRST_ROW}, column '{header[int(number)]}': expected {kind}, got {value}. "
        "Mend the file, or set another type with --schema"
    )


def describe_csv(
    file_system: fs.FileSystem, file: DataFile, schema: pa.Schema, escape: str = ""
) -> Footer:
    """Return the footer of a CSV file: the columns in its header that the schema has.

    A file of white space has all columns, and no rows.
    """
    try:
        header = read_header(file_system, file.path, escape)
    except READ_ERRORS as e:
        problem = explain_csv(file_system, file.path, e, escape)
        return unreadable(file.path, ValueError(problem))
    twice = [name for name, times in Counter(header).items() if times > 1 and name in schema.names]
    if twice:
        return unreadable(
            file.path,
            ValueError(
                f"expected one column '{twice[0]}' in the header, got {header.count(twice[0])}. "
                "Rename them, or leave it out of --schema"
            ),
        )
    known = [(name, schema.field(name).type) for name in header if name in schema.names]
    return whole_file(file, pa.schema(known) if header else schema)


def read_header(
    file_system: fs.FileSystem, path: str, escape: str, block_bytes: int = HEAD_BYTES
) -> list[str]:
    """Return the names in the header; none for a file of white space.

    Raises:
      ValueError: the file is not CSV.
    """
    with open_stream(file_system, path) as raw:
        stream = CheckedStream(raw, escape)
        try:
            with open_csv(stream, {}, [], block_bytes) as reader:
                return [] if stream.is_blank else reader.schema.names
        except pa.ArrowInvalid:
            if stream.is_blank:
                return []
            if block_bytes == _BLOCK_BYTES:
                raise
        except UnicodeDecodeError as e:
            raise ValueError("expected UTF-8 text, got a header with other bytes") from e
    return read_header(file_system, path, escape, _BLOCK_BYTES)  # a row can be longer
