"""The types of a record's columns, from `--schema`, a registry, or the model's inputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from scoreline.lake.files.examples import RAW_COLUMN
from scoreline.lake.files.schema_file import parse_features, parse_types
from scoreline.models.examples import stored_type
from scoreline.models.mapping import find_field
from scoreline.models.outputs import output_type
from scoreline.models.signature import InputColumn, TensorSpec
from scoreline.pipelines.options.problems import Passing, Problems
from scoreline.pipelines.options.stream import StreamSettings
from scoreline.pipelines.plan.fit import Fit
from scoreline.pipelines.plan.topics import Topics, registry_of
from scoreline.transforms.kafka.avro_types import AvroColumns, parse_columns
from scoreline.transforms.kafka.registry import Registry, RegistryAway


class RecordSchema(NamedTuple):
    """The given schema of records.

    Attributes:
      text: the text of the schema; "" if there is none.
      columns: its columns.
      registry: the schema registry; None if it is not given.
      avro: the columns and unread fields of an Avro schema; None for another format.
    """

    text: str
    columns: pa.Schema
    registry: Registry | None
    avro: AvroColumns | None = None


def find_schema(
    settings: StreamSettings, topics: Topics, problems: Problems
) -> RecordSchema | None:
    """Return the given schema of records; None, with a problem, if it is wrong."""
    source = settings.source
    registry = registry_of(source)
    text = _read_text(settings, registry, problems)
    if text is None:
        return None
    parse = {"json": parse_types, "example": parse_features}
    if source.format not in (*parse, "avro"):
        return None  # reported with the options
    try:
        if source.format == "avro":
            avro = parse_columns(text)
            return RecordSchema(text, avro.schema, registry, avro)
        columns = parse[source.format](text) if text else pa.schema([])
    except ValueError as e:
        named = source.schema or f"the newest schema of {source.topic}-value"
        problems.add(f"--schema: {named}: {e}")
        return None
    return RecordSchema(text, columns, registry)


def _read_text(
    settings: StreamSettings, registry: Registry | None, problems: Problems
) -> str | None:
    """Return the text of the schema; "" if there is none, None if it cannot be read."""
    source, subject = settings.source, f"{settings.source.topic}-value"
    if source.schema is not None and not os.path.isfile(source.schema):
        return None  # reported with the options
    try:
        if source.schema is not None:
            return Path(source.schema).read_text("utf-8")
        if source.format != "avro":
            return ""
        if registry is None:
            return None  # reported with the options
        found = registry.connect().latest(subject)
        if found is not None:
            return found.schema
        problems.add(
            f"--schema_registry: expected a subject {subject} at {registry.url}, got none. Set the "
            "Avro reader schema with --schema"
        )
    except RegistryAway as e:
        problems.add(Passing(f"--schema_registry: {e}"))
    except (ValueError, OSError) as e:
        flag = "--schema_registry" if source.schema is None else f"--schema: {source.schema}"
        problems.add(f"{flag}: {e}")
    return None


def complete_schema(
    settings: StreamSettings, fit: Fit, given: RecordSchema, problems: Problems
) -> pa.Schema | None:
    """Return the types of a record's columns: the given types, and those of the inputs they feed.

    Adds a problem for columns of unknown type. None, with a problem, if a field cannot be read.
    """
    data_format = settings.source.format
    if given.avro is not None:
        wanted = (*fit.carried, *(source.column for source in fit.inputs))
        reasons = [given.avro.why_unread(column) for column in dict.fromkeys(wanted)]
        problems.add_all(
            f"--schema: {reason}. Leave it out, or write it as another type"
            for reason in dict.fromkeys(filter(None, reasons))
        )
        return None if any(reasons) else given.columns
    columns = {field.name: field.type for field in given.columns}
    if data_format == "example":
        columns[RAW_COLUMN] = pa.large_binary()
    features = [InputColumn(spec, spec.name) for spec in fit.signature.inputs]
    for source in (*fit.inputs, *(features if fit.signature.example_input else ())):
        if not source.conversion and not find_field(
            pa.schema(list(columns.items())), source.column
        ):
            columns[source.column] = _type_of(source.tensor, data_format)
    schema = pa.schema(list(columns.items()))
    wanted = (*fit.carried, *(source.column for source in fit.inputs))
    unknown = [name for name in dict.fromkeys(wanted) if not find_field(schema, name)]
    if unknown:
        how = (
            "a tensorflow-metadata Schema in text format"
            if data_format == "example"
            else 'JSON such as {"' + unknown[0] + '": "int64"}'
        )
        problems.add(
            f"--schema: expected a file with the types of {', '.join(unknown)}, which the model's "
            f"signature lacks: {how}"
        )
        schema = pa.schema([*schema, *((name, pa.string()) for name in unknown)])
    return schema


def _type_of(spec: TensorSpec, data_format: str) -> pa.DataType:
    if data_format == "example":
        return stored_type(spec)
    kind = output_type(spec._replace(shape=(None,)))
    for _ in () if spec.is_one_value else spec.row_shape:
        kind = pa.list_(kind)  # Arrow's JSON parser does not support lists of a fixed size
    return kind
