"""Lines of JSON → columns of a schema, as they are written: no value changes, none is left out."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
from pyarrow import json as arrow_json

from scoreline.lake.files.exact import may_have_changed
from scoreline.lake.files.finite import find_not_finite, floats_of
from scoreline.lake.files.json_values import find_problem

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
    rows = _count_objects(lines)
    if not rows:
        return pa.table([], pa.schema([])) if schema is None else schema.empty_table()
    if schema is None:
        table = _parse(lines, None, "infer")
    else:
        texts = pa.schema([(field.name, _as_text(field.type)) for field in schema])
        table = _parse_whole(lines, texts, whole) if whole else _parse(lines, texts, "ignore")
        _check_numbers(table, lines, schema)
        if texts != schema:
            table = _from_texts(table, schema)
    if table.num_rows != rows:
        raise ValueError(f"expected one object in each line, got {table.num_rows} in {rows}")
    return table


def _count_objects(lines: bytes) -> int:
    """Return the number of objects, if each begins a line.

    Arrow's parser reads a line `null` as a row of nulls, and crashes if it is the first one.
    """
    count = lines.count(b"\n") + (not lines.endswith(b"\n"))
    if lines.startswith(b"{") and lines.count(b"\n{") == count - 1:
        return count
    count = 0
    for line in lines.split(b"\n"):
        text = line.strip()
        if text and not text.startswith(b"{"):
            raise ValueError(f"expected an object, got {_describe(text)}")
        count += bool(text)
    return count


def _describe(text: bytes) -> str:
    return "an array" if text[:1] == b"[" else repr(text[:20].decode(errors="replace"))


def _parse(lines: bytes, schema: pa.Schema | None, others: str) -> pa.Table:
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
    try:
        types = {field.name: field.type for field in _parse(lines, schema, "infer").schema}
    except pa.ArrowInvalid:  # perhaps keys that are not read have values of two types
        types = {}
    if not types or any(types[name] != schema.field(name).type for name in whole):
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
