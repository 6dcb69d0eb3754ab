"""Arrow types → types of a Delta table: columns that are kept, and keys."""

from __future__ import annotations

import pyarrow as pa
from deltalake.schema import Schema

from scoreline.lake.files.logical import name_type
from scoreline.lake.files.types import MAX_DIGITS, PLAIN_FORMS

# Delta has no unsigned integers, no bytes of a fixed size, no small decimals.
_STORED_AS = PLAIN_FORMS | {
    "uint8": pa.int16(),
    "uint16": pa.int32(),
    "uint32": pa.int64(),
    "halffloat": pa.float32(),
    "extension<arrow.uuid>": pa.binary(),
    "extension<arrow.json>": pa.string(),
}
# What to do about types that Delta lacks, by the beginning of their names.
_ADVICE = {
    "uint64": "Write it as int64, decimal(20, 0) or text",
    "time": "Write it as text, or as a timestamp",
    "duration": "Write it as a whole number of seconds or microseconds",
    "month_day_nano": "Write it as text, or as whole numbers of months, days and microseconds",
    "Parquet's INTERVAL": "Write it as text, or as whole numbers of months, days and microseconds",
    "Parquet's VARIANT": "Write it as JSON text, or its fields as columns",
    "decimal": f"Write it with at most {MAX_DIGITS} digits and a scale of at least 0",
    "list_view": "Write it as a list",
    "large_list_view": "Write it as a list",
    "extension": "Write the values of its storage type",
    "null": "It has no value in any row; write it with a type",
    "struct<>": "It has no fields",
}


def storable_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type of a column in a Delta table: the same, or one that holds all its values.

    Timestamps are the exception: Delta has none finer than a microsecond. The reader refuses values
    that would lose digits.

    Raises:
      ValueError: Delta Lake has no such type; the message ends with advice.
    """
    if pa.types.is_dictionary(data_type):
        return storable_type(data_type.value_type)
    if pa.types.is_timestamp(data_type):
        return pa.timestamp("us", "UTC" if data_type.tz else None)
    if pa.types.is_decimal(data_type) and not _is_delta_decimal(data_type):
        return _to_delta_decimal(data_type)
    if pa.types.is_fixed_size_binary(data_type):
        return pa.binary()
    if isinstance(data_type, pa.FixedShapeTensorType):
        return storable_type(data_type.storage_type)
    if pa.types.is_nested(data_type):
        return _storable_nested(data_type)
    stored = _STORED_AS.get(str(data_type), data_type)
    lacks = isinstance(stored, pa.BaseExtensionType) or pa.types.is_null(stored)
    if lacks or pa.types.is_uint64(stored):
        raise _unstorable(data_type)
    try:
        Schema.from_arrow(pa.schema([("column", stored)]))
    except Exception as e:  # deltalake raises a bare Exception for unknown types
        raise _unstorable(data_type) from e
    return stored


def key_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type of a key column in a Delta table. UUIDs are their 16 bytes.

    Raises:
      ValueError: Delta Lake has no such type, or its values cannot be compared to find duplicates.
    """
    stored = storable_type(data_type)
    if pa.types.is_nested(stored):
        raise ValueError(
            f"expected a key of numbers, text, bytes, bool, dates or timestamps, got "
            f"{name_type(data_type)}, whose values cannot be counted. Name another column, or a "
            "field of a struct as COLUMN.FIELD"
        )
    return stored


def _storable_nested(data_type: pa.DataType) -> pa.DataType:
    if pa.types.is_map(data_type):
        return pa.map_(storable_type(data_type.key_type), storable_type(data_type.item_type))
    if pa.types.is_fixed_size_list(data_type):
        return pa.list_(storable_type(data_type.value_type), data_type.list_size)
    if pa.types.is_struct(data_type) and data_type.num_fields:
        return pa.struct([field.with_type(storable_type(field.type)) for field in data_type])
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        return pa.list_(storable_type(data_type.value_type))
    raise _unstorable(data_type)  # Arrow cannot cast views of lists


def _is_delta_decimal(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_decimal128(data_type)) and data_type.scale >= 0


def _to_delta_decimal(data_type: pa.DataType) -> pa.DataType:
    if data_type.precision > MAX_DIGITS or data_type.scale < 0:
        raise _unstorable(data_type)
    return pa.decimal128(data_type.precision, data_type.scale)


def _unstorable(data_type: pa.DataType) -> ValueError:
    name = name_type(data_type)
    advice = next((text for start, text in _ADVICE.items() if name.startswith(start)), "")
    return ValueError(
        f"a Delta table cannot hold {name}. {advice or 'Write it with another type'}, or leave the "
        "column out"
    )
