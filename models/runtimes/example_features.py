"""The features that a signature parses from serialized tf.Examples, read from its graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from scoreline.models.runtimes.graph_ops import node_of
from scoreline.models.runtimes.saved_model_proto import dtype_of, shape_of
from scoreline.models.signature import TensorSpec

_PARSERS = {"ParseExampleV2", "ParseExample"}
# A damaged file may tell any size.
_MAX_FEATURES = 1_000_000
_MAX_HOPS = 100


def find_features(
    bodies: Iterable[Iterable[Any]], inputs: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    """Return the features that a signature parses from serialized tf.Examples, sorted by name.

    The result is empty unless the signature has exactly one string input and its graph exactly one
    op that parses examples, with constant feature names. A dense feature without a default value
    is not optional; its shape follows the batch dimension.

    Args:
      bodies: the nodes of the signature's graph, and of each function that it calls.
      inputs: the inputs of the signature.
    """
    takes_strings = len(inputs) == 1 and inputs[0].dtype == "string"
    if not takes_strings or inputs[0].row_shape:
        return ()
    parsers = [
        (node, {n.name: n for n in nodes})
        for nodes in map(list, bodies)
        for node in nodes
        if node.op in _PARSERS
    ]
    if len(parsers) != 1:
        return ()
    node, known = parsers[0]
    try:
        read = _read_v2 if node.op == "ParseExampleV2" else _read_v1
        return tuple(sorted(read(node, known), key=lambda spec: spec.name))
    except (LookupError, ValueError):  # the names are computed, not constant
        return ()


def _read_v2(node: Any, known: Mapping[str, Any]) -> Iterator[TensorSpec]:
    # Inputs: serialized, names, sparse_keys, dense_keys, ragged_keys, dense_defaults…
    sparse, dense, ragged = (_strings(node.input[i], known) for i in (2, 3, 4))
    yield from _free(sparse, node.attr["sparse_types"].list.type)
    yield from _free(ragged, node.attr["ragged_value_types"].list.type)
    yield from _dense(dense, node.attr, node.input[5:], known)


def _read_v1(node: Any, known: Mapping[str, Any]) -> Iterator[TensorSpec]:
    # Inputs: serialized, names, sparse_keys…, dense_keys…, dense_defaults…
    sparse, dense = (node.attr[name].i for name in ("Nsparse", "Ndense"))
    given = node.input[2:]
    if min(sparse, dense) < 0 or sparse + dense > len(given):
        raise ValueError("expected as many keys as inputs")
    keys = [_strings(name, known)[0] for name in given[: sparse + dense]]
    yield from _free(keys[:sparse], node.attr["sparse_types"].list.type)
    yield from _dense(keys[sparse:], node.attr, given[sparse + dense :], known)


def _free(keys: Iterable[str], types: Iterable[int]) -> list[TensorSpec]:
    return [
        TensorSpec(key, dtype_of(kind), (None, None), optional=True)
        for key, kind in zip(keys, types, strict=True)
    ]


def _dense(
    keys: Sequence[str], attributes: Any, defaults: Sequence[str], known: Mapping[str, Any]
) -> list[TensorSpec]:
    specs = []
    kinds, shapes = attributes["Tdense"].list.type, attributes["dense_shapes"].list.shape
    for key, kind, shape, default in zip(keys, kinds, shapes, defaults, strict=False):
        sizes = shape_of(shape) or ()
        optional = size_of(_constant(default, known)) > 0 or None in sizes
        specs.append(TensorSpec(key, dtype_of(kind), (None, *sizes), optional))
    return specs


def _constant(name: str, known: Mapping[str, Any]) -> Any:
    for _ in range(_MAX_HOPS):
        node = known[node_of(name)]
        if node.op == "Const":
            return node.attr["value"].tensor
        if node.op not in ("Identity", "StopGradient", "Reshape"):
            break
        name = node.input[0]  # of a default: only its size counts
    raise ValueError(f"expected a constant, got {node.op}")


def _strings(name: str, known: Mapping[str, Any]) -> list[str]:
    return [text.decode() for text in strings_of(_constant(name, known))]


def size_of(tensor: Any) -> int:
    """Return how many values a TensorProto has; 0 if its shape is not known."""
    sizes = shape_of(tensor.tensor_shape)
    return 0 if sizes is None or None in sizes else math.prod(size or 0 for size in sizes)


def strings_of(tensor: Any) -> list[bytes]:
    """Return the values of a TensorProto of strings, row by row.

    Raises:
      ValueError: it has no strings, or not as many as its shape says.
    """
    size, values = size_of(tensor), list(tensor.string_val)
    if dtype_of(tensor.dtype) != "string" or size > _MAX_FEATURES or len(values) > size:
        raise ValueError(f"expected strings, got {dtype_of(tensor.dtype)} of {size} values")
    if size and not values:
        return [b""] * size
    return values + values[-1:] * (size - len(values))  # equal values at the end are stored once
