"""Values to TensorFlow's tensors and back, without a copy where the memory allows it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import math
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scoreline.models.runtimes.capi.library import Library
from scoreline.models.runtimes.capi.prototypes import DEALLOCATOR
from scoreline.models.runtimes.capi.strings import pack, unpack
from scoreline.models.runtimes.saved_model_proto import DTYPES
from scoreline.models.signature import FITTING_TYPES
from scoreline.models.strings import ArrowStrings, Output, Value
from scoreline.models.tensors import numpy_type

# TensorFlow's numbers of the dtypes that columns feed and hold (TF_DataType).
DTYPE_NUMBERS: Mapping[str, int] = {
    name: number for number, name in DTYPES.items() if name in FITTING_TYPES
}

# The owners of memory that TensorFlow uses. It says when it needs one no more, which may be long
# after the call: a variable that is assigned an input shares its memory, an output may be an input.
_held: dict[int, Any] = {}
_keys = itertools.count(1)


@DEALLOCATOR
def _release(_data: int, _size: int, key: int) -> None:
    _held.pop(key, None)


def new_tensor(library: Library, value: Value, dtype: str) -> int:
    """Return a new TF_Tensor of a value, for the caller to delete with TF_DeleteTensor.

    It uses the value's own memory if that is aligned, and holds it. Other numbers are copied.

    Args:
      library: TensorFlow.
      value: of the dtype: `numpy_type(dtype)`, or strings of any kind.
      dtype: TensorFlow's name of it.

    Raises:
      ValueError: the value is not of the dtype, or a string is null.
    """
    if dtype == "string":
        structs = pack(value)
        count = math.prod(value.shape)
        if len(structs.words) != count:  # TensorFlow would read beyond them
            raise ValueError(f"expected {count} strings, got {len(structs.words)}")
        return _new(library, dtype, value.shape, structs.words, structs)
    if not isinstance(value, np.ndarray) or value.dtype != _numpy_type(dtype):
        found = value.dtype if isinstance(value, np.ndarray) else "strings"
        raise ValueError(f"expected an array of {dtype}, got {found}")
    array = np.asarray(value, order="C")
    return _new(library, dtype, array.shape, array, array)


def _new(
    library: Library, dtype: str, shape: tuple[int, ...], memory: np.ndarray, held: Any
) -> int:
    key = next(_keys)
    _held[key] = held
    tensor: int | None = library.c.TF_NewTensor(
        DTYPE_NUMBERS[dtype],
        (ctypes.c_int64 * len(shape))(*shape),
        len(shape),
        memory.__array_interface__["data"][0],
        memory.nbytes,
        _release,
        key,
    )
    if not tensor:
        _held.pop(key, None)
        raise ValueError(f"{memory.nbytes} bytes are no tensor of {dtype} {list(shape)}")
    return tensor


@contextlib.contextmanager
def fed(library: Library, values: Iterable[tuple[Value, str]]) -> Iterator[list[int]]:
    """Yield a TF_Tensor for each pair of a value and its dtype, and delete them afterwards.

    Raises:
      ValueError: see `new_tensor`.
    """
    tensors: list[int] = []
    try:
        for value, dtype in values:
            tensors.append(new_tensor(library, value, dtype))
        yield tensors
    finally:
        for tensor in tensors:
            library.c.TF_DeleteTensor(tensor)


def take_outputs(library: Library, tensors: Sequence[int]) -> list[Output]:
    """Return TF_Tensors as values, and delete each of them as soon as nothing uses it.

    Numbers are read-only arrays over TensorFlow's memory, because that can be an input's or a
    variable's. Strings are copied to Arrow.

    Raises:
      ValueError: a dtype is not one of `DTYPE_NUMBERS`.
    """
    owned = [_Tensor(library, tensor) for tensor in tensors]
    return [tensor.to_value() for tensor in owned]


class _Tensor:
    """A TF_Tensor, deleted when the last array over it is."""

    def __init__(self, library: Library, tensor: int) -> None:
        c = library.c
        # Not at exit: TensorFlow's own threads may be gone then, or this module's callback.
        weakref.finalize(self, c.TF_DeleteTensor, tensor).atexit = False
        self._number: int = c.TF_TensorType(tensor)
        self._shape = tuple(c.TF_Dim(tensor, axis) for axis in range(c.TF_NumDims(tensor)))
        self._data: int = c.TF_TensorData(tensor) or 0
        self.__array_interface__: dict[str, Any] = {}

    def to_value(self) -> Output:
        name = DTYPES.get(self._number)
        if name not in FITTING_TYPES:
            raise ValueError(
                f"an output has TensorFlow's dtype {self._number}, which no column has"
            )
        if name == "string":
            strings = unpack(self._data, math.prod(self._shape), self)
            return ArrowStrings(strings, self._shape)
        dtype = _numpy_type(name)
        if not self._data or 0 in self._shape:
            empty = np.empty(self._shape, dtype)
            empty.flags.writeable = False
            return empty
        # NumPy knows bfloat16 by no name: it is two bytes first.
        kind = "<V2" if name == "bfloat16" else dtype.str
        self.__array_interface__ = {
            "version": 3,
            "shape": self._shape,
            "typestr": kind,
            "data": (self._data, True),  # read-only
        }
        array = np.asarray(self)
        return array.view(dtype) if name == "bfloat16" else array


@functools.cache
def _numpy_type(dtype: str) -> np.dtype:
    return numpy_type(dtype)
