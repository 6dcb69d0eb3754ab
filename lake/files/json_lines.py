"""Lines of JSON → columns of a schema, as they are written: no value changes, none is left out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyarrow import json as arrow_json

from scoreline.lake.files.exact import may_have_changed
from scoreline.lake.files.finite import find_not_finite, floats_of
from scoreline.lake.files.json_values import find_problem

_NO_COLUMNS = pa.schema([])
_NEWLINE = np.uint8(ord("\n"))
# Brackets and braces differ by one bit. Python's own parser has a limit near this depth.
_OPENS, _CLOSES = np.uint8(ord("{")), np.uint8(ord("}"))
_MAX_DEPTH = 500
_HEAD_BYTES = 256
LONG_NUMBER = re.compile(rb"[0-9]{16}")


def parse_lines(lines: bytes, schema: pa.Schema | None, whole: Sequence[str] = ()) -> pa.Table:
    """Parse JSON objects, one per line, into a table of a schema, or of an inferred one.

    Keys that are not in the schema are ignored. Blank lines have no row.

    Args:
      lines: the text.
      schema: the types of columns; None to infer them.
      whole: columns whose objects may have no other keys than those in the schema.

    Raises:
      ArrowException, ValueError: a line is not an object of the schema, or a value would change.
    """
    _check_start(lines)
    if schema is None:
        table = _parse(lines, None, "infer")
    else:
        texts = pa.schema([(field.name, _as_text(field.type)) for field in schema])
        table = _parse_whole(lines, texts, whole) if whole else _parse(lines, texts, "ignore")
        _check_numbers(table, lines, schema)
        if texts != schema:
            table = _from_texts(table, schema)
    if table.num_rows != _count_objects(lines):
        _check_rows(lines, table.num_rows)
    return table


def _check_start(lines: bytes) -> None:
    """Raise ValueError unless the first value is an object: Arrow's parser crashes at a null."""
    first = lines[:_HEAD_BYTES].lstrip() or lines.lstrip()
    if first and not first.startswith(b"{"):
        raise ValueError("expected an object in each line, got another value")


def _count_objects(lines: bytes) -> int:
    """Return the lines that begin with a brace; `bytes.count` takes ten times as long."""
    data = np.frombuffer(lines, np.uint8)
    ends = np.flatnonzero(data[:-1] == _NEWLINE)
    return int(np.count_nonzero(data[ends + 1] == _OPENS)) + lines.startswith(b"{")


def _check_rows(lines: bytes, rows: int) -> None:
    """Raise ValueError unless each line that is not blank is one object: null is a row, too."""
    texts = [text for line in lines.split(b"\n") if (text := line.strip())]
    if rows != len(texts) or not all(text.startswith(b"{") for text in texts):
        raise ValueError(f"expected one object in each line, got {rows} in {len(texts)}")


def _refuse_deep(lines: bytes) -> None:
    """Raise ValueError at objects in objects without end: a type of them crashes Arrow."""
    data = np.frombuffer(lines, np.uint8)
    is_open, is_closed = (data | 32) == _OPENS, (data | 32) == _CLOSES  # braces and brackets
    depths = np.cumsum(is_open.view(np.int8) - is_closed.view(np.int8), dtype=np.int32)
    if len(depths) and depths.max() > _MAX_DEPTH:  # perhaps they are in texts
        for line in lines.split(b"\n"):
            if line.strip() and (problem := find_problem(line, _NO_COLUMNS)):
                raise ValueError(problem)


def _parse(lines: bytes, schema: pa.Schema | None, others: str) -> pa.Table:
    if others == "infer":
        _refuse_deep(lines)
    table = arrow_json.read_json(
        pa.BufferReader(lines),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=schema,
            newlines_in_values=False,
            unexpected_field_behavior=others,
        ),
    )
    table.validate(full=True)  # Arrow's parser accepts strings that are not UTF-8
    return table


def _parse_whole(lines: bytes, schema: pa.Schema, whole: Sequence[str]) -> pa.Table:
    """Parse lines; raise ValueError if an object in a column has a key that the schema lacks."""
    with contextlib.suppress(pa.ArrowInvalid):  # keys that are not read may have two types
        table = _parse(lines, schema, "infer").select(schema.names)
        if table.schema == schema:
            return table
    for line in lines.split(b"\n"):
        if line.strip() and (problem := find_problem(line, schema, whole)):
            raise ValueError(problem)
    return _parse(lines, schema, "ignore")


def _check_numbers(table: pa.Table, lines: bytes, schema: pa.Schema) -> None:
    """Raise ValueError if a number was read as infinity, or as another whole number."""
    if problem := find_not_finite(table):
        raise ValueError(problem)
    if not _may_be_rounded(table) or not LONG_NUMBER.search(lines):
        return
    for line in lines.split(b"\n"):
        if line.strip() and (problem := find_problem(line, schema)):
            raise ValueError(problem)


def _may_be_rounded(table: pa.Table) -> bool:
    return any(
        pa.types.is_float64(numbers.type) and may_have_changed(numbers)
        for name, column in zip(table.schema.names, table.columns, strict=True)
        for _, numbers in floats_of(column, name)
    )


def _is_text_in_json(kind: pa.DataType) -> bool:
    """Return whether a type is text in JSON.

    Arrow's parser reads dates as numbers of days, and drops the zone of a timestamp.
    """
    return pa.types.is_date(kind) or pa.types.is_timestamp(kind)


def _as_text(kind: pa.DataType) -> pa.DataType:
    """Return a type with text in place of dates and timestamps."""
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_as_text(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_text(field.type)) for field in kind])
    return pa.string() if _is_text_in_json(kind) else kind


def _from_texts(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        column
        if column.type == field.type
        else pa.chunked_array([_cast(chunk, field.type) for chunk in column.chunks], field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.table(columns, schema)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return an array with dates and timestamps in place of their texts."""
    if array.type == kind:
        return array
    if pa.types.is_list(kind):
        values = _cast(array.values, kind.value_type)
        return pa.ListArray.from_arrays(array.offsets, values, kind, mask=array.is_null())
    if pa.types.is_struct(kind):  # flatten: what a null object holds is null too
        children = [
            _cast(child, field.type) for child, field in zip(array.flatten(), kind, strict=True)
        ]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    return array.cast(kind)
