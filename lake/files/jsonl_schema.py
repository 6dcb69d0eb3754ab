"""The schema of files of JSON Lines, from samples."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
from pyarrow import fs

from scoreline.lake.files.data_file import MAX_VALUE_BYTES, READ_ERRORS, open_stream
from scoreline.lake.files.json_lines import LONG_NUMBER, parse_lines
from scoreline.lake.files.json_values import find_problem
from scoreline.lake.files.jsonl import LINE_ERRORS, find_bad_line, read_blocks

_SAMPLE_BYTES = 1 << 20
_TWO_TYPES = re.compile(r"Column\(/(.*)\) changed from (\w+) to (\w+) in row (\d+)")


class _NoType(Exception):
    """A column for whose values there is no one type; the message names line and column."""


def infer_jsonl(
    file_system: fs.FileSystem, paths: Sequence[str], given: pa.Schema | None
) -> pa.Schema:
    """Infer columns and types from the first megabyte of some files.

    Integers become int64 and other numbers float64. Strings stay strings, whatever they look like.
    A key that is always null has the null type. Damaged files are skipped here: they fail their
    partitions.

    Raises:
      ValueError: a key has values of two types, or integers beyond int64; or all files with rows
        are damaged: names the first line.
    """
    if given is not None:
        return given
    found = pa.schema([])
    seen: list[str] = []
    problems: list[str] = []
    for path in paths:
        try:
            lines = _read_sample(file_system, path)
            schema = _infer(lines)
        except READ_ERRORS as e:
            problems.append(f"file {path} cannot be read: {e}")
            continue
        except _NoType as e:
            raise ValueError(f"{path}, {e}") from e
        try:
            found = pa.unify_schemas([found, schema], promote_options="permissive")
        except pa.ArrowTypeError as e:
            raise ValueError(
                f"{path} has other types than {', '.join(seen)}: {e}. Set types with --schema"
            ) from e
        seen.append(path)
    if problems and all(pa.types.is_null(kind) for kind in found.types):
        raise ValueError(problems[0])
    return found


def _read_sample(file_system: fs.FileSystem, path: str) -> bytes:
    with open_stream(file_system, path) as stream:
        return next(read_blocks(stream, MAX_VALUE_BYTES, _SAMPLE_BYTES), b"")


def _infer(lines: bytes) -> pa.Schema:
    """Return the schema of sampled lines.

    Raises:
      ValueError: a line is no object.
    """
    if not lines.strip():
        return pa.schema([])
    try:
        found = parse_lines(lines, None).schema
    except LINE_ERRORS as e:
        if two := _TWO_TYPES.search(str(e)):
            name, one, other, row = two.groups()
            raise _NoType(
                f"line {_line_of(lines, int(row))}: column '{name.replace('/', '.')}' changes from "
                f"{one} to {other}. Set types with --schema"
            ) from e
        number, problem = find_bad_line(lines, None, e)
        raise ValueError(f"line {number + 1}: {problem}") from e
    schema = pa.schema([(field.name, _keep_text(field.type)) for field in found])
    _check_numbers(lines, schema)
    return schema


def _line_of(lines: bytes, row: int) -> int:
    """Return the line of a row, from 1; rows are counted from 0, without blank lines."""
    numbers = [n for n, line in enumerate(lines.split(b"\n"), 1) if line.strip()]
    return numbers[min(row, len(numbers) - 1)]


def _check_numbers(lines: bytes, schema: pa.Schema) -> None:
    """Raise _NoType if whole numbers were inferred as floats that cannot hold them."""
    if not LONG_NUMBER.search(lines):
        return
    for number, line in enumerate(lines.split(b"\n"), 1):
        if line.strip() and (problem := find_problem(line, schema)):
            raise _NoType(f"line {number}: {problem}")


def _keep_text(data_type: pa.DataType) -> pa.DataType:
    """Return an inferred type with strings in place of the times that Arrow saw in strings."""
    if pa.types.is_timestamp(data_type) or pa.types.is_time(data_type):
        return pa.string()
    if pa.types.is_list(data_type):
        return pa.list_(_keep_text(data_type.value_type))
    if pa.types.is_struct(data_type):
        return pa.struct([(field.name, _keep_text(field.type)) for field in data_type])
    return data_type
