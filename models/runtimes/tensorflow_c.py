"""SavedModels by TensorFlow's C API, which starts in a second: Python TensorFlow takes five."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreline.models.errors import ModelError, first_lines
from scoreline.models.runtimes.capi.config import session_config
from scoreline.models.runtimes.capi.errors import LibraryError, TensorFlowError
from scoreline.models.runtimes.capi.library import Library, find_unknown_ops, load_library
from scoreline.models.runtimes.capi.session import MissingTensor, Place, Session, places
from scoreline.models.runtimes.capi.tensors import fed, take_outputs
from scoreline.models.runtimes.capi.variables import Variables
from scoreline.models.runtimes.deadline import left_ms
from scoreline.models.runtimes.graph_ops import NO_KERNEL, describe_missing_op
from scoreline.models.runtimes.model import Runtime
from scoreline.models.runtimes.noise import TENSORFLOW_NOISE, without_noise
from scoreline.models.runtimes.saved_model_proto import dtype_of
from scoreline.models.runtimes.saved_model_signature import FoundSignature, find_signature
from scoreline.models.strings import Output, Value

if TYPE_CHECKING:
    from scoreline.models.runtimes import ModelSource


class CannotLoad(ModelError):
    """A model that the C API cannot load, and Python TensorFlow perhaps can.

    Attributes:
      reason: why.
    """

    def __init__(self, path: str, reason: str) -> None:
        """Keep the reason."""
        super().__init__(f"Model {path} does not load: {reason}")
        self.reason = reason


class _UnknownOp(Exception):
    """An op that TensorFlow does not have."""


class SessionModel:
    """One signature of a SavedModel in a session of TensorFlow's C API."""

    runtime = Runtime("c")

    def __init__(self, session: Session, found: FoundSignature) -> None:
        """Take a loaded session, and a signature of it.

        Raises:
          MissingTensor: the graph lacks one of the signature's tensors, or has one for two inputs.
        """
        self.signature, self.ops = found.signature, found.ops
        self._session = session
        self._inputs = {name: session.find(tensor) for name, tensor in found.inputs.items()}
        self._outputs = {name: session.find(tensor) for name, tensor in found.outputs.items()}
        definition = found.graph.signature_def[found.signature.name]
        self._dtypes = {
            name: dtype_of(definition.inputs[name].dtype).removesuffix("_ref")
            for name in self._inputs
        }
        lacking = {spec.name for spec in self.signature.inputs} - self._inputs.keys()
        if lacking and not self.signature.example_input:
            raise MissingTensor(f"no tensor of the graph is input {sorted(lacking)[0]}")
        if len(set(self._inputs.values())) < len(self._inputs):
            raise MissingTensor("two inputs of the signature are one tensor of the graph")
        # By names: the places of a call, in the form that TensorFlow takes.
        self._places: dict[tuple[bool, tuple[str, ...]], Any] = {}

    def call(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Output]:
        """Return the named outputs for some rows; safe to call from several threads at once.

        Arrays of numbers are read-only, and over TensorFlow's memory.
        """
        library = self._session.library
        values = [(value, self._dtypes[name]) for name, value in inputs.items()]
        with fed(library, values) as tensors:
            found = self._session.run(
                self._places_of(self._inputs, inputs),
                tensors,
                self._places_of(self._outputs, outputs),
                timeout_ms=left_ms(),
            )
        return dict(zip(outputs, take_outputs(library, found), strict=True))

    def _places_of(self, known: Mapping[str, Place], names: Iterable[str]) -> Any:
        key = (known is self._inputs, tuple(names))
        if key not in self._places:
            self._places[key] = places([known[name] for name in key[1]])
        return self._places[key]

    def is_about_inputs(self, error: Exception) -> bool:
        """Return whether a call may have failed because of its inputs."""
        if not isinstance(error, TensorFlowError):
            return False
        is_of_kind = error.code in ("INVALID_ARGUMENT", "OUT_OF_RANGE")
        return is_of_kind and not any(text in error.message for text in NO_KERNEL)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether a call failed because it was too large for the memory."""
        return isinstance(error, TensorFlowError) and error.code == "RESOURCE_EXHAUSTED"

    def close(self) -> None:
        """Free the session; the model cannot be called any more."""
        self._session.close()


def load_by_c(source: ModelSource) -> SessionModel:
    """Load a signature of a SavedModel without Python TensorFlow.

    Raises:
      CannotLoad: Python TensorFlow may load it.
      ModelError: no runtime can: the model is damaged, has no such signature or tags, or calls
        Python code.
    """
    found = find_signature(source.path, source.signature_name, source.tags)
    try:
        session = _open(source, found)
        _check_variables(session, found)
        return SessionModel(session, found)
    except (LibraryError, TensorFlowError, MissingTensor, _UnknownOp) as e:
        raise CannotLoad(source.path, first_lines(e)) from e


def _open(source: ModelSource, found: FoundSignature) -> Session:
    library = load_library()
    for file in source.op_libraries:
        _load_ops(library, file)
    functions = {function.signature.name for function in found.graph.graph_def.library.function}
    unknown = find_unknown_ops(library, set(found.ops) - functions)
    if unknown:
        raise _UnknownOp(
            f"Op type not registered '{unknown[0]}'. {describe_missing_op(unknown[0])}"
        )
    calls = source.concurrent_calls
    config = session_config(
        threads_in_call=None if calls is None else 1,  # workers are the parallelism
        concurrent_calls=calls,
        has_gpu=any(Path("/dev").glob("nvidia[0-9]*")),
    )
    return Session(library, source.path, found.tags, config)


def _load_ops(library: Library, file: str) -> None:
    with without_noise(TENSORFLOW_NOISE):
        library.call(library.c.TF_LoadLibrary, os.fsencode(Path(file).absolute()))


def _check_variables(session: Session, found: FoundSignature) -> None:
    """Check that every variable which the outputs need has a value; others do not matter."""
    variables = Variables(session, found.graph.graph_def.node)
    empty = variables.fill(found.outputs.values())
    if empty:
        raise MissingTensor(f"variables without a value: {', '.join(empty)}")
