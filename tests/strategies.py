"""Hypothesis strategies for columns and record batches with the difficulties of real ones."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import strategies as st

_TEXT = st.text(max_size=40) | st.just("") | st.just("x" * 70_000)


def _arrays(values: st.SearchStrategy, data_type: pa.DataType, nulls: bool, rows: int | None):
    element = values | st.none() if nulls else values
    size = {"min_size": rows, "max_size": rows} if rows is not None else {"max_size": 30}
    return st.lists(element, **size).map(lambda items: pa.array(items, data_type))


@st.composite
def text_columns(draw: st.DrawFn, nulls: bool = True, rows: int | None = None) -> pa.Array:
    """Draw text as string, large string, binary or dictionary, with nulls."""
    kind = draw(st.sampled_from(["plain", "large", "binary", "dictionary", "null in dictionary"]))
    array = draw(_arrays(_TEXT, pa.string(), nulls, rows))
    if kind == "large":
        return array.cast(pa.large_string())
    if kind == "binary":
        return array.cast(pa.binary())
    if kind == "dictionary":
        return array.dictionary_encode()
    if kind == "null in dictionary" and nulls:
        return array.dictionary_encode(null_encoding="encode")
    return array


@st.composite
def number_columns(
    draw: st.DrawFn, dtype: str, nulls: bool = True, rows: int | None = None
) -> pa.Array:
    """Draw numbers of a type whose values all fit into a tensor dtype."""
    if dtype == "bool":
        return draw(_arrays(st.booleans(), pa.bool_(), nulls, rows))
    if dtype == "float32":
        width = draw(st.sampled_from([16, 32]))
        floats = st.floats(width=width, allow_nan=True)
        return draw(_arrays(floats, {16: pa.float16(), 32: pa.float32()}[width], nulls, rows))
    narrow = {"int64": ["int8", "int32", "int64", "uint32"], "float64": ["int32", "uint32"]}[dtype]
    data_type = pa.type_for_alias(draw(st.sampled_from(narrow)))
    bits = data_type.bit_width
    low, high = (
        (0, 2**bits - 1) if "u" in str(data_type) else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    return draw(_arrays(st.integers(low, high), data_type, nulls, rows))


@st.composite
def record_batches(draw: st.DrawFn, nulls: bool = True) -> pa.RecordBatch:
    """Draw a batch of x (float32), n (int64), s (text), b (bool), often a slice of another."""
    rows = draw(st.integers(0, 20))
    batch = pa.RecordBatch.from_arrays(
        [
            draw(number_columns("float32", nulls, rows)),
            draw(number_columns("int64", nulls, rows)),
            draw(text_columns(nulls, rows)),
            draw(number_columns("bool", nulls, rows)),
        ],
        ["x", "n", "s", "b"],
    )
    start = draw(st.integers(0, rows))
    return batch.slice(start, draw(st.integers(0, rows - start)))
