"""SavedModels of any age: Keras 3, Keras 2, tf.Module, Estimators and TF1."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scoreline.models.errors import ModelError, first_lines
from scoreline.models.examples import find_features
from scoreline.models.runtimes.tensorflow import prepare_tensorflow
from scoreline.models.signature import Signature, TensorSpec
from scoreline.models.tensors import StringCodes, Value

# TensorFlow's messages about an op that this build cannot run.
_NO_KERNEL = ("OpKernel", "Could not find device", "Op type not registered")


class ConcreteFunction:
    """One signature of a loaded TensorFlow model: a concrete function of named tensors."""

    def __init__(self, function: Any, signature: Signature) -> None:
        """Wrap a concrete TensorFlow function from named tensors to named tensors."""
        self._function = function
        self.signature = signature

    def call(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the named outputs for some rows; safe to call from several threads at once."""
        called = self._function(**{name: to_tensor(value) for name, value in inputs.items()})
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
) -> ConcreteFunction:
    """Load a signature of a SavedModel.

    Raises:
      ModelError: the model does not load, or has no such signature.
    """
    tf = prepare_tensorflow(concurrent_calls, op_libraries)
    try:
        loaded = _load(tf, path)
    except Exception as e:  # any failure of foreign code is an error of the model
        raise ModelError(f"Model {path} does not load: {_explain(e)}") from e
    known = sorted(name for name in loaded.signatures if not name.startswith("__"))
    if signature_name not in known:
        raise ModelError(
            f"--signature: model {path} has no signature '{signature_name}'; "
            f"it has {', '.join(known) or 'none: export it with signatures='}"
        )
    function = loaded.signatures[signature_name]
    # The function holds only weak references to the model's variables: keep the model beside it.
    function._scoreline_model = loaded
    return ConcreteFunction(function, _read_signature(function, signature_name))


def _load(tf: Any, path: str) -> Any:
    try:
        return tf.saved_model.load(path)
    except AttributeError as e:
        # Keras 2 saved the slots of its optimizer; without Keras 2 nothing can restore them, and
        # no signature reads them.
        if "add_slot" not in str(e):
            raise
    with _without_optimizer_slots(path) as patched:
        return tf.saved_model.load(patched)


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
    if "Op type not registered" in text:
        text += ". Load the library that has this op with --load_op_library PATH"
    return text


def _read_signature(function: Any, name: str) -> Signature:
    _, inputs = function.structured_input_signature
    specs = read_specs(inputs)
    outputs = read_specs(function.structured_outputs)
    features = find_features(function, specs)
    if features:
        return Signature(name, features, outputs, specs[0].name)
    return Signature(name, specs, outputs)


def read_specs(specs: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """Convert TensorFlow's specs of named tensors to `TensorSpec`s, sorted by name."""
    return tuple(
        TensorSpec(
            name,
            spec.dtype.name,
            None if spec.shape.rank is None else tuple(spec.shape.as_list()),
        )
        for name, spec in sorted(specs.items())
    )
