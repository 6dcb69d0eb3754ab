"""Numbers of a text that no float of their column holds, and were read as infinity or NaN.

JSON and CSV have no infinity. A parser that reads 1e39 as a float32 returns infinity without an
error, and many accept the tokens `NaN` and `Infinity`, which are not JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from scoreline.lake.files.exact import are_below


def find_not_finite(table: pa.Table) -> str:
    """Return what is wrong with the first column that has infinity or NaN; "" if none has.

    Items of lists and fields of structs count too. Nulls are finite.
    """
    for name, column in zip(table.schema.names, table.columns, strict=True):
        for path, numbers in floats_of(column, name):
            if are_below(numbers, math.inf):
                continue
            if pc.all(pc.is_finite(numbers)).as_py() is False:
                return (
                    f"column '{path}': expected a number that {numbers.type} holds, got a larger "
                    "one, NaN or Infinity"
                )
    return ""


def floats_of(column: pa.ChunkedArray, path: str) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield the floats in a column, and in its lists and structs, with their paths."""
    kind = column.type
    if pa.types.is_floating(kind):
        yield path, column
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if _has_floats(kind):
            yield from floats_of(pc.list_flatten(column), path)
    elif pa.types.is_struct(kind):
        for number, field in enumerate(kind):
            if _has_floats(field.type):
                inner = pc.struct_field(column, [number])
                yield from floats_of(inner, f"{path}.{field.name}")


def _has_floats(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_floats(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_floating(kind))
