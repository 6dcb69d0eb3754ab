"""SavedModels of any age: Keras 3, Keras 2, tf.Module, Estimators and TF1."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoreline.models.errors import ModelError, first_lines
from scoreline.models.runtimes.graph_ops import NO_KERNEL, describe_missing_op, ops_of
from scoreline.models.runtimes.model import Runtime
from scoreline.models.runtimes.saved_model_proto import parse_saved_model
from scoreline.models.runtimes.saved_model_signature import find_signature
from scoreline.models.runtimes.tensorflow import prepare_tensorflow
from scoreline.models.signature import Signature, TensorSpec
from scoreline.models.strings import Output, StringCodes, Strings, Value, to_plain

_MISSING_OP = re.compile(r"Op type not registered '([^']+)'")
_PYTHON = Runtime("python")


class ConcreteFunction:
    """One signature of a loaded TensorFlow model: a concrete function of named tensors.

    Attributes:
      function: TensorFlow's concrete function.
      positions: the input at each position; None if they are given by name.
    """

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
        self.function = function
        self.positions = positions
        self.signature = signature

    @property
    def ops(self) -> tuple[str, ...]:
        """The ops of the signature, as often as they occur."""
        return tuple(ops_of(self.function.graph.as_graph_def()))

    def call(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Output]:
        """Return the named outputs for some rows; safe to call from several threads at once."""
        if self.positions is None:
            called = self.function(**{name: to_tensor(value) for name, value in inputs.items()})
        else:
            called = self.function(*(to_tensor(inputs[name]) for name in self.positions))
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
    return isinstance(error, kinds) and not any(text in str(error) for text in NO_KERNEL)


def to_tensor(value: Value) -> Any:
    """Return a value as a tensor; the distinct strings of a column are converted only once."""
    import tensorflow as tf

    if not isinstance(value, StringCodes):
        return tf.constant(to_plain(value))
    table = value.strings.copy_as(_to_table)
    # tf.gather's checks cost six times the call.
    return tf.raw_ops.GatherV2(params=table, indices=value.codes, axis=0)


def _to_table(strings: pa.Array) -> Any:
    import tensorflow as tf

    values = Strings(strings).to_list()
    return tf.constant(values, tf.string, shape=[len(values)])


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
    found = find_signature(path, signature_name, tags)
    tf = prepare_tensorflow(concurrent_calls, op_libraries)
    try:
        loaded = _load(tf, path, list(found.tags))
        function = loaded.signatures[signature_name]
    except Exception as e:  # any failure of foreign code is an error of the model
        raise ModelError(f"Model {path} does not load: {_explain(e)}") from e
    # The function holds only weak references to the model's variables: keep the model beside it.
    function._scoreline_model = loaded
    return ConcreteFunction(function, found.signature, runtime=Runtime("python", fallback))


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
    with tempfile.TemporaryDirectory(prefix="scoreline-model-") as folder:
        copy = Path(folder) / "model"
        source = Path(path).resolve()
        shutil.copytree(source, copy, copy_function=lambda a, b: Path(b).symlink_to(a))
        proto = parse_saved_model(path)
        for graph in proto.meta_graphs:
            for node in graph.object_graph_def.nodes:
                del node.slot_variables[:]
        (copy / "saved_model.pb").unlink(missing_ok=True)
        (copy / "saved_model.pb").write_bytes(proto.SerializeToString())
        yield str(copy)


def _explain(error: Exception) -> str:
    text = f"{type(error).__name__}: {first_lines(error)}"
    missing = _MISSING_OP.search(text)
    if missing:
        text += f". {describe_missing_op(missing[1])}"
    return text


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
