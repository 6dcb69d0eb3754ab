"""CSV files with a header → record batches.

Only an empty field is null: `NA` is a string. `""` is the empty string.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
from pyarrow import csv, fs

from scoreline.lake.files.csv_rows import read_rows, row_of, split_header
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
from scoreline.lake.files.exact import find_changed, find_code, may_have_changed
from scoreline.lake.files.pieces import Piece, join_pieces
from scoreline.lake.files.quotes import BadRow
from scoreline.lake.files.text import BOM, is_blank

FIRST_ROW = 2  # the header is row 1
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
_FIELDS_ERROR = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


def parse_csv(
    rows: bytes,
    header: Sequence[str],
    types: Mapping[str, pa.DataType],
    columns: Sequence[str],
    *,
    is_inferred: bool = True,
) -> pa.Table:
    """Return columns of whole rows; those without a type have an inferred one.

    Raises:
      ArrowException: a field is not a value of its type, or a row has another number of fields.
    """
    if rows.startswith(BOM):
        rows = b"\n" + rows  # Arrow would drop the beginning of a text
    bools = {"true_values": _TRUE, "false_values": _FALSE} if is_inferred else {}
    return csv.read_csv(
        pa.BufferReader(rows),
        read_options=csv.ReadOptions(
            use_threads=False, block_size=len(rows) + 1, column_names=header
        ),
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


def parse_header(rows: bytes) -> tuple[list[str], bytes]:
    """Return the names in the header, and the rows after it.

    Raises:
      ValueError: the names are not UTF-8.
    """
    header, rest = split_header(rows)
    try:
        return csv.read_csv(pa.BufferReader(header.rstrip(b"\r\n") + b"\n")).column_names, rest
    except UnicodeDecodeError as e:
        raise ValueError("expected UTF-8 text, got a header with other bytes") from e


def read_csv(file_system: fs.FileSystem, path: str, spec: ReadSpec) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV file, in order, with the types of `spec.schema`.

    A file of white space has no rows.

    Raises:
      CorruptFile: the file lacks a column, has a quotation mark in the wrong place, a row of over
        4 MiB or with another number of fields, or a field that is not a value of its type, or is
        read as another number. The message names the row; the header is row 1.
    """
    yield from join_pieces(_read_pieces(file_system, path, spec), spec.limits.batch_bytes)


def _read_pieces(file_system: fs.FileSystem, path: str, spec: ReadSpec) -> Iterator[Piece]:
    row = FIRST_ROW
    header: list[str] = []
    try:
        with open_stream(file_system, path) as stream:
            for rows in read_rows(stream, spec.csv_escape):
                if not header:
                    header, rest = parse_header(rows)
                    fields = _fields_of(spec, header)
                    if is_blank(rest):
                        continue
                else:
                    rest = rows
                table = _read_table(rest, header, fields, spec, row)
                yield Piece(table, len(rest))
                row += table.num_rows
    except (ValueError, pa.ArrowException) as e:
        problem = explain_csv(file_system, path, e, spec.csv_escape, header, row)
        raise CorruptFile(f"file {path} cannot be read: {problem}") from e


def _fields_of(spec: ReadSpec, header: Sequence[str]) -> pa.Schema:
    """Return the columns to read, and their types.

    Raises:
      ValueError: the header lacks a column.
    """
    lacks = [name for name in spec.columns if name not in header]
    if missing := [name for name in lacks if name not in spec.may_lack]:
        raise ValueError(f"expected column '{missing[0]}' in the header, got {', '.join(header)}")
    known = {field.name: field for field in (*spec.unseen, *spec.schema)}
    return pa.schema([known[name] for name in spec.columns if name in header and name in known])


def _read_table(
    rows: bytes, header: Sequence[str], fields: pa.Schema, spec: ReadSpec, row: int
) -> pa.Table:
    """Return the fields of some rows, of which no number was changed; `row` is the first row."""
    types = {field.name: field.type for field in fields}

    def read(kinds: Mapping[str, pa.DataType], names: Sequence[str]) -> pa.Table:
        return parse_csv(rows, header, kinds, names, is_inferred=spec.is_inferred)

    def refuse(name: str, found: tuple[int, str] | None) -> None:
        if found:
            at, problem = found
            raise ValueError(f"row {row + at}, column '{name}': {problem}")

    # The model gets 7 for 007. A copy would be another code, unless somebody asked for a number.
    copied = [name for name in spec.stored if spec.is_inferred and _is_number(types.get(name))]
    table = read(types | dict.fromkeys(copied, pa.string()), fields.names)
    for name in copied:
        refuse(name, find_code(table[name], types[name]))
    if copied:
        try:
            table = table.cast(fields)
        except pa.ArrowInvalid:  # a bad value, or blanks around numbers
            table = read(types, fields.names)
    floats = [name for name, kind in types.items() if pa.types.is_floating(kind)]
    if changed := [name for name in floats if may_have_changed(table[name])]:
        texts = read(dict.fromkeys(changed, pa.string()), changed)
        for name in changed:
            refuse(name, find_changed(texts[name], types[name]))
    return table


def _is_number(data_type: pa.DataType | None) -> bool:
    return data_type is not None and (
        pa.types.is_integer(data_type) or pa.types.is_floating(data_type)
    )


def explain_csv(
    file_system: fs.FileSystem,
    path: str,
    error: Exception,
    escape: str,
    header: Sequence[str] = (),
    row: int = FIRST_ROW,
) -> str:
    """Return the problem of a file that cannot be parsed, in our words, with its row.

    Args:
      file_system: where the file is.
      path: the file.
      error: the error of its parser.
      escape: see `QuoteChecker`.
      header: the names in its header.
      row: the first row that was parsed together with the bad one.
    """
    text = str(error)
    if isinstance(error, BadRow):
        with open_stream(file_system, path) as stream:
            at = row_of(stream, error.place, escape)
        return f"row {at}: {text}{'' if escape or 'bytes' in text else _OTHER_DIALECT}"
    if found := _FIELDS_ERROR.search(text):
        number, wanted, got = found.groups()
        return f"row {row + int(number) - 1}: expected {wanted} fields, as in the header, got {got}"
    if not (found := _VALUE_ERROR.search(text)):
        return text
    column, number, kind, problem = found.groups()
    name = header[int(column)] if int(column) < len(header) else column
    value = problem.removeprefix("invalid value ")
    if "invalid UTF8" in problem:
        kind, value = "UTF-8", "other bytes"
    elif "zone offset" in problem:
        kind = f"{kind}, {'without' if ' no ' in problem else 'with'} a zone offset"
        value = problem.partition(" offset in ")[2].partition(". If these")[0]
    return (
        f"row {row + int(number or 1) - 1}, column '{name}': expected {kind}, got {value}. Mend "
        "the file, or set another type with --schema"
    )


def describe_csv(
    file_system: fs.FileSystem, file: DataFile, schema: pa.Schema, escape: str = ""
) -> Footer:
    """Return the footer of a CSV file: the columns in its header that the schema has.

    A file of white space has all columns, and no rows.
    """
    try:
        with open_stream(file_system, file.path) as stream:
            rows = next(read_rows(stream, escape, HEAD_BYTES), b"")
        header = parse_header(rows)[0] if rows else []
        twice = [n for n, times in Counter(header).items() if times > 1 and n in schema.names]
        if twice:
            raise ValueError(
                f"expected one column '{twice[0]}' in the header, got {header.count(twice[0])}. "
                "Rename them, or leave it out of --schema"
            )
    except READ_ERRORS as e:
        problem = explain_csv(file_system, file.path, e, escape)
        return unreadable(file.path, ValueError(problem))
    known = [(name, schema.field(name).type) for name in header if name in schema.names]
    return whole_file(file, pa.schema(known) if header else schema)
