"""How TensorFlow stores a string: TF_TString, 24 bytes, in one of four kinds.

Byte 0 holds the kind in its two lowest bits.

- SMALL: byte 0 is size << 2; up to 22 bytes follow, then NUL.
- LARGE: three 64-bit words: size << 2 | 1, capacity, address. The string ends with NUL if
  TensorFlow made it.
- OFFSET: two 32-bit words: size << 2 | 2, and the distance from the struct to the string.
- VIEW: three 64-bit words: size << 2 | 3, address, owner (0 for none).

TensorFlow does not promise these bits, so the library itself is asked when it is loaded.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from scoreline.models.runtimes.capi.errors import LibraryError

SMALL, LARGE, OFFSET, VIEW = range(4)
STRUCT_BYTES = 24
MAX_SMALL_BYTES = 22
# A struct of another size would hold other sizes as SMALL.
_CHECKED_BYTES = (*range(65), 4096)


def pack_small(text: bytes) -> bytes:
    """Return the struct of a string of at most 22 bytes."""
    return bytes([len(text) << 2]) + text.ljust(STRUCT_BYTES - 1, b"\0")


def pack_large(size: int, address: int) -> bytes:
    """Return the struct of a string at an address."""
    return struct.pack("<QQQ", size << 2 | LARGE, size, address)


def check_layout(functions: Any) -> None:
    """Compare our layout of strings with the library's, both ways.

    Args:
      functions: those of the C API, by name.

    Raises:
      LibraryError: they differ.
    """
    version = functions.TF_Version().decode()
    for length in _CHECKED_BYTES:
        text = bytes(1 + position % 255 for position in range(length))
        problem = _find_difference(functions, text)
        if problem:
            raise LibraryError(
                f"TensorFlow {version} has another layout of strings: of {length} bytes, {problem}"
            )


def _find_difference(functions: Any, text: bytes) -> str:
    """Return which struct of a string the library does not read or write as we do; "" if none.

    Nothing is read from an address before both sides agree on it.
    """
    held = ctypes.create_string_buffer(text)
    address = ctypes.addressof(held)
    size = len(text)
    kinds = [
        (LARGE, pack_large(size, address), address),
        (VIEW, struct.pack("<QQQ", size << 2 | VIEW, address, 0), address),
        (OFFSET, struct.pack("<IIQQ", size << 2 | OFFSET, STRUCT_BYTES, 0, 0), None),
    ]
    if size <= MAX_SMALL_BYTES:
        kinds.append((SMALL, pack_small(text), None))
    for kind, packed, points_to in kinds:
        ours = ctypes.create_string_buffer(packed, STRUCT_BYTES)
        at = ctypes.addressof(ours)
        expected = points_to or at + (1 if kind == SMALL else STRUCT_BYTES)
        read = (
            functions.TF_StringGetType(at),
            functions.TF_StringGetSize(at),
            functions.TF_StringGetDataPointer(at),
        )
        if read != (kind, size, expected):
            return f"it does not read our struct of kind {kind}"
    return "" if _writes(functions, text) else "we do not read its copy"


def _writes(functions: Any, text: bytes) -> bool:
    theirs = (ctypes.c_uint64 * 3)()
    at = ctypes.addressof(theirs)
    functions.TF_StringInit(at)
    functions.TF_StringCopy(at, text, len(text))
    found = bytes(theirs)
    if len(text) <= MAX_SMALL_BYTES:
        good = found[: len(text) + 2] == pack_small(text)[: len(text) + 2]
    else:
        head, capacity, address = struct.unpack("<QQQ", found)
        good = head == len(text) << 2 | LARGE and capacity >= len(text)
        good = good and address == functions.TF_StringGetDataPointer(at)
        good = good and ctypes.string_at(address, len(text)) == text
    functions.TF_StringDealloc(at)
    return good
