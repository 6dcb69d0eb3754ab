"""Strings to TensorFlow and back: Arrow ↔ TF_TString structs, without a Python object for each.

See `layout` for the four kinds of structs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.models.runtimes.capi.layout import LARGE, OFFSET, SMALL, STRUCT_BYTES
from scoreline.models.strings import ArrowStrings, StringCodes

_WIDE = ("large_string", "large_binary")
_VIEWS = ("string_view", "binary_view")
# Of a view of Arrow: strings of up to 12 bytes are within it, others are found by an offset of 31
# bits into one of many buffers.
_MAX_INLINE_BYTES = 12
_SPAN_BITS = 30
_MAX_STRING_BYTES = (1 << 31) - 1
# Structs that become one array of views: their own memory is one of its buffers.
_MAX_STRUCTS = 1 << 26


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
    TensorFlow never frees or changes strings in memory that it was given.

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

    They are first an array of Arrow's views, which point into TensorFlow's memory.

    Args:
      address: where the first struct is.
      count: the number of structs.
      held: what keeps the structs and the strings alive.

    Raises:
      ValueError: a string is longer than Arrow's views can tell.
    """
    if count > _MAX_STRUCTS:
        half = count // 2
        first = unpack(address, half, held)
        return pa.concat_arrays([first, unpack(address + half * STRUCT_BYTES, count - half, held)])
    if not count:
        return pa.array([], pa.large_binary())
    memory = pa.foreign_buffer(address, count * STRUCT_BYTES, held)
    structs = np.frombuffer(memory, np.uint8).reshape(count, STRUCT_BYTES)
    views = np.empty((count, 4), np.int32)
    inline = views.view(np.uint8).reshape(count, 16)[:, 4:]
    # As if all were SMALL.
    views[:, 0] = structs[:, 0] >> 2
    inline[:] = structs[:, 1 : 1 + _MAX_INLINE_BYTES]
    far = np.flatnonzero(views[:, 0] > _MAX_INLINE_BYTES)
    views[far, 2], views[far, 3] = 0, far * STRUCT_BYTES + 1
    buffers = [memory]
    others = np.flatnonzero(structs[:, 0] & 3 != SMALL)
    if len(others):
        sizes, addresses = _read_others(structs, others, address)
        if sizes.max() > _MAX_STRING_BYTES:
            raise ValueError(
                f"expected strings of at most {_MAX_STRING_BYTES} bytes, got {sizes.max()}"
            )
        views[others, 0] = sizes
        _point(views, inline, buffers, others, sizes, addresses, held)
    array = pa.Array.from_buffers(pa.binary_view(), count, [None, pa.py_buffer(views), *buffers])
    return array.cast(pa.large_binary())


def _read_others(
    structs: np.ndarray, rows: np.ndarray, address: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sizes and addresses of LARGE, OFFSET and VIEW strings."""
    words = structs.view(np.uint64)[rows]
    kinds = structs[rows, 0] & 3
    sizes = words[:, 0] >> np.uint64(2)
    addresses = np.where(kinds == LARGE, words[:, 2], words[:, 1])
    near = np.flatnonzero(kinds == OFFSET)
    if len(near):
        halves = structs.view(np.uint32)[rows[near]].astype(np.uint64)
        here = rows[near].astype(np.uint64) * np.uint64(STRUCT_BYTES) + np.uint64(address)
        sizes[near] = halves[:, 0] >> np.uint64(2)
        addresses[near] = here + halves[:, 1]
    return sizes, addresses


def _point(
    views: np.ndarray,
    inline: np.ndarray,
    buffers: list[pa.Buffer],
    rows: np.ndarray,
    sizes: np.ndarray,
    addresses: np.ndarray,
    held: Any,
) -> None:
    """Let the views of rows point to addresses, and add the memory there to the buffers."""
    filled = np.flatnonzero(sizes)
    if not len(filled):
        return
    rows, sizes, addresses = rows[filled], sizes[filled], addresses[filled]
    spans = addresses >> np.uint64(_SPAN_BITS)
    is_one = spans.min() == spans.max()
    for span in spans[:1] if is_one else np.unique(spans):
        here = slice(None) if is_one else np.flatnonzero(spans == span)
        mine, size, place = rows[here], sizes[here], addresses[here]
        start, stop = int(place.min()), int((place + size).max())
        memory = pa.foreign_buffer(start, stop - start, held)
        offsets = (place - np.uint64(start)).astype(np.int64)
        views[mine, 2], views[mine, 3] = len(buffers), offsets
        buffers.append(memory)
        short = np.flatnonzero(size <= _MAX_INLINE_BYTES)
        _copy_inline(inline, mine[short], size[short], offsets[short], memory)


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
