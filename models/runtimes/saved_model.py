"""SavedModels of any age: Keras 3, Keras 2, tf.Module, Estimators and TF1."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scoreline.models.errors import ModelError, first_lines
from scoreline.models.examples import find_features
from scoreline.models.runtimes.graph_ops import (
    describe_missing_op,
    find_python_problem,
    ops_of,
)
from scoreline.models.runtimes.model import Runtime
from scoreline.models.runtimes.tensorflow import prepare_tensorflow
from scoreline.models.signature import Signature, TensorSpec
from scoreline.models.tensors import StringCodes, Value

# TensorFlow's messages about an op that this build cannot run.
_NO_KERNEL = ("OpKernel", "Could not find device", "Op type not registered")
_MISSING_OP = re.compile(r"Op type not registered '([^']+)'")
_NO_PARAMETER = re.compile(r"\W", re.ASCII)
_PYTHON = Runtime("python")
# The tag of the MetaGraph that TensorFlow Serving loads.
SERVE = "serve"


class ConcreteFunction:
    """One signature of a loaded TensorFlow model: a concrete function of named tensors."""

    def __init__(
        self,
        function: Any,
        signature: Signature,
        positions: Sequence[str] | None = None,
        runtime: Runtime = _PYTHON,
    ) -> None:
        """Wrap a concrete TensorFlow function that returns named tensors.

        Args:
          function: takes tensors by the names of the signature's inputs, or by position.
          signature: the signature.
          positions: the input at each position; None if they are given by name.
          runtime: what calls it.
        """
        self.runtime = runtime
        self._function = function
        self._positions = positions
        self.signature = signature

    @property
    def ops(self) -> tuple[str, ...]:
        """The ops of the signature, as often as they occur."""
        return tuple(ops_of(self._function.graph.as_graph_def()))

    def call(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the named outputs for some rows; safe to call from several threads at once."""
        if self._positions is None:
            called = self._function(**{name: to_tensor(value) for name, value in inputs.items()})
        else:
            called = self._function(*(to_tensor(inputs[name]) for name in self._positions))
        return {name: called[name].numpy() for name in outputs}

    def is_about_inputs(self, error: Exception) -> bool:
        """Return whether a call may have failed because of its inputs."""
        return is_about_inputs(error)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether a call failed because it was too large for the memory."""
        import tensorflow as tf

        return isinstance(error, tf.errors.ResourceExhaustedError)


def is_about_inputs(error: Exception) -> bool:
    """Return whether TensorFlow rejected the inputs of a call, rather than the model."""
    import tensorflow as tf

    kinds = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError)
    return isinstance(error, kinds) and not any(text in str(error) for text in _NO_KERNEL)


def to_tensor(value: Value) -> Any:
    """Return a value as a tensor; the distinct strings of a column are converted only once."""
    import tensorflow as tf

    if not isinstance(value, StringCodes):
        return tf.constant(value)
    strings = value.strings
    if strings.tensor is None:
        strings.tensor = tf.constant(strings.values, tf.string, shape=[len(strings.values)])
    # tf.gather's checks cost six times the call.
    return tf.raw_ops.GatherV2(params=strings.tensor, indices=value.codes, axis=0)


def load_saved_model(
    path: str,
    signature_name: str,
    concurrent_calls: int | None = None,
    op_libraries: Sequence[str] = (),
    tags: Sequence[str] = (),
    *,
    fallback: str = "",
) -> ConcreteFunction:
    """Load a signature of a SavedModel by Python TensorFlow.

    If it has several MetaGraphs, the one with the tag `serve` alone is taken, as TensorFlow Serving
    does, or the one with the given tags. `fallback` is why the C API does not call it.

    Raises:
      ModelError: the model does not load, has no such signature or tags, or calls Python code.
    """
    tf = prepare_tensorflow(concurrent_calls, op_libraries)
    graphs = read_graphs(path)
    chosen = choose_tags(path, [graph.tags for graph in graphs], tags)
    graph = pick_graph(graphs, chosen)
    for name in graph.signature_def:
        problem = find_name_problem(path, graph, name)
        # TF1 loads all signatures at once, so that one without names spoils the others.
        if problem and (name == signature_name or not graph.object_graph_def.nodes):
            raise ModelError(problem)
    try:
        loaded = _load(tf, path, chosen)
    except Exception as e:  # any failure of foreign code is an error of the model
        raise ModelError(f"Model {path} does not load: {_explain(e)}") from e
    known = sorted(name for name in loaded.signatures if not name.startswith("__"))
    if signature_name not in known:
        raise ModelError(
            f"--signature: model {path} has no signature '{signature_name}'; "
            f"it has {', '.join(known) or 'none: export it with signatures='}"
        )
    function = loaded.signatures[signature_name]
    problem = find_python_problem(signature_name, ops_of(function.graph.as_graph_def()))
    if problem:
        raise ModelError(problem)
    # The function holds only weak references to the model's variables: keep the model beside it.
    function._scoreline_model = loaded
    signature = _read_signature(function, signature_name)
    return ConcreteFunction(function, signature, runtime=Runtime("python", fallback))


class GraphFacts(NamedTuple):
    """A MetaGraph of a SavedModel: its tags, and its protocol buffer."""

    tags: frozenset[str]
    proto: Any


def read_graphs(path: str) -> list[GraphFacts]:
    """Return the MetaGraphs of a SavedModel; nothing is loaded.

    Raises:
      ModelError: the file is damaged.
    """
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    try:
        proto = parse_saved_model(path)
    except Exception as e:  # any failure of foreign code is an error of the model
        raise ModelError(f"Model {path} does not load: {type(e).__name__}: {first_lines(e)}") from e
    return [GraphFacts(frozenset(graph.meta_info_def.tags), graph) for graph in proto.meta_graphs]


def pick_graph(graphs: Sequence[GraphFacts], chosen: Sequence[str] | None) -> Any:
    """Return the MetaGraph with tags that `choose_tags` returned."""
    return next(g.proto for g in graphs if chosen is None or g.tags == frozenset(chosen))


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
    if equal and not graph.object_graph_def.nodes:
        return (
            f"{begin} the inputs {' and '.join(map(repr, equal))}, whose names TensorFlow does not "
            "tell apart. Export the model with other names"
        )
    return ""


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


def _load(tf: Any, path: str, tags: list[str] | None) -> Any:
    try:
        return tf.saved_model.load(path, tags)
    except AttributeError as e:
        # Keras 2 saved the slots of its optimizer; without Keras 2 nothing can restore them, and
        # no signature reads them.
        if "add_slot" not in str(e):
            raise
    with _without_optimizer_slots(path) as patched:
        return tf.saved_model.load(patched, tags)


@contextlib.contextmanager
def _without_optimizer_slots(path: str) -> Iterator[str]:
    """Yield a copy of a SavedModel whose optimizers have no slots; its files are links."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as SavedModelProto

    with tempfile.TemporaryDirectory(prefix="scoreline-model-") as folder:
        copy = Path(folder) / "model"
        source = Path(path).resolve()
        shutil.copytree(source, copy, copy_function=lambda a, b: Path(b).symlink_to(a))
        proto = SavedModelProto.FromString((source / "saved_model.pb").read_bytes())
        for graph in proto.meta_graphs:
            for node in graph.object_graph_def.nodes:
                del node.slot_variables[:]
        (copy / "saved_model.pb").unlink()
        (copy / "saved_model.pb").write_bytes(proto.SerializeToString())
        yield str(copy)


def _explain(error: Exception) -> str:
    text = f"{type(error).__name__}: {first_lines(error)}"
    missing = _MISSING_OP.search(text)
    if missing:
        text += f". {describe_missing_op(missing[1])}"
    return text


def _read_signature(function: Any, name: str) -> Signature:
    _, inputs = function.structured_input_signature
    specs = read_specs(inputs)
    outputs = read_specs(function.structured_outputs)
    features = find_features(function, specs)
    if features:
        return Signature(name, features, outputs, specs[0].name)
    return Signature(name, specs, outputs)


def kind_of(spec: Any) -> str:
    """Return "" for a dense tensor or its spec, otherwise its kind and a space: `sparse `."""
    name = type(spec).__name__
    return next((f"{kind} " for kind in ("ragged", "sparse") if kind in name.lower()), "")


def read_specs(specs: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """Convert TensorFlow's specs of named tensors to `TensorSpec`s, sorted by name.

    The dtype of a tensor that is not dense has its kind before it: `ragged int64`.
    """
    return tuple(
        TensorSpec(
            name,
            kind_of(spec) + spec.dtype.name,
            None if spec.shape.rank is None else tuple(spec.shape.as_list()),
        )
        for name, spec in sorted(specs.items())
    )
