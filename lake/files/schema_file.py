"""The file of `--schema` → Arrow schema: JSON for text files, tensorflow-metadata for TFRecord."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from scoreline.lake.files.csv import parse_csv
from scoreline.lake.files.json_lines import parse_lines

_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), *tz=([A-Za-z0-9_+:/-]+)\]\Z")
_OFFSET = re.compile(r"[+-]\d\d:\d\d\Z")
_KINDS = {"INT": pa.int64(), "FLOAT": pa.float32(), "BYTES": pa.large_binary()}


def parse_types(text: str) -> pa.Schema:
    """Return the schema that a JSON object of columns and types describes.

    A type is one of Arrow's names (`int64`, `float32`, `string`, `timestamp[us]`…), a timestamp
    with a time zone (`timestamp[us, tz=UTC]`), `list<TYPE>`, or an object of fields and types.

    Raises:
      ValueError: the text is not such an object; the message says where.
    """
    try:
        columns = json.loads(text)
    except ValueError as e:
        raise ValueError(f'expected JSON such as {{"id": "int64", "x": "float32"}}: {e}') from e
    if not isinstance(columns, dict) or not columns:
        raise ValueError('expected an object of columns and types such as {"id": "int64"}')
    return pa.schema([(name, _parse_type(name, kind)) for name, kind in columns.items()])


def _parse_type(name: str, kind: Any) -> pa.DataType:
    if isinstance(kind, dict) and kind:
        return pa.struct([(child, _parse_type(f"{name}.{child}", k)) for child, k in kind.items()])
    if isinstance(kind, str) and kind.startswith("list<") and kind.endswith(">"):
        return pa.list_(_parse_type(name, kind[len("list<") : -1]))
    try:
        if isinstance(kind, str) and (zoned := _ZONED.match(kind)):
            unit, zone = zoned.groups()
            return pa.timestamp(unit, _check_zone(zone))
        return pa.type_for_alias(kind)
    except (ValueError, TypeError, KeyError) as e:
        raise ValueError(
            f"column '{name}': expected a type such as int64, float32, string, bool, "
            f"timestamp[us], timestamp[us, tz=UTC] or list<float32>, got {kind!r}"
        ) from e


def _check_zone(name: str) -> str:
    if name != "UTC" and not _OFFSET.match(name):
        ZoneInfo(name)  # a KeyError if the machine's database of zones lacks it
    return name


def parse_features(text: str) -> pa.Schema:
    """Return the columns of a tensorflow-metadata Schema in text format.

    A feature whose shape or value count is fixed to one value is a plain column. Any other is a
    column of lists.

    Raises:
      ValueError: the text is not such a schema, or a feature has a type that no tf.Example holds.
    """
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as e:
        raise ValueError(f"expected a tensorflow-metadata Schema in text format: {e}") from e
    if not schema.feature:
        raise ValueError("expected a tensorflow-metadata Schema with features, got none")
    return pa.schema([(feature.name, _feature_type(feature)) for feature in schema.feature])


def _feature_type(feature: Any) -> pa.DataType:
    kind = type(feature).DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[feature.type]
    if kind.name not in _KINDS:
        raise ValueError(
            f"feature '{feature.name}': expected type INT, FLOAT or BYTES, got {kind.name}"
        )
    values = feature.value_count
    is_one = feature.HasField("shape") and all(dim.size == 1 for dim in feature.shape.dim)
    is_one = is_one or (feature.HasField("value_count") and values.min == values.max == 1)
    leaf = _KINDS[kind.name]
    return leaf if is_one else pa.large_list(leaf)


_PARSERS: Mapping[str, Callable[[str], pa.Schema]] = {
    "tfrecord": parse_features,
    "csv": parse_types,
    "jsonl": parse_types,
}


def read_schema_file(path: str, data_format: str) -> pa.Schema:
    """Return the schema that a file describes, for data of a format.

    Raises:
      ValueError: the file describes no schema, or data of this format has its own.
      OSError: the file cannot be read.
    """
    if data_format not in _PARSERS:
        raise ValueError("Parquet files say their own schema. Leave the option out")
    schema = _PARSERS[data_format](Path(path).read_text(encoding="utf-8-sig"))
    probe = {"csv": _probe_csv, "jsonl": _probe_json}.get(data_format)
    for field in schema if probe else ():
        if probe and not probe(field):
            raise ValueError(
                f"column '{field.name}': {data_format} files hold no {field.type}. Set another "
                "type, such as string or float32"
            )
    return schema


def _probe_csv(field: pa.Field) -> bool:
    """Return whether CSV can be read as a type."""
    try:
        parse_csv(b'""\n', [field.name], {field.name: field.type}, [field.name])
    except pa.ArrowInvalid:
        pass  # the empty text is no number, but the type is read
    except pa.ArrowException:
        return False
    return not pa.types.is_null(field.type)


def _probe_json(field: pa.Field) -> bool:
    """Return whether JSON Lines can be read as a type; JSON has no times of day."""
    try:
        parse_lines(b"{}", pa.schema([field]))
    except pa.ArrowException:
        return False
    return not (pa.types.is_null(field.type) or pa.types.is_time(field.type))
