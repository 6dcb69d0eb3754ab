"""A model as one graph of TensorFlow, without variables or function calls: what passes work on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scoreline.models.artifact import KERAS, SAVED_MODEL, digest_model, model_format_of
from scoreline.models.errors import ModelError
from scoreline.models.runtimes.graph_ops import bodies_of, needed_nodes, node_of
from scoreline.models.runtimes.saved_model import ConcreteFunction
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.runtimes.variant_file import PassRecord
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature

# Ops that keep something between calls, or whose only effect is an error for some values.
_STATE = {
    *("LookupTableInsertV2", "LookupTableImportV2"),
    *("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"),
}
_CHECKS = {"Assert", "CheckNumerics", "CheckNumericsV2"}


class Table(NamedTuple):
    """A lookup table of the graph: keys, and the value of each."""

    keys: np.ndarray
    values: np.ndarray


class FrozenModel(NamedTuple):
    """One signature of a model, as a graph whose variables are constants.

    Attributes:
      signature: its inputs and outputs.
      graph: a GraphDef of the nodes that the outputs need, without control inputs.
      inputs: the tensor of the graph that each input feeds: `x:0`. A signature that takes
        tf.Examples has the one of its records.
      outputs: the tensor of the graph that each output is.
      tables: lookup tables, by the placeholder that stands for each: `table`.
      parent_digest: `sha256:…` of the model's files.
      passes: what was done to the model so far.
    """

    signature: Signature
    graph: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    tables: Mapping[str, Table]
    parent_digest: str
    passes: tuple[PassRecord, ...] = ()


def freeze(
    path: str,
    signature_name: str = DEFAULT_SIGNATURE,
    *,
    op_libraries: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> FrozenModel:
    """Return a signature of a SavedModel or a `.keras` file as a frozen graph.

    Raises:
      FileNotFoundError: there is no model.
      ModelError: the model does not load, or its graph cannot be frozen: it changes a variable or a
        table, checks its values, or holds another resource than variables and lookup tables.
    """
    digest = digest_model(path)
    loaded = _load(path, signature_name, op_libraries, tags)
    function = loaded.function
    names = loaded.positions
    if names is None:
        names = sorted(function.structured_input_signature[1])
    import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    _refuse_effects(path, function)
    try:
        frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    except (ValueError, KeyError) as e:
        raise ModelError(f"Model {path} cannot be frozen: {e}") from e
    outputs = {
        name: tensor.name
        for name, tensor in zip(sorted(function.structured_outputs), frozen.outputs, strict=True)
    }
    graph = prune(_without_control_inputs(frozen.graph.as_graph_def()), outputs.values())
    captured = {inner.name: outer for outer, inner in function.graph.captures}
    tables = {node_of(tensor.name): captured[tensor.name] for tensor in frozen.inputs[len(names) :]}
    return FrozenModel(
        loaded.signature,
        graph,
        {name: tensor.name for name, tensor in zip(names, frozen.inputs, strict=False)},
        outputs,
        _export_tables(path, graph, tables),
        digest,
    )


def _load(
    path: str, signature_name: str, op_libraries: Sequence[str], tags: Sequence[str]
) -> ConcreteFunction:
    found = model_format_of(path)
    if found == KERAS:
        from scoreline.models.runtimes.keras_file import load_keras

        return load_keras(path, signature_name, None, op_libraries)
    if found != SAVED_MODEL:
        raise ModelError(
            f"Passes begin with a SavedModel or a .keras file, got {path} ({found}). Give the "
            "model that it was converted from"
        )
    from scoreline.models.runtimes.saved_model import load_saved_model

    return load_saved_model(path, signature_name, None, op_libraries, tags)


def _refuse_effects(path: str, function: Any) -> None:
    """Raise ModelError if a call has an effect besides its outputs, which a part would lose."""
    outputs = [tensor.name for tensor in function.outputs]
    for body in bodies_of(function.graph.as_graph_def(), outputs):
        for node in body:
            if node.op in _CHECKS:
                raise ModelError(
                    f"Model {path} cannot be frozen: it checks values with {node.op} "
                    f"('{node.name}'). Rows that fail the check would be scored. Export the model "
                    "without the check"
                )
            if node.op in _STATE:
                raise ModelError(
                    f"Model {path} cannot be frozen: it changes a variable or a table with "
                    f"{node.op} ('{node.name}'). Export it without a state"
                )


def _without_control_inputs(graph: Any) -> Any:
    """Return a graph without control inputs, which order effects; it has none."""
    for node in graph.node:
        data = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(data)
    return graph


def prune(graph: Any, outputs: Iterable[str]) -> Any:
    """Return a graph of the nodes that outputs need, sorted by name."""
    nodes = {node.name: node for node in graph.node}
    pruned = type(graph)(library=graph.library, versions=graph.versions)
    pruned.node.extend(sorted(needed_nodes(nodes, outputs), key=lambda node: node.name))
    return pruned


def _export_tables(path: str, graph: Any, handles: Mapping[str, Any]) -> dict[str, Table]:
    tf = import_tensorflow()
    nodes = {node.name: node for node in graph.node}
    tables = {}
    for name in sorted(handles.keys() & nodes.keys()):
        users = [node for node in graph.node if _table_of(nodes, node) == name]
        if not users:
            raise ModelError(
                f"Model {path} cannot be frozen: it holds a resource ('{name}') that is no "
                "variable and no lookup table"
            )
        attributes = users[0].attr
        keys, values = tf.raw_ops.LookupTableExportV2(
            table_handle=handles[name],
            Tkeys=attributes["Tin"].type,
            Tvalues=attributes["Tout"].type,
        )
        tables[name] = Table(keys.numpy(), values.numpy())
    return tables


def _table_of(nodes: Mapping[str, Any], node: Any) -> str:
    """Return the placeholder of the table that a node looks up in; "" for other nodes."""
    return source_of(nodes, node.input[0]) if node.op == "LookupTableFindV2" else ""


def source_of(nodes: Mapping[str, Any], tensor: str) -> str:
    """Return the node that a tensor comes from, before any Identity."""
    name = node_of(tensor)
    while name in nodes and nodes[name].op == "Identity":
        name = node_of(nodes[name].input[0])
    return name
