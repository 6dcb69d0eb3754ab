"""Which column feeds which input: paths into structs, and whether types and shapes fit."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from scoreline.models.conversions import RAGGED, RAW, SCALED, converted_type
from scoreline.models.names import quote_name
from scoreline.models.shapes import find_shape_problem, nesting_of
from scoreline.models.signature import InputColumn, Signature, fits
from scoreline.models.suggest import find_similar, paths_of


def find_field(schema: pa.Schema, path: str) -> list[pa.DataType]:
    """Return the type at a path: a column of that name, or a field of a struct as `parent.child`.

    The list is empty if there is none, and has several types if names repeat.
    """
    at = schema.get_all_field_indices(path)
    if at:
        return [schema.field(i).type for i in at]
    parent, dot, child = path.rpartition(".")
    if not dot:
        return []
    return [
        found.field(i).type
        for found in find_field(schema, parent)
        if pa.types.is_struct(found)
        for i in found.get_all_field_indices(child)
    ]


def select_column(batch: pa.RecordBatch, path: str) -> pa.Array:
    """Return the column or struct field at a path; the fields of a null struct are null.

    Raises:
      KeyError: the batch has no such column or field.
    """
    if batch.schema.get_field_index(path) >= 0:
        return batch.column(path)
    parent, dot, child = path.rpartition(".")
    if not dot:
        raise KeyError(path)
    return pc.struct_field(select_column(batch, parent), child)


def find_mismatches(
    signature: Signature,
    inputs: Sequence[InputColumn],
    schema: pa.Schema,
    others: Sequence[str] = (),
) -> dict[str, str]:
    """Return the inputs that a table of this schema cannot feed, each with its problem.

    Keys are input names. Values are sentences that do not name the place, so that a caller can
    report one problem once for all partitions that have it. `others` are further columns that a
    misspelled name may mean.
    """
    found = ((source.tensor.name, _find_mismatch(source, schema, others)) for source in inputs)
    wants = {s.tensor.name: f"'{s.tensor.name}' as {s.tensor}" for s in inputs}
    return {
        name: f"Signature '{signature.name}' wants input {wants[name]}; {problem}"
        for name, problem in found
        if problem
    }


def _find_mismatch(source: InputColumn, schema: pa.Schema, others: Sequence[str]) -> str:
    name, column = source.tensor.name, source.column
    types = find_field(schema, column)
    similar = "" if types else find_similar(column, [*paths_of(schema), *others])
    if similar:
        meant = f"{source.conversion}({similar})" if source.conversion else similar
        return (
            f"the table has no column '{column}'; did you mean '{similar}'? Name it with "
            f"--columns '{name}={meant}', or add the column"
        )
    if not types:
        return (
            f"the table has no column '{column}'. "
            f"Add the column, or name another with --columns {quote_name(name)}=COLUMN"
        )
    if len(types) > 1:
        return f"the table has {len(types)} columns named '{column}'. Rename all but one"
    return _find_type_problem(source, types[0])


def _find_type_problem(source: InputColumn, kind: pa.DataType) -> str:
    name, tensor = source.tensor.name, source.tensor
    has = f"the table has column '{source.column}' as {_name_type(kind)}"
    nesting = nesting_of(kind)
    try:
        leaf = converted_type(source.conversion, nesting.leaf)
    except ValueError as e:
        return f"{has}, and {e}"
    if source.conversion in RAGGED:
        return _find_ragged_problem(source, kind, has)
    if pa.types.is_null(kind):
        return ""  # every row is a null: an error of the row, not of the column
    if tensor.quantized and not source.conversion and pa.types.is_integer(leaf):
        return f"{has}. {_ask_scale(source)}"
    fitting = fits(leaf, tensor.dtype) or source.conversion == tensor.dtype == "bfloat16"
    if not fitting and not isinstance(leaf, pa.StructType):
        return f"{has}. {_advise(source, leaf, kind)}"
    if not fitting:
        field = f"{quote_name(name)}={source.column}.FIELD"
        return f"{has}. Name one of its fields with --columns {field}"
    problem = find_shape_problem(kind, source)
    return f"{has}. {problem}" if problem else ""


def _name_type(kind: pa.DataType) -> str:
    """Return the name of a type in a message; an opaque one stands for what Arrow does not know."""
    is_opaque = isinstance(kind, pa.OpaqueType)
    return f"{kind.vendor_name}'s {kind.type_name}" if is_opaque else str(kind)


def _find_ragged_problem(source: InputColumn, kind: pa.DataType, has: str) -> str:
    nesting = nesting_of(kind)
    tensor = source.tensor
    if len(nesting.sizes) != 1 or tensor.row_shape:
        return (
            f"{has}; {source.conversion}(…) takes a column of lists, for an input of shape [None]"
        )
    if source.conversion == "row_splits":
        if tensor.dtype in ("int64", "int32"):
            return ""
        return f"{has}; row_splits(…) is for an int64 or int32 input"
    return "" if fits(nesting.leaf, tensor.dtype) else f"{has}. Cast its values in the table"


def _ask_scale(source: InputColumn) -> str:
    """Return the question that integers for a quantized input raise: both meanings are common."""
    scaled, raw = (_in_conversion(source, conversion) for conversion in (SCALED, RAW))
    return (
        f"Integers can be real numbers or the stored numbers of a quantized input. Say which: "
        f"{scaled} for real numbers, {raw} for stored ones"
    )


def _in_conversion(source: InputColumn, conversion: str) -> str:
    column = f"{conversion}({quote_name(source.column)})"
    return f"--columns '{quote_name(source.tensor.name)}={column}'"


def _advise(source: InputColumn, leaf: pa.DataType, kind: pa.DataType) -> str:
    """Return advice for values that do not fit: a conversion, if there is one."""
    dtype = source.tensor.dtype
    otherwise = f"or export the model with an input that holds every {_name_type(kind)}"
    for conversion in (dtype, "epoch_s"):
        try:
            result = converted_type(conversion, leaf)
        except ValueError:
            continue
        if result == leaf or not (fits(result, dtype) or conversion == "bfloat16"):
            continue
        asked = _in_conversion(source, conversion)
        if "float" in conversion or conversion == "epoch_s":
            return f"Cast it in the table, ask for the nearest value with {asked}, {otherwise}"
        return (
            f"Cast it in the table, ask for the same values as {dtype} with {asked}, which makes a "
            f"row with any other value a dead letter, {otherwise}"
        )
    return f"Cast it in the table, {otherwise}"
