"""Parquet's logical types that Arrow does not know: what the values of a column mean.

Arrow reads these columns as the bytes that they are stored in. Copied like that, an INTERVAL would
become 12 meaningless bytes in the table, without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoreline.lake.files.footer import MAX_LEVELS

_INTERVAL_BYTES = 12
_VARIANT_FIELDS = ["metadata", "value"]
# Types of Arrow whose values are those of their storage: text, 16 bytes, lists.
_PLAIN_EXTENSIONS = ("arrow.json", "arrow.uuid", "arrow.fixed_shape_tensor")


# Types that are what they seem, by the numbers that Arrow gives them. Looking at a type in another
# way costs more than reading a file of one row should.
_CLEAR = {
    data_type.id
    for data_type in (
        *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16()),
        *(pa.uint32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string()),
        *(pa.large_string(), pa.date32(), pa.timestamp("us"), pa.decimal128(1), pa.time64("us")),
    )
}


def true_schema(file: pq.ParquetFile, schema: pa.Schema) -> pa.Schema:
    """Return a file's schema with the types that its columns mean.

    ENUM and JSON are text, a UUID is its 16 bytes. INTERVAL and VARIANT have no Arrow type of their
    own here. They become opaque types of that name, which nothing can be made of: no column of the
    table, and no input.

    Args:
      file: the file.
      schema: its schema as Arrow sees it.

    Raises:
      ValueError: its columns nest too deep.
    """
    if not any(_may_hide(kind) for kind in schema.types):
        return schema
    leaves = (file.schema.column(number) for number in range(len(file.schema)))
    has_variants = "(Variant" in str(file.schema)
    fields = [field.with_type(_true_type(field.type, leaves, has_variants)) for field in schema]
    return pa.schema(fields, schema.metadata)


def name_type(data_type: pa.DataType) -> str:
    """Return the name of a type in a message."""
    if isinstance(data_type, pa.OpaqueType) and data_type.vendor_name == "Parquet":
        return f"Parquet's {data_type.type_name}"
    return str(data_type)


def _may_hide(kind: pa.DataType, level: int = 0) -> bool:
    """Return whether a type may stand for another; other files cost no more than this."""
    if kind.id in _CLEAR:
        return False
    if isinstance(kind, pa.BaseExtensionType):
        return kind.extension_name in _PLAIN_EXTENSIONS
    if pa.types.is_dictionary(kind):
        return _may_hide(kind.value_type, level)
    if level > MAX_LEVELS:
        raise ValueError(f"expected columns of at most {MAX_LEVELS} levels, got more")
    if pa.types.is_nested(kind):
        return any(_may_hide(kind.field(i).type, level + 1) for i in range(kind.num_fields))
    if pa.types.is_fixed_size_binary(kind):
        return kind.byte_width == _INTERVAL_BYTES
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _true_type(kind: pa.DataType, leaves: Iterator[Any], has_variants: bool) -> pa.DataType:
    """Return what a type means; leaves are those of Parquet's schema, in the same order."""

    def inner(data_type: pa.DataType) -> pa.DataType:
        return _true_type(data_type, leaves, has_variants)

    if isinstance(kind, pa.BaseExtensionType):
        inner(kind.storage_type)  # passes over its leaves
        return kind.storage_type if kind.extension_name in _PLAIN_EXTENSIONS else kind
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, inner(kind.value_type), kind.ordered)
    if pa.types.is_map(kind):
        return pa.map_(inner(kind.key_type), kind.item_field.with_type(inner(kind.item_type)))
    if pa.types.is_struct(kind):
        fields = [field.with_type(inner(field.type)) for field in kind]
        is_variant = has_variants and [field.name for field in fields[:2]] == _VARIANT_FIELDS
        return pa.opaque(kind, "VARIANT", "Parquet") if is_variant else pa.struct(fields)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(inner(kind.value_type)), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(inner(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(inner(kind.value_type)))
    if pa.types.is_nested(kind):  # views of lists
        inner(kind.value_type)
        return kind
    leaf = next(leaves)
    if leaf.converted_type == "INTERVAL":
        return pa.opaque(kind, "INTERVAL", "Parquet")
    return pa.string() if leaf.logical_type.type == "ENUM" else kind
