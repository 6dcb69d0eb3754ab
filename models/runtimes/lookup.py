"""Lookups of a variant: what a lookup table of TensorFlow does, done once per distinct value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.models.strings import ArrowStrings, StringCodes, Value

KEY, CODE = "key", "code"


class Lookup:
    """A table from text or integers to numbers, with a value for everything else.

    A key is compared byte by byte, as TensorFlow's `LookupTableFindV2` does: case, spaces and the
    empty string count.
    """

    def __init__(self, keys: pa.Array, codes: np.ndarray, default: int | float) -> None:
        """Hold the table.

        Args:
          keys: distinct keys, binary or int64, without nulls.
          codes: the value of each key.
          default: the value of any other key.
        """
        self._keys = keys
        # One more entry than keys: where a missing key, which Arrow reports as null, leads to.
        self._codes = np.append(codes, np.array(default, codes.dtype))

    def find(self, value: Value) -> np.ndarray:
        """Return the values of keys, in their shape."""
        if isinstance(value, StringCodes):
            found: np.ndarray = value.strings.copy_as(self._find_flat)[value.codes]
            return found
        if isinstance(value, ArrowStrings):
            return self._find_flat(value.array).reshape(value.shape)
        flat = pa.array(value.reshape(-1), self._keys.type)
        return self._find_flat(flat).reshape(value.shape)

    def _find_flat(self, array: pa.Array) -> np.ndarray:
        at = pc.index_in(array.cast(self._keys.type), value_set=self._keys)
        places = pc.fill_null(at, len(self._keys)).to_numpy()
        return self._codes[places]


def write_lookup(path: str, keys: pa.Array, codes: np.ndarray) -> None:
    """Write the keys and values of a lookup to an Arrow file."""
    table = pa.table({KEY: keys, CODE: pa.array(codes)})
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)


def read_lookup(path: str, default: int | float) -> Lookup:
    """Return the lookup of an Arrow file.

    Raises:
      OSError, pa.ArrowInvalid, KeyError: the file is missing or damaged.
    """
    with pa.ipc.open_file(pa.OSFile(path)) as file:
        table: Any = file.read_all().combine_chunks()
    # combine_chunks leaves a column of no rows without a chunk.
    key, code = (_one_chunk(table[name]) for name in (KEY, CODE))
    return Lookup(key, code.to_numpy(), default)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
