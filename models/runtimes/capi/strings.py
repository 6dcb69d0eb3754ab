"""Strings to TensorFlow and back: Arrow ↔ TF_TString structs, without a Python object for each.

See `layout` for the four kinds of structs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.models.runtimes.capi.layout import LARGE, OFFSET, SMALL, STRUCT_BYTES, VIEW
from scoreline.models.strings import ArrowStrings, StringCodes

_WIDE = ("large_string", "large_binary")
_VIEWS = ("string_view", "binary_view")
# Of a view of Arrow: strings of up to 12 bytes are within it, others are found by an offset of 31
# bits into one of many buffers.
_MAX_INLINE_BYTES = 12
_SPAN_BITS = 30
_MAX_STRING_BYTES = (1 << 31) - 1
# Strings in order are copied at once if the memory from the first to the last is at most this many
# times what they and their structs need: Arrow reserves half of it.
_MAX_GAPS = 4


class Structs(NamedTuple):
    """TF_TString structs, and what must live as long as they do.

    Attributes:
      words: [strings, 3] uint64; aligned as TensorFlow wants it.
      held: the owners of the memory that they point to.
    """

    words: np.ndarray
    held: Any


def pack(value: StringCodes | ArrowStrings | np.ndarray) -> Structs:
    """Return the structs of strings, in the order of the flattened value.

    Raises:
      ValueError: a string is null, or a code has no string.
    """
    if isinstance(value, StringCodes):
        return _gather(value.strings.copy_as(pack_array), value.codes.reshape(-1))
    if isinstance(value, ArrowStrings):
        return pack_array(value.array)
    return pack_array(pa.array(value.reshape(-1), pa.large_binary()))


def pack_array(array: pa.Array) -> Structs:
    """Return structs that point into the memory of an Arrow array of any type of strings.

    They are LARGE, also if they are short. An op that keeps or copies a LARGE copies its bytes; it
    would copy the pointer of a VIEW, which could outlive the array in a variable of the model.
    TensorFlow never frees or changes strings in memory that it was given. No NUL ends them: ops go
    by the size, because TensorFlow's own VIEWs end with none either.

    Raises:
      ValueError: a string is null.
    """
    if array.null_count:
        raise ValueError(f"expected strings without nulls, got {array.null_count} nulls")
    words = _new_words(len(array))
    if len(array):
        read = _read_views if str(array.type) in _VIEWS else _read_offsets
        sizes, addresses = read(array)
        np.left_shift(sizes, 2, out=words[:, 0])
        words[:, 0] |= LARGE
        words[:, 1] = sizes
        words[:, 2] = addresses
    return Structs(words, array)


def _new_words(count: int) -> np.ndarray:
    """Return memory for structs; Arrow aligns its memory as TensorFlow wants it, NumPy does not."""
    if not count:
        return np.empty((0, 3), np.uint64)
    buffer = pa.allocate_buffer(count * STRUCT_BYTES)
    return np.frombuffer(buffer, np.uint64).reshape(count, 3)


def _read_offsets(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the size and the address of each string."""
    _, offsets, data = array.buffers()
    kind = np.int64 if str(array.type) in _WIDE else np.int32
    ends = np.frombuffer(offsets, kind)[array.offset : array.offset + len(array) + 1]
    # All strings are empty if there is no data; a null pointer is none to give to TensorFlow.
    base = (data if data is not None else offsets).address
    sizes = np.diff(ends).astype(np.uint64)
    return sizes, ends[:-1].astype(np.uint64) + np.uint64(base)


def _read_views(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the size and the address of each string."""
    _, views, *buffers = array.buffers()
    entries = np.frombuffer(views, np.int32)[4 * array.offset :][: 4 * len(array)].reshape(-1, 4)
    sizes = entries[:, 0].astype(np.uint64)
    positions = np.arange(array.offset, array.offset + len(array), dtype=np.uint64)
    addresses = positions * np.uint64(16) + np.uint64(views.address + 4)
    far = np.flatnonzero(sizes > _MAX_INLINE_BYTES)
    if len(far):
        bases = np.array([buffer.address for buffer in buffers], np.uint64)
        addresses[far] = bases[entries[far, 2]] + entries[far, 3].astype(np.uint64)
    return sizes, addresses


def _gather(table: Structs, codes: np.ndarray) -> Structs:
    """Return the struct of each code."""
    words = _new_words(len(codes))
    if len(codes):
        if codes.min() < 0 or codes.max() >= len(table.words):
            raise ValueError(
                f"expected codes of {len(table.words)} strings, got {codes.min()} to {codes.max()}"
            )
        np.take(table.words, codes, axis=0, out=words, mode="clip")  # other modes copy twice
    return Structs(words, table)


def unpack(address: int, count: int, held: Any) -> pa.Array:
    """Return the strings of structs at an address as a large_binary array; their bytes are copied.

    Args:
      address: where the first struct is.
      count: the number of structs.
      held: what keeps the structs and the strings alive.

    Raises:
      ValueError: a string is longer than Arrow's views can tell.
    """
    if not count:
        return pa.array([], pa.large_binary())
    structs = np.frombuffer(
        pa.foreign_buffer(address, count * STRUCT_BYTES, held), np.uint8
    ).reshape(count, STRUCT_BYTES)
    sizes, addresses = _read_structs(structs, address)
    if not sizes.any():  # empty strings may point to nothing
        return pa.repeat(pa.scalar(b"", pa.large_binary()), count)
    begin, end = int(addresses[0]), int(addresses[-1] + sizes[-1])
    in_order = (addresses[:-1] + sizes[:-1] <= addresses[1:]).all()
    if in_order and end - begin <= _MAX_GAPS * (int(sizes.sum()) + count * STRUCT_BYTES):
        return _take_in_order(sizes, addresses, held)
    return _copy_views(structs, sizes, addresses, held)


def _read_structs(structs: np.ndarray, address: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the size and the address of each string; SMALL ones are within their structs."""
    first = structs[:, 0]
    kinds = first & 3
    here = np.arange(len(structs), dtype=np.uint64) * np.uint64(STRUCT_BYTES) + np.uint64(address)
    if not kinds.any():
        return (first >> 2).astype(np.uint64), here + np.uint64(1)
    words = structs.view(np.uint64)
    sizes, addresses = words[:, 0] >> np.uint64(2), words[:, 2].copy()
    if (kinds == LARGE).all():
        return sizes, addresses
    at = np.flatnonzero(kinds == SMALL)
    sizes[at], addresses[at] = first[at] >> 2, here[at] + np.uint64(1)
    at = np.flatnonzero(kinds == VIEW)
    addresses[at] = words[at, 1]
    at = np.flatnonzero(kinds == OFFSET)
    halves = structs.view(np.uint32)[at].astype(np.uint64)
    sizes[at], addresses[at] = halves[:, 0] >> np.uint64(2), here[at] + halves[:, 1]
    return sizes, addresses


def _take_in_order(sizes: np.ndarray, addresses: np.ndarray, held: Any) -> pa.Array:
    """Copy strings that lie one behind the other, with gaps: every other value of an array."""
    count, start = len(sizes), addresses[0]
    offsets = np.empty(2 * count, np.int64)
    offsets[::2] = addresses - start
    offsets[1::2] = offsets[::2] + sizes.view(np.int64)
    memory = pa.foreign_buffer(int(start), int(offsets[-1]), held)
    strings_and_gaps = pa.Array.from_buffers(
        pa.large_binary(), 2 * count - 1, [None, pa.py_buffer(offsets), memory]
    )
    return strings_and_gaps.take(pa.array(np.arange(0, 2 * count, 2)))


def _copy_views(
    structs: np.ndarray, sizes: np.ndarray, addresses: np.ndarray, held: Any
) -> pa.Array:
    """Copy strings from anywhere: Arrow's views point to them, but hold short ones themselves."""
    if sizes.max() > _MAX_STRING_BYTES:
        raise ValueError(
            f"expected strings of at most {_MAX_STRING_BYTES} bytes, got {sizes.max()}"
        )
    views = np.empty((len(sizes), 4), np.int32)
    views[:, 0] = sizes
    inline = views.view(np.uint8).reshape(-1, 16)[:, 4:]
    is_elsewhere = structs[:, 0] & 3 != SMALL
    must_copy = is_elsewhere & (sizes <= _MAX_INLINE_BYTES)
    buffers: list[pa.Buffer] = []
    numbers = np.arange(len(sizes))
    for rows in _by_place(sizes, addresses):
        size, place = sizes[rows], addresses[rows]
        start, stop = int(place.min()), int((place + size).max())
        memory = pa.foreign_buffer(start, stop - start, held)
        offsets = (place - np.uint64(start)).view(np.int64)
        views[rows, 2], views[rows, 3] = len(buffers), offsets
        buffers.append(memory)
        at = np.flatnonzero(must_copy[rows])
        if len(at):
            _copy_inline(inline, numbers[rows][at], size[at], offsets[at], memory)
    at = np.flatnonzero(~is_elsewhere & (sizes <= _MAX_INLINE_BYTES))
    inline[at] = structs[at, 1 : 1 + _MAX_INLINE_BYTES]
    array = pa.Array.from_buffers(
        pa.binary_view(), len(sizes), [None, pa.py_buffer(views), *buffers]
    )
    return array.cast(pa.large_binary())


def _by_place(sizes: np.ndarray, addresses: np.ndarray) -> Iterator[slice | np.ndarray]:
    """Yield the rows whose strings are so near to each other that one buffer can hold them."""
    spans = addresses >> np.uint64(_SPAN_BITS)
    filled = sizes > 0
    if spans.min() == spans.max() and filled.all():
        yield slice(None)
        return
    for span in np.unique(spans[filled]):
        yield np.flatnonzero((spans == span) & filled)


def _copy_inline(
    inline: np.ndarray,
    rows: np.ndarray,
    sizes: np.ndarray,
    offsets: np.ndarray,
    memory: pa.Buffer,
) -> None:
    """Copy short strings into their views, byte by byte of all."""
    data = np.frombuffer(memory, np.uint8)
    for position in range(int(sizes.max(initial=0))):
        longer = sizes > position
        if not longer.all():
            rows, sizes, offsets = rows[longer], sizes[longer], offsets[longer]
        inline[rows, position] = data[offsets + position]
