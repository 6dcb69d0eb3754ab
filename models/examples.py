"""Serialize columns as the tf.Examples that a signature takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.models.shapes import is_list, map_values, offsets_of
from scoreline.models.signature import TensorSpec
from scoreline.models.strings import ArrowStrings

# A tf.Example has three kinds of values; every dtype of a feature is stored as one of them.
_STORED_AS = {"float32": pa.float32(), "int64": pa.int64(), "string": pa.large_binary()}


def stored_type(spec: TensorSpec) -> pa.DataType:
    """Return the Arrow type of the column that feeds a feature."""
    kind = "float32" if "float" in spec.dtype else "string" if spec.dtype == "string" else "int64"
    leaf = _STORED_AS[kind]
    return leaf if spec.is_one_value else pa.large_list(leaf)


class Examples:
    """Columns as serialized tf.Examples, encoded for each call by tfx-bsl.

    A null becomes a missing feature.
    """

    def __init__(self, columns: Mapping[str, pa.Array], features: Sequence[TensorSpec]) -> None:
        """Keep one column for each feature."""
        from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

        arrays = [_to_lists(columns[spec.name], spec) for spec in features]
        self._batch = pa.RecordBatch.from_arrays(arrays, [spec.name for spec in features])
        self._encoder = RecordBatchToExamplesEncoder()

    def rows(self, start: int, stop: int) -> ArrowStrings:
        """Return one serialized record for each row."""
        part = self._batch.slice(start, stop - start)
        records = pa.array(self._encoder.encode(part), pa.large_binary())
        return ArrowStrings(records, (stop - start,))

    def limit(self, start: int, stop: int) -> int:
        """Return stop: a call may hold any number of records."""
        return stop


def _to_lists(array: pa.Array, spec: TensorSpec) -> pa.Array:
    """Return a column in the encoder's form: one flat list for each row, null if it is missing."""
    stored = _STORED_AS[spec.dtype]

    def cast(values: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return values.cast(stored)

    lists = map_values(array, cast)
    if not is_list(lists.type):
        valid = pc.is_valid(lists)
        offsets = np.concatenate([[0], np.cumsum(valid.to_numpy(zero_copy_only=False))])
        mask = pc.invert(valid) if lists.null_count else None
        return pa.LargeListArray.from_arrays(pa.array(offsets), lists.drop_null(), mask=mask)
    while is_list(lists.type.value_type):
        lists = _join_inner(lists)
    return lists.cast(pa.large_list(stored))  # the encoder does not accept fixed-size lists


def _join_inner(lists: pa.Array) -> pa.Array:
    """Join the inner lists of lists of lists."""
    inner = lists.flatten()
    ends = offsets_of(inner)[offsets_of(lists)]
    mask = lists.is_null() if lists.null_count else None
    return pa.LargeListArray.from_arrays(ends, inner.flatten(), mask=mask)
