"""Arguments and results of calls as TF_Tensors."""

from __future__ import annotations

import ctypes
import itertools
import weakref
from typing import Any

import numpy as np
import pyarrow as pa

from scoreline.models.runtimes.capi.layout import LARGE, STRUCT_BYTES
from scoreline.models.runtimes.capi.library import Library
from scoreline.models.runtimes.capi.prototypes import DEALLOCATOR
from scoreline.models.tensors import StringCodes, Value

_STRING, _BFLOAT16 = 7, 14
_REFERENCE = 100
# NumPy's types of TF_DataType; bfloat16 is read as its bits.
_KINDS = {
    **{1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 8: "c8", 9: "i8", 10: "?"},
    **{_BFLOAT16: "u2", 17: "u2", 18: "c16", 19: "f2", 22: "u4", 23: "u8"},
}
# What TensorFlow still reads, by a number that the deallocator gets: a variable that is assigned an
# input, or an output that is one, shares its memory long after the call.
_fed: dict[int, Any] = {}
_numbers = itertools.count(1)


@DEALLOCATOR
def _release(_data: int, _size: int, number: int) -> None:
    _fed.pop(number, None)


def feed(library: Library, value: Value, dtype: int) -> int:
    """Return a TF_Tensor over the memory of a value, which lives as long as TensorFlow needs it.

    Memory that is not aligned is copied.
    """
    number = dtype % _REFERENCE
    plain = value.to_objects() if isinstance(value, StringCodes) else value
    held = _structs(plain) if number == _STRING else (np.ascontiguousarray(plain),)
    memory, key = held[0], next(_numbers)
    _fed[key] = held
    sizes = (ctypes.c_int64 * plain.ndim)(*plain.shape)
    made = library.c.TF_NewTensor(
        number,
        ctypes.addressof(sizes),
        plain.ndim,
        memory.ctypes.data,
        memory.nbytes,
        _release,
        key,
    )
    if not made:
        raise ValueError(f"{memory.nbytes} bytes are no tensor of shape {list(plain.shape)}")
    return int(made)


def _structs(texts: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    """Return strings as structs of the LARGE kind, and the array that holds their bytes."""
    array = pa.array(texts.reshape(-1), pa.large_binary())
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, np.int64, len(array) + 1).astype(np.uint64)
    structs = np.empty((len(array), 3), np.uint64)
    structs[:, 1] = np.diff(starts)
    structs[:, 0] = structs[:, 1] << np.uint64(2) | np.uint64(LARGE)
    structs[:, 2] = starts[:-1] + np.uint64(data.address if data else 0)
    return structs, array


class _Fetched:
    """An output tensor, freed when the last array over it is."""

    def __init__(self, library: Library, tensor: int) -> None:
        weakref.finalize(self, library.c.TF_DeleteTensor, tensor).atexit = False


def fetch(library: Library, tensor: int) -> np.ndarray:
    """Return a TF_Tensor as an array over its memory, read-only: it may be a variable's.

    The tensor is freed with the array.
    """
    c, holder = library.c, _Fetched(library, tensor)
    number = c.TF_TensorType(tensor)
    shape = tuple(c.TF_Dim(tensor, axis) for axis in range(c.TF_NumDims(tensor)))
    address, count = c.TF_TensorData(tensor), int(np.prod(shape, dtype=np.int64))
    if number == _STRING:
        texts = np.empty(count, object)
        for at in range(count):
            struct = address + STRUCT_BYTES * at
            size = c.TF_StringGetSize(struct)
            texts[at] = ctypes.string_at(c.TF_StringGetDataPointer(struct), size)
        return texts.reshape(shape)
    kind = np.dtype(_KINDS[number])
    if not count or not address:
        return _as_bfloat16(np.zeros(shape, kind)) if number == _BFLOAT16 else np.zeros(shape, kind)
    described = {"version": 3, "shape": shape, "typestr": kind.str, "data": (address, True)}
    holder.__array_interface__ = described  # type: ignore[attr-defined]
    found = np.asarray(holder)
    return _as_bfloat16(found) if number == _BFLOAT16 else found


def _as_bfloat16(bits: np.ndarray) -> np.ndarray:
    import ml_dtypes

    return bits.view(ml_dtypes.bfloat16)
