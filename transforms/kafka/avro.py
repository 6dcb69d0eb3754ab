"""Avro: values → columns, scored rows → values, and the schemas of both."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Collection, Sequence
from typing import Any

import fastavro
import pyarrow as pa
from fastavro.read import SchemaResolutionError

from scoreline.transforms.kafka.avro_types import align, parse_record
from scoreline.transforms.kafka.encode import SOURCE_FIELDS
from scoreline.transforms.kafka.registry import RegistryClient

HEADER_BYTES = 5  # Confluent's header: 0, then the schema id in four bytes
_NAMESPACE = "scoreline"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_AVRO_TYPES = {
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
        self._avro = parse_record(avro_schema)
        self._writers: dict[int, tuple[Any, Any]] = {}
        self._clashes: dict[int, str] = {}
        self._header = None if schema_id is None else b"\0" + schema_id.to_bytes(4, "big")
        self._registry = registry

    def decode(self, values: Sequence[bytes]) -> list[pa.Array]:
        """Return the columns; see `Decoder`.

        Raises:
          RegistryFails: the registry does not return a schema.
        """
        read = self._read_any if self._registry else self._read_own
        rows = [read(value) for value in values]
        return [to_column([row[field.name] for row in rows], field) for field in self._fields]

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

    def _writer_of(self, schema_id: int) -> tuple[Any, Any]:
        """Return the schema of an id, and the reader schema; None for the latter if they are equal.

        The schema of the id has the logical types of the reader schema.
        """
        assert self._registry  # noqa: S101  for the type
        found = self._registry.schema_of(schema_id)
        if schema_id not in self._writers and schema_id not in self._clashes:
            try:
                writer = align(found, self._avro)
                reader = None if writer == self._avro else self._avro
                self._writers[schema_id] = writer, reader
            except ValueError as e:
                self._clashes[schema_id] = str(e)
        if schema_id in self._clashes:
            raise ValueError(
                f"expected a writer schema with the logical types of the reader schema, got schema "
                f"{schema_id}: {self._clashes[schema_id]}"
            )
        return self._writers[schema_id]

    def _read_any(self, value: bytes) -> Any:
        assert self._registry  # noqa: S101  for the type
        header = value[:HEADER_BYTES]
        if len(header) < HEADER_BYTES or header[0] != 0:
            raise ValueError(
                f"expected a value that starts with Confluent's header (0 and a schema id), got "
                f"{header.hex(' ')}"
            )
        schema_id = int.from_bytes(header[1:], "big")
        try:
            return _read(value, HEADER_BYTES, *self._writer_of(schema_id))
        except SchemaResolutionError as e:
            raise ValueError(
                f"expected a writer schema that is compatible with the reader schema, got schema "
                f"{schema_id}: {e}"
            ) from e


def to_column(values: list[Any], field: pa.Field) -> pa.Array:
    """Return the decoded values of a field as a column.

    Raises:
      ValueError: a value is not one of the type; the message names the field.
    """
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, TypeError, OverflowError) as e:
        raise ValueError(f"field '{field.name}': expected {field.type}, got: {e}") from e


def _read(value: bytes, at: int, writer: Any, reader: Any) -> Any:
    """Return the record of a value, from a position to its end."""
    stream = io.BytesIO(value)
    stream.seek(at)
    try:
        row = fastavro.schemaless_reader(stream, writer, reader)
    except SchemaResolutionError:
        raise
    except EOFError as e:
        raise ValueError(
            f"expected an Avro record of the schema, got {len(value)} bytes that end within one"
        ) from e
    except Exception as e:  # fastavro raises whatever its reader runs into
        raise ValueError(
            f"expected an Avro record of the schema, got {len(value)} bytes that cannot be read as "
            f"one ({type(e).__name__}: {e})"
        ) from e
    if stream.tell() != len(value):
        raise ValueError(
            f"expected the end of the Avro record, got {len(value) - stream.tell()} more bytes"
        )
    return row


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
    if pa.types.is_map(kind) and pa.types.is_string(kind.key_type):
        values = _to_avro(kind.item_type, f"{path}_value", problems, null_items)
        return {"type": "map", "values": ["null", values]}
    if kind not in _AVRO_TYPES:
        raise ValueError(f"Avro has no type for {kind}")
    return _AVRO_TYPES[kind]


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
            try:
                stored = column.cast(field.type)
                # fastavro accepts times as integers, which is faster than datetimes.
                is_time = pa.types.is_timestamp(field.type)
                stored = stored.cast(pa.int64()) if is_time else stored
                columns.append(stored.to_pylist(maps_as_pydicts="strict"))
            except (pa.ArrowException, ValueError, OverflowError) as e:
                raise ValueError(f"column '{field.name}': {e}") from e
        values = []
        for row in zip(*columns, strict=True):
            stream = io.BytesIO()
            stream.write(self._header)
            fastavro.schemaless_writer(stream, self._schema, dict(zip(names, row, strict=True)))
            values.append(stream.getvalue())
        return values
