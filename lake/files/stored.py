"""Values of keys and kept columns that a table cannot hold, checked while the file is known.

A batch may be joined from many files, so the step that writes it cannot name one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.lake.files.columns import column_of

_TOO_FINE = (
    "expected times in whole microseconds, the finest that a Delta table holds, got nanoseconds. "
    "Round them in the table, write them as int64, or leave the column out of --keys and --keep"
)
_TOO_FAR = (
    "expected times of the years -290307 to 294246, which a Delta table holds in microseconds, got "
    "one beyond them. Write the column as int64, or leave it out of --keys and --keep"
)
_TICKS_OF_MICROS = {"s": 10**6, "ms": 10**3}
_NO_TEXT = (
    "expected UTF-8 text, got other bytes. Write the column as binary, or leave it out of --keys "
    "and --keep"
)
_CONTINUATION = 0x80  # the first two bits of a byte within a character are 10
_FIRST_BITS = 0xC0


def check_stored(batch: pa.RecordBatch, columns: Sequence[str]) -> None:
    """Check that a table can hold the values of columns; those that a batch lacks do not count.

    Args:
      batch: rows of one file.
      columns: the columns; `parent.child` is that field of a struct column.

    Raises:
      ValueError: times are too fine or too far, or text is not UTF-8; the message names the column.
    """
    for path in columns:
        for leaf in _leaves(_find(batch, path)):
            if pa.types.is_timestamp(leaf.type) and _has_nanoseconds(leaf):
                raise ValueError(f"column '{path}': {_TOO_FINE}")
            if pa.types.is_timestamp(leaf.type) and _is_too_far(leaf):
                raise ValueError(f"column '{path}': {_TOO_FAR}")
            is_text = pa.types.is_string(leaf.type) or pa.types.is_large_string(leaf.type)
            if is_text and not _is_utf8(leaf):
                raise ValueError(f"column '{path}': {_NO_TEXT}")


def check_digits(micros: pa.RecordBatch, nanos: pa.RecordBatch) -> None:
    """Check that times of 96 bits lost nothing when they were read as microseconds.

    Args:
      micros: rows, read as microseconds.
      nanos: the same rows of some of the columns, read as nanoseconds, which may have overflowed.

    Raises:
      ValueError: a time has nanoseconds; the message names the column.
    """
    for name, exact in zip(nanos.schema.names, nanos.columns, strict=True):
        read = _times_of(micros.column(name))
        for coarse, fine in zip(read, _times_of(exact), strict=True):
            ticks = [pc.fill_null(a.view(pa.int64()), 0).to_numpy() for a in (coarse, fine)]
            # Both are modulo 2^64, so an overflow of the nanoseconds does not matter.
            if len(ticks[0]) != len(ticks[1]) or np.any(ticks[0] * 1000 != ticks[1]):
                raise ValueError(f"column '{name}': {_TOO_FINE}")


def _find(batch: pa.RecordBatch, path: str) -> pa.Array:
    top = column_of(batch.schema, path)
    if top not in batch.schema.names:
        return pa.nulls(0)
    rest = path[len(top) + 1 :]
    column = batch.column(top)
    return pc.struct_field(column, rest.split(".")) if rest else column


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    """Yield the arrays of plain values of a column; a dictionary counts as its values."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary)
    elif pa.types.is_struct(kind):
        for field in array.flatten():
            yield from _leaves(field)
    elif pa.types.is_map(kind):
        # Its entries have the rows of a slice only if it is read as a list.
        entry = pa.struct([kind.key_field, kind.item_field])
        yield from _leaves(array.cast(pa.list_(pa.field("entries", entry, nullable=False))))
    elif any(
        test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view)
    ) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(array.flatten())
    else:
        yield array


def _times_of(array: pa.Array) -> Iterator[pa.Array]:
    return (leaf for leaf in _leaves(array) if pa.types.is_timestamp(leaf.type))


def _has_nanoseconds(times: pa.Array) -> bool:
    if times.type.unit != "ns":
        return False
    try:
        times.cast(pa.timestamp("us", times.type.tz))
    except pa.ArrowInvalid:
        return True
    return False


def _is_too_far(times: pa.Array) -> bool:
    """Return whether seconds or milliseconds are too many for a number of microseconds."""
    factor = _TICKS_OF_MICROS.get(times.type.unit)
    if factor is None:
        return False
    spread = pc.min_max(times.view(pa.int64())).as_py()
    limit = 2**63 // factor
    return spread["min"] is not None and (spread["min"] <= -limit or spread["max"] >= limit)


def _is_utf8(texts: pa.Array) -> bool:
    """Return whether texts are UTF-8, in a fraction of the time of Arrow's own check."""
    data = texts.buffers()[2]
    if data is None or not len(texts):
        return True
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    offsets = np.frombuffer(texts.buffers()[1], width)[texts.offset :][: len(texts) + 1]
    values = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    if not values.size or values.max() < _CONTINUATION:
        return True
    try:
        str(values.data, "utf-8")
    except UnicodeDecodeError:
        return False
    starts = offsets[offsets < offsets[-1]] - offsets[0]
    return not np.any(values[starts] & _FIRST_BITS == _CONTINUATION)
