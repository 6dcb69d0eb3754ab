"""The schema of CSV files, from samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from scoreline.lake.files.csv import explain_csv, parse_csv, parse_header
from scoreline.lake.files.csv_rows import read_rows
from scoreline.lake.files.data_file import READ_ERRORS, open_stream
from scoreline.lake.files.exact import CODE
from scoreline.lake.files.text import is_blank

_SAMPLE_BYTES = 1 << 20
# Integers with more digits may exceed int64, or what float64 holds exactly.
_LONG_NUMBER = r"^[ \t]*[+-]?[0-9]{16,}[ \t]*$"


class _Sampled(NamedTuple):
    """The type of a column in a sample, and whether it has whole numbers of many digits."""

    kind: pa.DataType
    is_long: bool = False


def infer_csv(
    file_system: fs.FileSystem, paths: Sequence[str], given: pa.Schema | None, escape: str = ""
) -> pa.Schema:
    """Infer columns and types from the first megabyte of some files.

    Integers become int64 and other numbers float64. Dates, timestamps and `true`/`false` become
    those types. Everything else is a string. Numbers that would lose digits stay strings: those
    that begin with a zero, such as postal codes, and those too long for int64 or float64. A column
    without any value has the null type. Damaged files are skipped here: they fail their partitions.

    Raises:
      ValueError: all files with rows are damaged; names the first place.
    """
    if given is not None:
        return given
    found: dict[str, _Sampled] = {}
    problems: list[str] = []
    for path in paths:
        try:
            columns = _infer_file(file_system, path, escape)
        except READ_ERRORS as e:
            problem = explain_csv(file_system, path, e, escape)
            problems.append(f"file {path} cannot be read: {problem}")
            continue
        for name, column in columns.items():
            found[name] = _widen(found.get(name, column), column)
    if problems and all(pa.types.is_null(column.kind) for column in found.values()):
        raise ValueError(problems[0])
    return pa.schema([(name, _settle(column)) for name, column in found.items()])


def _infer_file(file_system: fs.FileSystem, path: str, escape: str) -> dict[str, _Sampled]:
    with open_stream(file_system, path) as stream:
        rows = next(read_rows(stream, escape, _SAMPLE_BYTES), b"")
    if not rows:
        return {}
    header, rest = parse_header(rows)
    if is_blank(rest):
        return {name: _Sampled(pa.null()) for name in header}
    try:
        found = parse_csv(rest, header, {}, [])
        texts = parse_csv(rest, header, dict.fromkeys(header, pa.binary()), [])
    except pa.ArrowException as e:
        raise ValueError(explain_csv(file_system, path, e, escape, header)) from e
    return {
        name: _sample_column(found.column(at), texts.column(at)) for at, name in enumerate(header)
    }


def _sample_column(column: pa.ChunkedArray, texts: pa.ChunkedArray) -> _Sampled:
    kind = column.type
    if pa.types.is_time(kind):
        return _Sampled(pa.string())
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return _Sampled(kind)
    if pc.any(pc.match_substring_regex(texts, CODE)).as_py():
        return _Sampled(pa.string())
    return _Sampled(kind, bool(pc.any(pc.match_substring_regex(texts, _LONG_NUMBER)).as_py()))


def _settle(column: _Sampled) -> pa.DataType:
    """Return a column's type: long whole numbers among others are no float64."""
    is_float = pa.types.is_floating(column.kind)
    return pa.string() if column.is_long and is_float else column.kind


def _widen(one: _Sampled, other: _Sampled) -> _Sampled:
    fields = [pa.schema([("column", column.kind)]) for column in (one, other)]
    try:
        kind = pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except pa.ArrowTypeError:
        kind = pa.string()  # every field is a string
    return _Sampled(kind, one.is_long or other.is_long)
