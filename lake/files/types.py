"""Types of one column in several files: the narrowest one that holds every value of all exactly.

Loss-free, and so allowed: null to any type, an integer to a wider one, float32 to float64, a
decimal to one of more digits, and each of these within lists and structs. Text may be `string`,
`large_string` or a dictionary in each file. All else is another type: integers and floats, text and
numbers, dates and timestamps, timestamps with and without a time zone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import pyarrow as pa

_SIGNED = {kind.bit_width: kind for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())}
# Forms of the same values, by name, and the plain type for them.
PLAIN_FORMS = {
    "large_string": pa.string(),
    "string_view": pa.string(),
    "large_binary": pa.binary(),
    "binary_view": pa.binary(),
    "date64[ms]": pa.date32(),
}
MAX_DIGITS = 38


def common_type(kinds: Iterable[pa.DataType]) -> pa.DataType | None:
    """Return the narrowest type that holds all values of some types; None if there is none."""

    def join(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
        return None if one is None or other is None else _join(one, other)

    return functools.reduce(join, map(plain_type, kinds))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return one type for those that differ only in the form of their values."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain_type(field.type)) for field in kind])
    return PLAIN_FORMS.get(str(kind), kind)


def _join(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the common type of two plain types."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    for is_kind in (pa.types.is_signed_integer, pa.types.is_unsigned_integer, pa.types.is_floating):
        if is_kind(one) and is_kind(other):
            return max(one, other, key=lambda kind: kind.bit_width)
    if pa.types.is_integer(one) and pa.types.is_integer(other):  # one of them is unsigned
        bits = (2 if pa.types.is_unsigned_integer(kind) else 1 for kind in (one, other))
        widths = (kind.bit_width for kind in (one, other))
        return _SIGNED.get(max(b * w for b, w in zip(bits, widths, strict=True)))
    if pa.types.is_decimal(one) and pa.types.is_decimal(other):
        scale = max(one.scale, other.scale)
        digits = scale + max(one.precision - one.scale, other.precision - other.scale)
        return pa.decimal128(digits, scale) if digits <= MAX_DIGITS else None
    if _is_list(one) and _is_list(other):
        value = _join(one.value_type, other.value_type)
        sizes = {getattr(kind, "list_size", -1) for kind in (one, other)}
        return None if value is None else pa.list_(value, sizes.pop() if len(sizes) == 1 else -1)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _join_structs(one, other)
    return None


def _join_structs(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    names = [field.name for field in one]
    if names != [field.name for field in other]:
        return None
    kinds = [_join(one.field(i).type, other.field(i).type) for i in range(one.num_fields)]
    return None if None in kinds else pa.struct(list(zip(names, kinds, strict=True)))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))


def holds_null(kind: pa.DataType) -> bool:
    """Return whether a type, or one within it, has nulls only."""
    if pa.types.is_struct(kind):
        return any(holds_null(field.type) for field in kind)
    value = getattr(kind, "value_type", None)
    return pa.types.is_null(kind) if value is None else holds_null(value)


def find_casts(schemas: Iterable[pa.Schema], columns: Iterable[str]) -> dict[str, pa.DataType]:
    """Return the top-level columns whose types differ, with the common type to read them as."""
    casts = {}
    held = list(schemas)
    for column in columns:
        kinds = {schema.field(column).type for schema in held if column in schema.names}
        common = common_type(kinds) if len(kinds) > 1 else None
        if common is not None and any(_differs(kind, common) for kind in kinds):
            casts[column] = common
    return casts


def cast_columns(batch: pa.RecordBatch, casts: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Return a batch with columns of their common types; fields of structs that it lacks stay out.

    Raises:
      pyarrow.ArrowInvalid: a value does not fit its type.
    """
    for i, name in enumerate(batch.schema.names):
        kind = batch.column(i).type
        wanted = _within(kind, casts[name]) if name in casts else kind
        if _differs(kind, wanted):
            column = batch.column(i)
            column = column.dictionary_decode() if pa.types.is_dictionary(kind) else column
            batch = batch.set_column(i, name, column.cast(wanted))
    return batch


def cast_schema(schema: pa.Schema, casts: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the schema of batches after `cast_columns`."""
    return pa.schema(
        [
            field.with_type(casts[field.name])
            if field.name in casts and _differs(field.type, casts[field.name])
            else field
            for field in schema
        ]
    )


def _within(kind: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """Return the wanted type with only the fields that a struct has."""
    if not (pa.types.is_struct(kind) and pa.types.is_struct(wanted)):
        return wanted
    fields = {field.name: field.type for field in wanted}
    return pa.struct([(f.name, _within(f.type, fields.get(f.name, f.type))) for f in kind])


def _differs(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether values need a cast: other forms of text are left as they are."""
    return kind != wanted and plain_type(kind) != wanted
