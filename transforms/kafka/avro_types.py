"""Avro types → Arrow types, and the schemas that values are read with.

A logical type that fastavro reads without loss becomes its Arrow type: decimals, dates, and times
with a date. Any other is read as its base type, as the Avro specification asks for unknown ones: a
uuid stays the text that was written, and a time of day the number of its unit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import fastavro
import pyarrow as pa

_PRIMITIVE = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
}
_NAMED = {"enum": pa.string(), "fixed": pa.binary()}
_LOGICAL = {
    ("int", "date"): pa.date32(),
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "timestamp-nanos"): pa.timestamp("ns", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
    ("long", "local-timestamp-nanos"): pa.timestamp("ns"),
}
_DECIMAL = (("bytes", "decimal"), ("fixed", "decimal"))
# fastavro would change their values: the letters of a uuid, and times before midnight.
_AS_BASE = (("string", "uuid"), ("int", "time-millis"), ("long", "time-micros"))
# Unions of these have one type that holds all values.
_WIDER = {frozenset(("int", "long")): "long", frozenset(("float", "double")): "double"}
# Pairs of a written and a read logical type whose values keep their meaning.
_RESOLVED = {
    (f"{prefix}-{fine}", f"{prefix}-{coarse}")
    for prefix in ("timestamp", "local-timestamp")
    for fine, coarse in (("millis", "micros"), ("millis", "nanos"), ("micros", "nanos"))
}
_MAX_DECIMAL_DIGITS = 76
# Keys of a parsed schema with other schemas.
_PARTS, _KNOWN = ("items", "values"), "__named_schemas"


class AvroColumns(NamedTuple):
    """The columns of an Avro record.

    Attributes:
      schema: columns and types.
      unread: by path, why a field is no column; `parent.child` is a field of a record.
    """

    schema: pa.Schema
    unread: Mapping[str, str]

    def why_unread(self, column: str) -> str:
        """Return why a column, or a field in it, is not read; "" if all of it is."""
        for path, reason in self.unread.items():
            if path == column or f"{path}.".startswith(f"{column}."):
                return f"field '{path}' {reason}"
            if f"{column}.".startswith(f"{path}."):
                return f"field '{path}' {reason}"
        return ""


class _Unread(ValueError):
    """A field that no column can hold."""


def parse_record(text: str) -> dict[str, Any]:
    """Return a parsed Avro record schema, for reading.

    Raises:
      ValueError: it is not an Avro schema, or not the schema of a record.
    """
    try:
        parsed = fastavro.parse_schema(json.loads(text))
    except (ValueError, TypeError, KeyError, fastavro.schema.SchemaParseException) as e:
        raise ValueError(f"expected an Avro schema: {e}") from e
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise ValueError("expected an Avro schema of a record")
    return as_read(parsed)


def as_read(kind: Any) -> Any:
    """Return a parsed schema without the logical types that are read as their base types."""
    if isinstance(kind, list):
        return [as_read(branch) for branch in kind]
    if not isinstance(kind, dict):
        return kind
    read = {name: as_read(part) if name in _PARTS else part for name, part in kind.items()}
    if "fields" in kind:
        read["fields"] = [{**field, "type": as_read(field["type"])} for field in kind["fields"]]
    if _KNOWN in kind:
        read[_KNOWN] = {name: as_read(part) for name, part in kind[_KNOWN].items()}
    known = _logical_of(kind)
    if known in _AS_BASE or (known in _DECIMAL and "precision" not in kind):
        del read["logicalType"]
    return read


def _logical_of(kind: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the base type and the logical type; a part of a schema may have any base type."""
    base = kind["type"] if isinstance(kind["type"], str) else ""
    return base, kind.get("logicalType")


def parse_avro_schema(text: str) -> pa.Schema:
    """Return the columns of an Avro record schema; see `parse_columns`."""
    return parse_columns(text).schema


def parse_columns(text: str) -> AvroColumns:
    """Return the columns of an Avro record schema, and the fields that are none.

    Raises:
      ValueError: it is not an Avro schema, or not the schema of a record.
    """
    unread: dict[str, str] = {}
    record = _to_struct(parse_record(text), "", unread, {}, ())
    return AvroColumns(pa.schema(list(record)), unread)


def _to_struct(
    kind: Mapping[str, Any],
    path: str,
    unread: dict[str, str],
    named: dict[str, Any],
    inside: tuple[str, ...],
) -> pa.DataType:
    """Return the type of a record, without its fields that are no columns."""
    named[kind["name"]] = kind
    fields = []
    for field in kind["fields"]:
        at = _at(path, field)
        try:
            found = _to_arrow(field["type"], at, unread, named, (*inside, kind["name"]))
            fields.append((field["name"], found))
        except _Unread as e:
            unread[at] = str(e)
    return pa.struct(fields)


def _to_arrow(
    kind: Any,
    path: str,
    unread: dict[str, str],
    named: dict[str, Any],
    inside: tuple[str, ...],
) -> pa.DataType:
    if isinstance(kind, list):
        return _to_arrow(_branch_of(kind), path, unread, named, inside)
    if isinstance(kind, str):
        if kind in _PRIMITIVE:
            return _PRIMITIVE[kind]
        if kind in inside:
            raise _Unread(f"is a record {kind} that contains itself, which no column holds")
        return _to_arrow(named[kind], path, unread, named, inside)
    base, logical = _logical_of(kind)
    if "name" in kind:
        named[kind["name"]] = kind
    if (base, logical) in _LOGICAL:
        return _LOGICAL[base, logical]
    if (base, logical) in _DECIMAL and "precision" in kind:
        return _to_decimal(kind["precision"], kind.get("scale", 0))
    if (base, logical) == ("fixed", "duration"):
        raise _Unread("is a duration of months, days and milliseconds, which no column holds")
    if base == "record":
        return _to_struct(kind, path, unread, named, inside)
    if base in ("array", "map"):
        # Part of an item cannot be left out: nobody would see it.
        left_out: dict[str, str] = {}
        values = kind["items" if base == "array" else "values"]
        items = _to_arrow(values, path, left_out, named, inside)
        if left_out:
            inner, reason = next(iter(left_out.items()))
            raise _Unread(f"has items with a field '{inner}' that {reason}")
        return pa.list_(items) if base == "array" else pa.map_(pa.string(), items)
    return _PRIMITIVE[base] if base in _PRIMITIVE else _NAMED[base]


def _branch_of(union: list[Any]) -> Any:
    """Return the one type of a union, apart from null."""
    others = [branch for branch in union if branch != "null"]
    if not others:
        return "null"
    if len(others) == 1:
        return others[0]
    names = [branch if isinstance(branch, str) else branch["type"] for branch in others]
    wider = _WIDER.get(frozenset(names)) if others == names else None
    if wider is None:
        raise _Unread(f"is a union of {' and '.join(map(str, names))}, which has no one type")
    return wider


def _to_decimal(precision: int, scale: int) -> pa.DataType:
    if precision > _MAX_DECIMAL_DIGITS:
        raise _Unread(f"is a decimal of {precision} digits; at most {_MAX_DECIMAL_DIGITS} are read")
    is_small = precision <= 38
    return pa.decimal128(precision, scale) if is_small else pa.decimal256(precision, scale)


def align(writer: Any, reader: Any) -> Any:
    """Return a parsed writer schema that reads values with the meaning they have for the reader.

    Where the reader schema has no logical type, the base value is read.

    Raises:
      ValueError: a field has another logical type, so its numbers would mean something else.
    """
    clashes: list[str] = []
    aligned = _align(writer, reader, dict(reader.get(_KNOWN, {})), "", clashes)
    if clashes:
        raise ValueError("; ".join(clashes))
    return as_read(aligned)


def _align(
    writer: Any, reader: Any, named: Mapping[str, Any], path: str, clashes: list[str]
) -> Any:
    if isinstance(writer, list):
        return [_align(branch, reader, named, path, clashes) for branch in writer]
    if isinstance(reader, list):
        branches = [branch for branch in reader if branch != "null"]
        reader = branches[0] if len(branches) == 1 else None
    reader = named.get(reader, reader) if isinstance(reader, str) else reader
    if not isinstance(writer, dict) or reader is None:
        return writer
    base, is_nested = writer["type"], isinstance(reader, dict)
    if base == "record" and is_nested and "fields" in reader:
        kinds = {field["name"]: field["type"] for field in reader["fields"]}
        fields = [
            {**f, "type": _align(f["type"], kinds.get(f["name"]), named, _at(path, f), clashes)}
            for f in writer["fields"]
        ]
        return {**writer, "fields": fields}
    for part in ("items", "values"):
        if part in writer and is_nested and part in reader:
            return {**writer, part: _align(writer[part], reader[part], named, path, clashes)}
    has = writer.get("logicalType")
    wants = reader.get("logicalType") if is_nested else None
    if has is None or has == wants or (has, wants) in _RESOLVED:
        return writer
    if wants is not None:
        clashes.append(f"field '{path}': expected {wants}, got {has}")
    return {name: part for name, part in writer.items() if name != "logicalType"}


def _at(path: str, field: Mapping[str, Any]) -> str:
    return f"{path}.{field['name']}" if path else str(field["name"])
