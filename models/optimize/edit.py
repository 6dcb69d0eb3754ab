"""Changes of a frozen graph, with the values of its constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from scoreline.models.optimize.build import build_part, full_name
from scoreline.models.optimize.frozen import FrozenModel
from scoreline.models.runtimes.graph_ops import needed_nodes, node_of
from scoreline.models.runtimes.tensorflow import import_tensorflow


class GraphEditor:
    """A copy of a graph that can be changed.

    Attributes:
      nodes: its nodes by name.
    """

    def __init__(self, model: FrozenModel) -> None:
        """Copy the graph, and compute its constants."""
        self._model = model
        graph = type(model.graph).FromString(model.graph.SerializeToString())
        self.nodes: dict[str, Any] = {node.name: node for node in graph.node}
        self._outputs = {name: full_name(tensor) for name, tensor in model.outputs.items()}
        self._constants = self._find_constants()
        self._values = self._compute_constants()

    def is_constant(self, tensor: str) -> bool:
        """Return whether a tensor depends on constants only."""
        return node_of(tensor) in self._constants

    def value(self, tensor: str) -> np.ndarray:
        """Return the value of a constant tensor that another node reads."""
        return self._values[full_name(tensor)]

    def readers(self, tensor: str) -> list[Any]:
        """Return the nodes that read the values of a tensor, each as often as it does."""
        name = full_name(tensor)
        return [
            node
            for node in self.nodes.values()
            for read in node.input
            if full_name(read) == name and node.op != "Shape"
        ]

    def is_output(self, tensor: str) -> bool:
        """Return whether a tensor is an output of the model."""
        return full_name(tensor) in self._outputs.values()

    def add_constant(self, name: str, value: np.ndarray, dtype: Any) -> str:
        """Add a constant in some dtype; return its tensor."""
        tf = import_tensorflow()
        node = self._add("Const", name)
        held = value.astype(dtype)
        node.attr["dtype"].type = tf.dtypes.as_dtype(held.dtype).as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(held))
        self._constants.add(node.name)
        self._values[full_name(node.name)] = held
        return full_name(node.name)

    def add_sum(self, name: str, tensor: str, constant: str) -> str:
        """Add the sum of a tensor and a constant along its last axis; return its tensor."""
        tf = import_tensorflow()
        node = self._add("AddV2", name)
        node.input.extend([tensor, constant])
        node.attr["T"].type = tf.dtypes.as_dtype(self.value(constant).dtype).as_datatype_enum
        return full_name(node.name)

    def replace(self, old: str, new: str) -> None:
        """Let what reads one tensor read another instead, the new tensor's own node excepted."""
        for node in self.nodes.values():
            for at, read in enumerate(node.input):
                if full_name(read) == full_name(old) and node.name != node_of(new):
                    node.input[at] = new
        for name, tensor in self._outputs.items():
            if tensor == full_name(old):
                self._outputs[name] = full_name(new)

    def prune(self) -> None:
        """Remove nodes that no output needs."""
        kept = needed_nodes(self.nodes, self._outputs.values())
        self.nodes = {node.name: node for node in kept}

    def finish(self) -> FrozenModel:
        """Return the changed model."""
        self.prune()
        graph = type(self._model.graph)(
            library=self._model.graph.library, versions=self._model.graph.versions
        )
        graph.node.extend(self.nodes[name] for name in sorted(self.nodes))
        return self._model._replace(graph=graph, outputs=dict(self._outputs))

    def _add(self, op: str, name: str) -> Any:
        unique, number = name, 0
        while unique in self.nodes:
            number += 1
            unique = f"{name}_{number}"
        node = type(self._model.graph)().node.add(op=op, name=unique)
        self.nodes[unique] = node
        return node

    def _find_constants(self) -> set[str]:
        """Return the nodes that depend on constants only; graphs have no circles."""
        found: set[str] = set()
        todo, open_inputs = [], {}
        readers: dict[str, list[str]] = {}
        for name, node in self.nodes.items():
            inputs = {node_of(read) for read in node.input}
            open_inputs[name] = len(inputs)
            for read in inputs:
                readers.setdefault(read, []).append(name)
            if node.op == "Const":
                todo.append(name)
        while todo:
            name = todo.pop()
            found.add(name)
            for reader in readers.get(name, ()):
                open_inputs[reader] -= 1
                if not open_inputs[reader]:
                    todo.append(reader)
        return found

    def _compute_constants(self) -> dict[str, np.ndarray]:
        """Return the constants that nodes read, in one call."""
        names = sorted(
            {
                full_name(read)
                for node in self.nodes.values()
                for read in node.input
                if node_of(read) in self._constants
            }
        )
        part = build_part(self._model, [], {str(at): name for at, name in enumerate(names)})
        found = part.function()
        return {name: found[str(at)].numpy() for at, name in enumerate(names)}
