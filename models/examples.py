"""Signatures that take serialized tf.Examples: find the features, and serialize columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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


def find_features(function: Any, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the features that a signature parses from serialized tf.Examples, sorted by name.

    The result is empty unless the signature has exactly one string input and its graph exactly one
    op that parses examples, with constant feature names. A dense feature without a default value
    is not optional; its shape follows the batch dimension.
    """
    takes_strings = len(inputs) == 1 and inputs[0].dtype == "string"
    if not takes_strings or inputs[0].row_shape:
        return ()
    graph = function.graph.as_graph_def(add_shapes=False)
    bodies = [graph.node, *(body.node_def for body in graph.library.function)]
    parsers = [
        (node, {n.name: n for n in nodes})
        for nodes in bodies
        for node in nodes
        if node.op in ("ParseExampleV2", "ParseExample")
    ]
    if len(parsers) != 1:
        return ()
    node, known = parsers[0]
    try:
        read = _read_v2 if node.op == "ParseExampleV2" else _read_v1
        return tuple(sorted(read(node, known)))
    except (KeyError, ValueError):  # the names are computed, not constant
        return ()


def _read_v2(node: Any, known: Mapping[str, Any]) -> list[TensorSpec]:
    # Inputs: serialized, names, sparse_keys, dense_keys, ragged_keys, dense_defaults…
    sparse, dense, ragged = (_strings(node.input[i], known) for i in (2, 3, 4))
    attributes = node.attr
    return [
        *_free(sparse, attributes["sparse_types"].list.type),
        *_free(ragged, attributes["ragged_value_types"].list.type),
        *_dense(dense, attributes, node.input[5:], known),
    ]


def _read_v1(node: Any, known: Mapping[str, Any]) -> list[TensorSpec]:
    # Inputs: serialized, names, sparse_keys…, dense_keys…, dense_defaults…
    sparse_count, dense_count = node.attr["Nsparse"].i, node.attr["Ndense"].i
    at = iter(node.input[2:])
    sparse = [_strings(next(at), known)[0] for _ in range(sparse_count)]
    dense = [_strings(next(at), known)[0] for _ in range(dense_count)]
    return [
        *_free(sparse, node.attr["sparse_types"].list.type),
        *_dense(dense, node.attr, list(at), known),
    ]


def _free(keys: Iterable[str], types: Iterable[int]) -> list[TensorSpec]:
    return [
        TensorSpec(key, _dtype_name(kind), (None, None), optional=True)
        for key, kind in zip(keys, types, strict=True)
    ]


def _dense(
    keys: Sequence[str], attributes: Any, defaults: Sequence[str], known: Mapping[str, Any]
) -> list[TensorSpec]:
    specs = []
    kinds, shapes = attributes["Tdense"].list.type, attributes["dense_shapes"].list.shape
    for key, kind, shape, default in zip(keys, kinds, shapes, defaults, strict=False):
        sizes = [None if dim.size < 0 else dim.size for dim in shape.dim]
        has_default = _constant(default, known).size > 0
        optional = has_default or None in sizes
        specs.append(TensorSpec(key, _dtype_name(kind), (None, *sizes), optional))
    return specs


def _dtype_name(kind: int) -> str:
    import tensorflow as tf

    return str(tf.dtypes.as_dtype(kind).name)


def _strings(name: str, known: Mapping[str, Any]) -> list[str]:
    return [text.decode() for text in np.atleast_1d(_constant(name, known)).tolist()]


def _constant(name: str, known: Mapping[str, Any]) -> np.ndarray:
    import tensorflow as tf

    node = known[name.lstrip("^").split(":")[0]]
    if node.op in ("Identity", "StopGradient", "Reshape"):  # of a default: only its size counts
        return _constant(node.input[0], known)
    if node.op != "Const":
        raise ValueError(f"expected a constant, got {node.op}")
    return np.asarray(tf.make_ndarray(node.attr["value"].tensor))


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
