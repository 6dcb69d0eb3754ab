"""Avro values → columns, and Avro types → Arrow types."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import fastavro
import pyarrow as pa
from fastavro.read import SchemaResolutionError

from scoreline.transforms.kafka.registry import RegistryClient

_TYPES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "enum": pa.string(),
    "fixed": pa.binary(),
}
_LOGICAL = {
    "date": pa.date32(),
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
}
HEADER_BYTES = 5  # Confluent's header: 0, then the schema id in four bytes


def parse_avro_schema(text: str) -> pa.Schema:
    """Return the columns of an Avro record schema, without fields that have no Arrow type.

    Raises:
      ValueError: it is not an Avro schema, or not the schema of a record.
    """
    try:
        parsed = fastavro.parse_schema(json.loads(text))
    except (ValueError, TypeError, KeyError, fastavro.schema.SchemaParseException) as e:
        raise ValueError(f"expected an Avro schema: {e}") from e
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise ValueError("expected an Avro schema of a record")
    named: dict[str, Any] = {}
    fields = [(field["name"], _to_arrow(field["type"], named)) for field in parsed["fields"]]
    return pa.schema([(name, kind) for name, kind in fields if kind is not None])


def _to_arrow(kind: Any, named: dict[str, Any]) -> pa.DataType | None:
    if isinstance(kind, list):
        others = [branch for branch in kind if branch != "null"]
        return _to_arrow(others[0], named) if len(others) == 1 else None
    if isinstance(kind, str):
        return (
            _TYPES.get(kind) or _to_arrow(named[kind], named) if kind in named else _TYPES.get(kind)
        )
    if "name" in kind:
        named[kind["name"]] = kind
    if "logicalType" in kind:
        return _LOGICAL.get(kind["logicalType"])
    if kind["type"] == "array":
        items = _to_arrow(kind["items"], named)
        return None if items is None else pa.list_(items)
    if kind["type"] == "record":
        fields = [(f["name"], _to_arrow(f["type"], named)) for f in kind["fields"]]
        return None if any(t is None for _, t in fields) else pa.struct(fields)
    return _TYPES.get(kind["type"])


class AvroDecoder:
    """Decodes one Avro record per value, without a file header, with fastavro."""

    def __init__(
        self,
        schema: pa.Schema,
        avro_schema: str,
        schema_id: int | None = None,
        registry: RegistryClient | None = None,
    ) -> None:
        """Set the columns, and the schemas to decode values with.

        Args:
          schema: the columns.
          avro_schema: the writer schema of values; with a registry, the reader schema.
          schema_id: its id, if values have Confluent's header.
          registry: the registry of the schemas whose ids are in values.
        """
        self._fields = list(schema)
        self._avro = fastavro.parse_schema(json.loads(avro_schema))
        self._header = None if schema_id is None else b"\0" + schema_id.to_bytes(4, "big")
        self._registry = registry

    def decode(self, values: Sequence[bytes]) -> list[pa.Array]:
        """Return the columns; see `Decoder`.

        Raises:
          RegistryFails: the registry does not return a schema.
        """
        read = self._read_any if self._registry else self._read_own
        rows = [read(value) for value in values]
        return [pa.array([row[field.name] for row in rows], field.type) for field in self._fields]

    def _read_own(self, value: bytes) -> Any:
        if self._header is None:
            return _read(value, 0, self._avro, None)
        header = value[:HEADER_BYTES]
        if header != self._header:
            raise ValueError(
                f"expected a value that starts with Confluent's header for schema id "
                f"{int.from_bytes(self._header[1:], 'big')}, got {header.hex(' ')}"
            )
        return _read(value, HEADER_BYTES, self._avro, None)

    def _read_any(self, value: bytes) -> Any:
        assert self._registry  # noqa: S101  for the type
        header = value[:HEADER_BYTES]
        if len(header) < HEADER_BYTES or header[0] != 0:
            raise ValueError(
                f"expected a value that starts with Confluent's header (0 and a schema id), got "
                f"{header.hex(' ')}"
            )
        schema_id = int.from_bytes(header[1:], "big")
        writer = self._registry.schema_of(schema_id)
        try:
            reader = None if writer == self._avro else self._avro
            return _read(value, HEADER_BYTES, writer, reader)
        except SchemaResolutionError as e:
            raise ValueError(
                f"expected a writer schema that is compatible with the reader schema, got schema "
                f"{schema_id}: {e}"
            ) from e


def _read(value: bytes, at: int, writer: Any, reader: Any) -> Any:
    """Return the record of a value, from a position to its end."""
    stream = io.BytesIO(value)
    stream.seek(at)
    row = fastavro.schemaless_reader(stream, writer, reader)
    if stream.tell() != len(value):
        raise ValueError(
            f"expected the end of the Avro record, got {len(value) - stream.tell()} more bytes"
        )
    return row
