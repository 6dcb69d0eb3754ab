"""Splits a frozen graph: what LiteRT cannot run goes in front, the numeric rest behind it.

text, tf.Examples, ragged rows  →  lookups (Arrow), front (TensorFlow)  →  rest (LiteRT)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from scoreline.models.errors import ModelError
from scoreline.models.optimize.build import Feed, build_part, full_name, row_feeds
from scoreline.models.optimize.frozen import FrozenModel, source_of
from scoreline.models.runtimes.graph_ops import needed_nodes, node_of
from scoreline.models.runtimes.tensorflow import import_tensorflow

# The work that is worth converting: it must not stay in front.
HEAVY = frozenset(
    {
        *("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"),
        *("Conv2D", "Conv3D", "DepthwiseConv2dNative"),
    }
)
_NOT_NUMERIC = ("string", "resource", "variant")


class FoundLookup(NamedTuple):
    """A lookup whose keys are an input as it is.

    Attributes:
      tensor: the tensor of the codes.
      dtype: of the codes.
      shape: of the codes.
      input: the input.
      table: the placeholder of its table.
      default: the value of a missing key.
    """

    tensor: str
    dtype: Any
    shape: tuple[int, ...]
    input: str
    table: str
    default: int | float


class Split(NamedTuple):
    """Where a graph is cut: the tensors that the rest takes.

    Attributes:
      feeds: inputs, as they are.
      lookups: results of lookups that Arrow does.
      cuts: results of the front.
    """

    feeds: tuple[Feed, ...]
    lookups: tuple[FoundLookup, ...]
    cuts: tuple[Feed, ...]


def split_front(model: FrozenModel, rows: int, unsupported: Iterable[str] = ()) -> Split:
    """Return where to cut a graph so that LiteRT can run what is behind.

    Args:
      model: the model.
      rows: rows of every call.
      unsupported: ops that LiteRT lacks, besides those of text and of tables.

    Raises:
      ModelError: work that is worth converting would stay in front, or an output is text.
    """
    graph = _ShapedGraph(model, rows)
    reasons = _find_reasons(graph, set(unsupported))
    front = _find_front(graph, set(reasons))
    _refuse_heavy(graph, front, reasons)
    stops = {*front, *graph.lookups, *graph.placeholders}
    rest = {name: node for name, node in graph.nodes.items() if name not in stops}
    behind = needed_nodes(rest, model.outputs.values())
    read = {full_name(name) for node in behind for name in node.input}
    for name, tensor in model.outputs.items():
        if node_of(tensor) in stops and not graph.can_cut(tensor):
            raise ModelError(
                f"Output '{name}' is {graph.describe(tensor)}, from {graph.op_of(tensor)}; expected"
                " numbers of a fixed size for each row. Leave it out with outputs="
            )
        read.add(full_name(tensor))
    cuts = sorted(name for name in read if node_of(name) in front - graph.lookups.keys())
    return Split(
        tuple(feed for feed in graph.feeds if full_name(feed.tensor) in read),
        tuple(lookup for name, lookup in graph.lookups.items() if full_name(name) in read),
        tuple(
            Feed(name, f"cut_{at}", graph.tensor(name).dtype, tuple(graph.tensor(name).shape))
            for at, name in enumerate(cuts)
        ),
    )


class _ShapedGraph:
    """A graph with the shapes of its tensors in calls of a fixed number of rows.

    Attributes:
      nodes: its nodes by name.
      feeds: its inputs.
      placeholders: the nodes of its inputs and tables.
      lookups: by node, the lookups that Arrow can do.
    """

    def __init__(self, model: FrozenModel, rows: int) -> None:
        self._rows = rows
        graph = type(model.graph).FromString(model.graph.SerializeToString())
        self.nodes: Mapping[str, Any] = {node.name: node for node in graph.node}
        self.feeds = row_feeds(model, rows)
        self.placeholders = {node_of(feed.tensor) for feed in self.feeds} | model.tables.keys()
        self.operations = self._infer_shapes(model._replace(graph=graph))
        self._rows_of = {full_name(tensor) for tensor in model.outputs.values()}
        self._rows_of |= {full_name(n.input[0]) for n in graph.node if n.op in HEAVY}
        while self._tell_sizes():
            self.operations = self._infer_shapes(model._replace(graph=graph))
        self.lookups = {lookup.tensor: lookup for lookup in self._find_lookups(model)}

    def _infer_shapes(self, model: FrozenModel) -> dict[str, Any]:
        """Return the operations of TensorFlow, by node."""
        part = build_part(model, self.feeds, model.outputs)
        found = {
            operation.name.removeprefix("part/"): operation
            for operation in part.function.graph.get_operations()
            if operation.name.startswith("part/")
        }
        for feed, tensor in zip(self.feeds, part.function.inputs, strict=False):
            found[node_of(feed.tensor)] = tensor.op
        return found

    def _tell_sizes(self) -> bool:
        """Write sizes to nodes that TensorFlow infers none for; return whether there were some.

        A lookup gives one number for each key. What a product reads, and what an output is, has one
        entry for each row: ragged and sparse ops do not tell. If that is wrong, a call fails.
        """
        told = False
        for node in self.nodes.values():
            if node.op == "Placeholder" or "_output_shapes" in node.attr:
                continue
            shapes = [tensor.shape for tensor in self.operations[node.name].outputs]
            if len(shapes) != 1 or shapes[0].is_fully_defined():
                continue
            size = self._size_of(node, shapes[0])
            if size is not None:
                node.attr["_output_shapes"].list.shape.append(size.as_proto())
                told = True
        return told

    def _size_of(self, node: Any, shape: Any) -> Any:
        if node.op == "LookupTableFindV2":
            keys, default = (self.tensor(name).shape for name in node.input[1:])
            if keys.is_fully_defined() and default.rank == 0:
                return keys
        if full_name(node.name) in self._rows_of and shape.rank and shape[0] is None:
            size = type(shape)([self._rows, *shape[1:]])
            return size if size.is_fully_defined() else None
        return None

    def tensor(self, name: str) -> Any:
        """Return a symbolic tensor by its name in the graph: `node` or `node:1`."""
        node, _, at = name.partition(":")
        return self.operations[node].outputs[int(at or 0)]

    def op_of(self, name: str) -> str:
        """Return the op that a tensor is a result of, before any Identity."""
        return str(self.operations[source_of(self.nodes, name)].type)

    def describe(self, name: str) -> str:
        """Return the dtype and the shape of a tensor."""
        tensor = self.tensor(name)
        return f"{tensor.dtype.name} {tensor.shape}"

    def can_cut(self, name: str) -> bool:
        """Return whether a tensor can be given to LiteRT: numbers, of a fixed size for each row."""
        tensor = self.tensor(name)
        if tensor.dtype.name in _NOT_NUMERIC or not tensor.shape.is_fully_defined():
            return False
        return bool(tensor.shape.rank) and tensor.shape[0] == self._rows

    def _find_lookups(self, model: FrozenModel) -> Iterable[FoundLookup]:
        tf = import_tensorflow()
        known = {spec.name for spec in model.signature.inputs}
        inputs = {node_of(tensor): name for name, tensor in model.inputs.items() if name in known}
        for node in self.nodes.values():
            if node.op != "LookupTableFindV2" or not self.can_cut(node.name):
                continue
            table, key, default = (source_of(self.nodes, name) for name in node.input)
            if key in inputs and self.nodes[default].op == "Const":
                value = tf.make_ndarray(self.nodes[default].attr["value"].tensor).item()
                tensor = self.tensor(node.name)
                shape = tuple(tensor.shape)
                yield FoundLookup(node.name, tensor.dtype, shape, inputs[key], table, value)


def _find_reasons(graph: _ShapedGraph, unsupported: set[str]) -> dict[str, str]:
    """Return why a node must stay in front, for each that must."""
    reasons = {}
    for name, node in graph.nodes.items():
        if node.op == "Const" or name in graph.placeholders or name in graph.lookups:
            continue
        operation = graph.operations[name]
        tensors = [*operation.inputs, *operation.outputs]
        if node.op in unsupported:
            reasons[name] = f"LiteRT has no op {node.op} ('{name}')"
        elif any(tensor.dtype.name in _NOT_NUMERIC for tensor in tensors):
            reasons[name] = f"LiteRT has no op {node.op} of text or tables ('{name}')"
        elif not all(tensor.shape.is_fully_defined() for tensor in operation.outputs):
            shapes = ", ".join(str(tensor.shape) for tensor in operation.outputs)
            reasons[name] = f"the size of {node.op} ('{name}') is free: {shapes}"
    return reasons


def _find_front(graph: _ShapedGraph, begun: set[str]) -> set[str]:
    """Return the nodes in front: those that must stay, what they need, and what cannot be cut."""
    apart = {name for name, node in graph.nodes.items() if node.op == "Const"} | graph.placeholders
    inner = {name: node for name, node in graph.nodes.items() if name not in apart}
    front: set[str] = set()
    while begun:
        front |= {node.name for node in needed_nodes(inner, begun)}
        sealed = front - graph.lookups.keys()
        begun = {
            name
            for name, node in inner.items()
            if name not in front
            and name not in graph.lookups
            and any(node_of(read) in sealed and not graph.can_cut(read) for read in node.input)
        }
    return front


def _refuse_heavy(graph: _ShapedGraph, front: set[str], reasons: Mapping[str, str]) -> None:
    heavy = sorted(name for name in front if graph.nodes[name].op in HEAVY)
    if not heavy:
        return
    behind = [
        name
        for name in sorted(reasons)
        if any(node.name == heavy[0] for node in needed_nodes(graph.nodes, [name]))
    ]
    before = sorted(
        node.name for node in needed_nodes(graph.nodes, [heavy[0]]) if node.name in reasons
    )
    raise ModelError(
        f"{reasons[[*behind, *before][0]]}, and {graph.nodes[heavy[0]].op} ('{heavy[0]}') would "
        "have to stay in TensorFlow with it. Only what comes before the first matrix product or "
        "convolution can stay there: score the parent, or export the model without it"
    )
