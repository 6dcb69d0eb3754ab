"""Strings as a model gets and gives them: in Arrow's memory, without a Python object for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

T = TypeVar("T")


class ArrowStrings(NamedTuple):
    """Strings of any shape, rows first, one behind the other in an Arrow array.

    Attributes:
      array: strings or bytes of any Arrow type for them, plain, without nulls. It has as many
        values as the shape.
      shape: the shape of the tensor.
    """

    array: pa.Array
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def to_objects(self) -> np.ndarray:
        """Return an array of bytes objects."""
        objects = self.array.cast(pa.large_binary()).to_numpy(zero_copy_only=False)
        return objects.reshape(self.shape)

    def rows(self, start: int, stop: int) -> ArrowStrings:
        """Return rows start to stop."""
        size = math.prod(self.shape[1:])
        part = self.array.slice(start * size, (stop - start) * size)
        return ArrowStrings(part, (stop - start, *self.shape[1:]))

    def repeat_last(self, times: int) -> ArrowStrings:
        """Return these rows, and the last of them some times more."""
        size = math.prod(self.shape[1:])
        at = np.arange(len(self.array) - size, len(self.array))
        more = self.array.take(pa.array(np.tile(at, times)))
        rows = (self.shape[0] + times, *self.shape[1:])
        return ArrowStrings(pa.concat_arrays([self.array, more]), rows)


class Strings:
    """Distinct strings, shared by all slices of a column.

    Attributes:
      array: the strings in the order of their codes, as an Arrow array without nulls.
    """

    def __init__(self, array: pa.Array) -> None:
        """Hold the strings."""
        self.array = array
        self._copies: dict[Callable[[pa.Array], Any], Any] = {}

    def to_list(self) -> list[bytes]:
        """Return the strings as bytes objects."""
        values: list[bytes] = self.array.cast(pa.large_binary()).to_pylist()
        return values

    def copy_as(self, make: Callable[[pa.Array], T]) -> T:
        """Return `make(array)`, made once: the copy of the framework that calls the model."""
        if make not in self._copies:
            self._copies[make] = make(self.array)
        copy: T = self._copies[make]
        return copy


class StringCodes(NamedTuple):
    """Strings of any shape, rows first: the distinct ones, and the code of each."""

    strings: Strings
    codes: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return self.codes.shape

    def to_objects(self) -> np.ndarray:
        """Return an array of bytes objects."""
        return np.array(self.strings.to_list(), object)[self.codes]


# An argument of a model's call.
Value = np.ndarray | StringCodes | ArrowStrings
# A result of it; strings may come as an array of bytes objects too.
Output = np.ndarray | ArrowStrings


def to_plain(value: Value) -> np.ndarray:
    """Return a value as an array; strings become bytes objects."""
    return value if isinstance(value, np.ndarray) else value.to_objects()


def repeat_last(value: Value, times: int) -> Value:
    """Return a value with its last row some times more."""
    if isinstance(value, StringCodes):
        return value._replace(
            codes=np.concatenate([value.codes, value.codes[-1:].repeat(times, 0)])
        )
    if isinstance(value, ArrowStrings):
        return value.repeat_last(times)
    return np.concatenate([value, value[-1:].repeat(times, 0)])


def first_rows(value: Output, rows: int) -> Output:
    """Return the first rows of a result."""
    return value.rows(0, rows) if isinstance(value, ArrowStrings) else value[:rows]
