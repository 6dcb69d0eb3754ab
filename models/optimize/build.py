"""Parts of a frozen graph as functions of TensorFlow, to call, convert or save."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from scoreline.models.optimize.frozen import FrozenModel, Table
from scoreline.models.runtimes.graph_ops import needed_nodes, node_of
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.signature import TensorSpec


class Feed(NamedTuple):
    """A tensor of the graph that is given, under a name of its own, with a dtype and a shape."""

    tensor: str
    name: str
    dtype: Any
    shape: tuple[int | None, ...] | None


class Part(NamedTuple):
    """A part of a graph.

    Attributes:
      function: a concrete function of the feeds, by name, that returns a dictionary.
      module: what keeps its tables alive.
      ops: its ops, each once.
      read: the given tensors that it reads.
    """

    function: Any
    module: Any
    ops: frozenset[str]
    read: frozenset[str]


def build_part(model: FrozenModel, feeds: list[Feed], fetches: Mapping[str, str]) -> Part:
    """Return the part of a frozen graph between some tensors.

    Nodes have the name that they have in the graph, below `part/`.

    Args:
      model: the model.
      feeds: the tensors that are given.
      fetches: the tensors to compute, by the names of the result.
    """
    tf = import_tensorflow()
    given = {node_of(feed.tensor) for feed in feeds}
    nodes = {node.name: node for node in model.graph.node if node.name not in given}
    graph = type(model.graph)(library=model.graph.library, versions=model.graph.versions)
    graph.node.extend(needed_nodes(nodes, fetches.values()))
    used = {node.name for node in graph.node}
    for node in list(graph.node):
        if node.name in model.tables:
            graph.node.remove(node)
    read = {full_name(name) for node in graph.node for name in node.input}
    module = tf.Module()
    tables = {n: _make_table(tf, table) for n, table in model.tables.items() if n in used}
    module.tables = tables
    specs = [tf.TensorSpec(feed.shape, feed.dtype, name=feed.name) for feed in feeds]

    def compute(*values: Any) -> dict[str, Any]:
        mapped = {f"{n}:0": tf.identity(table.resource_handle) for n, table in tables.items()}
        passed = {}
        for feed, value in zip(feeds, values, strict=True):
            passed[full_name(feed.tensor)] = value
            if full_name(feed.tensor) in read:
                mapped[full_name(feed.tensor)] = value
        wanted = {key: name for key, name in fetches.items() if full_name(name) not in passed}
        found = tf.graph_util.import_graph_def(
            graph, input_map=mapped, return_elements=[*map(full_name, wanted.values())], name="part"
        )
        computed = dict(zip(wanted, found, strict=True))
        return {
            key: computed[key] if key in computed else tf.identity(passed[full_name(name)])
            for key, name in fetches.items()
        }

    module.compute = tf.function(compute, input_signature=specs, autograph=False)
    needed = {*map(full_name, fetches.values()), *read}
    return Part(
        module.compute.get_concrete_function(),
        module,
        frozenset(node.op for node in graph.node),
        frozenset(feed.tensor for feed in feeds if full_name(feed.tensor) in needed),
    )


def row_feeds(model: FrozenModel, rows: int | None) -> list[Feed]:
    """Return the feeds of a model's inputs, for calls of some rows; None for any number."""
    tf = import_tensorflow()
    specs = {spec.name: spec for spec in model.signature.inputs}
    feeds = []
    for name, tensor in model.inputs.items():
        spec = specs.get(name, TensorSpec(name, "string", (None,)))  # records of tf.Examples
        sizes = None if spec.shape is None else (rows, *spec.row_shape)
        feeds.append(Feed(tensor, name, tf.dtypes.as_dtype(spec.dtype), sizes))
    return feeds


def save_frozen(model: FrozenModel, path: str) -> None:
    """Save a frozen model as a SavedModel with one signature."""
    tf = import_tensorflow()
    feeds = row_feeds(model, model.signature.batch_rows)
    part = build_part(model, feeds, model.outputs)
    tf.saved_model.save(part.module, path, {model.signature.name: part.function})


def full_name(tensor: str) -> str:
    """Return a tensor's name with its number: nodes leave out that of a first output."""
    return tensor if ":" in tensor else f"{tensor}:0"


def _make_table(tf: Any, table: Table) -> Any:
    initializer = tf.lookup.KeyValueTensorInitializer(table.keys, table.values)
    default = b"" if table.values.dtype == object else table.values.dtype.type(0)
    # Graphs give the value of a missing key at each lookup: this one is never used.
    return tf.lookup.StaticHashTable(initializer, default)
