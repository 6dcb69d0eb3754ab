"""What a SavedModel's file says of its graphs and signatures; nothing is loaded.

No framework is imported. What only a load finds, such as missing variables, is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scoreline.models.errors import ModelError
from scoreline.models.runtimes.example_features import find_features
from scoreline.models.runtimes.graph_ops import bodies_of, find_python_problem, node_of
from scoreline.models.runtimes.saved_model_proto import (
    RAGGED_SPEC,
    SPARSE_SPEC,
    dtype_of,
    parse_saved_model,
    shape_of,
)
from scoreline.models.signature import Signature, TensorSpec

_NO_PARAMETER = re.compile(r"\W", re.ASCII)
# The tag of the MetaGraph that TensorFlow Serving loads.
SERVE = "serve"
_COMPOSITES = {RAGGED_SPEC: "ragged ", SPARSE_SPEC: "sparse "}


class GraphFacts(NamedTuple):
    """A MetaGraph of a SavedModel: its tags, and its protocol buffer."""

    tags: frozenset[str]
    proto: Any


class FoundSignature(NamedTuple):
    """A signature of a SavedModel, as its file describes it.

    Attributes:
      signature: its inputs and outputs; the inputs are features if it takes tf.Examples.
      graph: the MetaGraph that has it.
      tags: of the MetaGraph, sorted.
      inputs: the tensor of the graph that each input feeds: `serving_default_x:0`. A signature of
        tf.Examples has one.
      outputs: the tensor of the graph that each output is. An output of several tensors, which
        cannot be scored, is missing.
      ops: the ops that its outputs need, as often as they occur.
    """

    signature: Signature
    graph: Any
    tags: tuple[str, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    ops: tuple[str, ...]


def find_signature(path: str, name: str, tags: Sequence[str] = ()) -> FoundSignature:
    """Return a signature of a SavedModel, from its file.

    If it has several MetaGraphs, the one with the tag `serve` alone is taken, as TensorFlow Serving
    does, or the one with the given tags.

    Raises:
      ModelError: the file is damaged, has no such signature or tags, or one that TensorFlow cannot
        load or call.
    """
    graph = find_graph(path, tags)
    for other in sorted(graph.signature_def):
        problem = find_name_problem(path, graph, other)
        # TF1 loads all signatures at once, so that one without names spoils the others.
        if problem and (other == name or is_tf1(graph)):
            raise ModelError(problem)
    known = signature_names(graph)
    if name not in known:
        raise ModelError(
            f"--signature: model {path} has no signature '{name}'; "
            f"it has {', '.join(known) or 'none: export it with signatures='}"
        )
    definition = graph.signature_def[name]
    bodies = list(bodies_of(graph.graph_def, output_tensors(definition)))
    ops = [node.op for body in bodies for node in body]
    problem = find_python_problem(name, ops)
    if problem:
        raise ModelError(problem)
    return FoundSignature(
        read_signature(graph, name, bodies),
        graph,
        tuple(sorted(graph.meta_info_def.tags)),
        _names(definition.inputs),
        _names(definition.outputs),
        tuple(ops),
    )


def find_graph(path: str, tags: Sequence[str] = ()) -> Any:
    """Return the MetaGraph of a SavedModel that is loaded; raises ModelError if there is none."""
    graphs = read_graphs(path)
    return pick_graph(graphs, choose_tags(path, [graph.tags for graph in graphs], tags))


def read_graphs(path: str) -> list[GraphFacts]:
    """Return the MetaGraphs of a SavedModel.

    Raises:
      ModelError: the file is damaged.
    """
    proto = parse_saved_model(path)
    return [GraphFacts(frozenset(graph.meta_info_def.tags), graph) for graph in proto.meta_graphs]


def choose_tags(
    path: str, known: Sequence[frozenset[str]], asked: Sequence[str]
) -> list[str] | None:
    """Return the tags of the MetaGraph to load; None if there is only one, and none is asked for.

    Raises:
      ModelError: no MetaGraph has these tags; the message lists all.
    """
    if len(known) == 1 and not asked:
        return None
    wanted = frozenset(asked or [SERVE])
    if wanted in known:
        return sorted(wanted)
    has = "; ".join(", ".join(sorted(tags)) or "no tags" for tags in known) or "none"
    raise ModelError(
        f"--tags: model {path} has no MetaGraph with the tags {', '.join(sorted(wanted))}; it has "
        f"{has}. Name the tags of one with --tags"
    )


def pick_graph(graphs: Sequence[GraphFacts], chosen: Sequence[str] | None) -> Any:
    """Return the MetaGraph with tags that `choose_tags` returned."""
    return next(g.proto for g in graphs if chosen is None or g.tags == frozenset(chosen))


def signature_names(graph: Any) -> list[str]:
    """Return the names of a MetaGraph's signatures, sorted; TensorFlow's own begin with `__`."""
    return sorted(name for name in graph.signature_def if not name.startswith("__"))


def is_tf1(graph: Any) -> bool:
    """Return whether a MetaGraph is one of TF1, which has no objects."""
    return not graph.object_graph_def.nodes


def find_name_problem(path: str, graph: Any, signature_name: str) -> str:
    """Return why TensorFlow cannot load or call a signature by its names; "" if it can.

    It makes parameters of a Python function of them, in which other characters become `_`.
    """
    definition = graph.signature_def[signature_name]
    begin = f"Model {path}: signature '{signature_name}' has"
    if "" in definition.inputs or "" in definition.outputs:
        return (
            f"{begin} an input or output without a name, which TensorFlow does not load. Export "
            "the model with a name for each"
        )
    if "self" in definition.inputs:
        return (
            f"{begin} an input 'self', a name that TensorFlow cannot be called with. Export the "
            "model with another name"
        )
    parameters: dict[str, list[str]] = {}
    for tensor in sorted(definition.inputs):
        parameters.setdefault(_NO_PARAMETER.sub("_", tensor), []).append(tensor)
    equal = next((names for names in parameters.values() if len(names) > 1), None)
    if equal and is_tf1(graph):
        return (
            f"{begin} the inputs {' and '.join(map(repr, equal))}, whose names TensorFlow does not "
            "tell apart. Export the model with other names"
        )
    return ""


def read_signature(graph: Any, name: str, bodies: Iterable[Iterable[Any]]) -> Signature:
    """Return a signature of a MetaGraph, as a loaded model has it.

    The dtype of an output that is not dense has its kind before it: `ragged int64`. The inputs of a
    signature that takes tf.Examples are the features that it parses. `bodies` are the nodes that
    its outputs need, of the graph and of each function.
    """
    found = read_tensors(graph, name)
    features = find_features(bodies, found.inputs)
    if not features:
        return found
    return found._replace(inputs=features, example_input=found.inputs[0].name)


def read_tensors(graph: Any, name: str) -> Signature:
    """Return a signature of a MetaGraph; one that takes tf.Examples has its single string input."""
    definition = graph.signature_def[name]
    inputs = sorted(_input_specs(graph, definition.inputs), key=lambda spec: spec.name)
    outputs = [_output_spec(key, info) for key, info in sorted(definition.outputs.items())]
    return Signature(name, tuple(inputs), tuple(outputs))


def output_tensors(definition: Any) -> list[str]:
    """Return the tensors of the graph that a SignatureDef's outputs are, as `node:0`."""
    return [name for _, info in sorted(definition.outputs.items()) for name in _parts(info)]


def _parts(info: Any) -> list[str]:
    if info.HasField("coo_sparse"):
        sparse = info.coo_sparse
        return [
            sparse.indices_tensor_name,
            sparse.values_tensor_name,
            sparse.dense_shape_tensor_name,
        ]
    if info.HasField("composite_tensor"):
        return [name for part in info.composite_tensor.components for name in _parts(part)]
    return [info.name]


def _names(tensors: Mapping[str, Any]) -> dict[str, str]:
    return {key: info.name for key, info in sorted(tensors.items()) if info.HasField("name")}


def _input_specs(graph: Any, tensors: Mapping[str, Any]) -> Iterator[TensorSpec]:
    """Return one spec for each tensor, which TF1 has several of for an input that is not dense."""
    for key, info in tensors.items():
        if info.HasField("coo_sparse"):
            ends = ("_indices", "_values", "_dense_shape")
            for end, part in zip(ends, _parts(info), strict=True):
                yield _placeholder(graph, key + end, part)
        elif info.HasField("composite_tensor"):
            for number, part in enumerate(info.composite_tensor.components):
                shape = shape_of(part.tensor_shape)
                yield TensorSpec(f"{key}_component_{number}", dtype_of(part.dtype), shape)
        else:
            yield TensorSpec(key, dtype_of(info.dtype), _shape(info))


def _placeholder(graph: Any, key: str, tensor: str) -> TensorSpec:
    name = node_of(tensor)
    node = next((node for node in graph.graph_def.node if node.name == name), None)
    if node is None or "dtype" not in node.attr or "shape" not in node.attr:
        return TensorSpec(key, dtype_of(0), None)
    return TensorSpec(key, dtype_of(node.attr["dtype"].type), shape_of(node.attr["shape"].shape))


def _output_spec(key: str, info: Any) -> TensorSpec:
    if info.HasField("coo_sparse"):
        return TensorSpec(key, _COMPOSITES[SPARSE_SPEC] + dtype_of(info.dtype), _shape(info))
    if info.HasField("composite_tensor"):
        spec = info.composite_tensor.type_spec
        kind = _COMPOSITES.get(spec.type_spec_class, "composite ")
        state = spec.type_state.tuple_value.values[:2]  # shape and dtype
        shapes = [v.tensor_shape_value for v in state if v.HasField("tensor_shape_value")]
        dtypes = [v.tensor_dtype_value for v in state if v.HasField("tensor_dtype_value")]
        dtype = dtypes[0] if dtypes else info.dtype
        return TensorSpec(key, kind + dtype_of(dtype), shape_of(shapes[0]) if shapes else None)
    return TensorSpec(key, dtype_of(info.dtype), _shape(info))


def _shape(info: Any) -> tuple[int | None, ...] | None:
    """Return the shape of a tensor; None also if a signature of TF1 does not tell it."""
    return shape_of(info.tensor_shape) if info.HasField("tensor_shape") else None
