"""Scored rows → Avro values, and their Avro schema."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Collection
from typing import Any

import fastavro
import pyarrow as pa

from scoreline.transforms.kafka.encode import SOURCE_FIELDS

_NAMESPACE = "scoreline"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TYPES = {
    pa.bool_(): "boolean",
    pa.int8(): "int",
    pa.int16(): "int",
    pa.int32(): "int",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.binary(): "bytes",
    pa.date32(): {"type": "int", "logicalType": "date"},
}
# Every scored record has these. All other fields may be null, and null is their default. So the
# schema stays compatible if an output is added or removed later.
_ALWAYS = {f.name for f in SOURCE_FIELDS if f.name != "event_time"} | {"model_digest"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AvroSpec:
    """The encoding of values.

    Attributes:
      columns: columns and types of a row, as passed to `to_avro_schema`.
      schema: the Avro schema, as JSON.
      schema_id: its id, in Confluent's header before each value; None for no header.
    """

    columns: pa.Schema
    schema: str
    schema_id: int | None = None


def to_avro_schema(columns: pa.Schema, outputs: Collection[str] = ()) -> str:
    """Return the schema of a record with these columns, as JSON.

    Columns are nullable, except those that every scored record has. Items of lists are nullable,
    except in outputs of the model, because an item of a union costs one more byte and a type check.

    Args:
      columns: names and types, those of a Delta table.
      outputs: the columns that are outputs of the model.

    Raises:
      ValueError: Avro does not support a name or type; the message lists all of them.
    """
    problems: list[str] = []
    fields = []
    for column in columns:
        _check_name(column.name, problems)
        try:
            kind = _to_avro(column.type, column.name, problems, column.name not in outputs)
        except ValueError as e:
            problems.append(f"column '{column.name}': {e}")
            continue
        if column.name in _ALWAYS:
            fields.append({"name": column.name, "type": kind})
        else:
            fields.append({"name": column.name, "type": ["null", kind], "default": None})
    if problems:
        raise ValueError("; ".join(problems))
    record = {"type": "record", "name": "Score", "namespace": _NAMESPACE, "fields": fields}
    return json.dumps(record)


def _check_name(name: str, problems: list[str]) -> None:
    if not _NAME.match(name):
        problems.append(f"'{name}' is not a name in Avro: use letters, digits and _")


def _to_avro(kind: pa.DataType, path: str, problems: list[str], null_items: bool) -> Any:
    if pa.types.is_timestamp(kind):
        prefix = "timestamp" if kind.tz else "local-timestamp"
        return {"type": "long", "logicalType": f"{prefix}-micros"}
    if pa.types.is_decimal(kind):
        decimal = {"precision": kind.precision, "scale": kind.scale}
        return {"type": "bytes", "logicalType": "decimal", **decimal}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        items = _to_avro(kind.value_type, path, problems, null_items)
        return {"type": "array", "items": ["null", items] if null_items else items}
    if pa.types.is_struct(kind):
        fields = []
        for field in kind:
            _check_name(field.name, problems)
            inner = _to_avro(field.type, f"{path}_{field.name}", problems, null_items)
            fields.append({"name": field.name, "type": ["null", inner], "default": None})
        return {"type": "record", "name": f"{path}_record", "fields": fields}
    if kind not in _TYPES:
        raise ValueError(f"Avro has no type for {kind}")
    return _TYPES[kind]


class AvroEncoder:
    """Writes one Avro record per row, without a file header."""

    def __init__(self, spec: AvroSpec) -> None:
        """Parse the schema."""
        self._columns = spec.columns
        self._schema = fastavro.parse_schema(json.loads(spec.schema))
        self._header = b"" if spec.schema_id is None else b"\0" + spec.schema_id.to_bytes(4, "big")

    def encode(self, rows: pa.RecordBatch) -> list[bytes]:
        """Return one value per row of a batch, whose columns are in the order of the schema."""
        names = self._columns.names
        columns = []
        for column, field in zip(rows.columns, self._columns, strict=True):
            stored = column.cast(field.type)
            # fastavro accepts times as integers, which is faster than datetimes.
            is_time = pa.types.is_timestamp(field.type)
            columns.append((stored.cast(pa.int64()) if is_time else stored).to_pylist())
        values = []
        for row in zip(*columns, strict=True):
            stream = io.BytesIO()
            stream.write(self._header)
            fastavro.schemaless_writer(stream, self._schema, dict(zip(names, row, strict=True)))
            values.append(stream.getvalue())
        return values
