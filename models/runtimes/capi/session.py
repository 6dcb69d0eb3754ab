"""A SavedModel as a session of TensorFlow's C API: its graph, variables, tables and assets."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scoreline.models.runtimes.capi.config import run_options
from scoreline.models.runtimes.capi.library import Library
from scoreline.models.runtimes.capi.prototypes import Output
from scoreline.models.runtimes.noise import TENSORFLOW_NOISE, without_noise


class MissingTensor(ValueError):
    """The graph has no tensor that the signature names."""


class Place(NamedTuple):
    """An output of an operation of the graph."""

    operation: int
    output: int = 0


class Session:
    """A loaded MetaGraph. Calls are safe from several threads at once.

    The session and its graph are freed when this object is, or by `close`.
    """

    def __init__(self, library: Library, path: str, tags: Sequence[str], config: bytes) -> None:
        """Load a MetaGraph: read its variables, and fill its tables from its assets.

        Args:
          library: TensorFlow.
          path: the SavedModel's folder.
          tags: the tags of the MetaGraph.
          config: a ConfigProto; its threads hold for the process, and the first session decides.

        Raises:
          TensorFlowError: it does not load.
        """
        self.library, self._c = library, library.c
        c = self._c
        self._graph = c.TF_NewGraph()
        options = c.TF_NewSessionOptions()
        names = (ctypes.c_char_p * len(tags))(*(tag.encode() for tag in tags))
        try:
            library.call(c.TF_SetConfig, options, config, len(config))
            with without_noise(TENSORFLOW_NOISE):
                self._session = library.call(
                    c.TF_LoadSessionFromSavedModel,
                    *(options, None, os.fsencode(path), names, len(tags), self._graph, None),
                )
        except BaseException:
            c.TF_DeleteGraph(self._graph)
            raise
        finally:
            c.TF_DeleteSessionOptions(options)
        # At the end of the process its memory is freed anyway, and threads may still be in a call.
        self.close = weakref.finalize(self, _free, library, self._session, self._graph)
        self.close.atexit = False

    def find(self, tensor: str) -> Place:
        """Return the place of a tensor such as `node:0`.

        Raises:
          MissingTensor: the graph has no such operation or output.
        """
        name, _, index = tensor.partition(":")
        operation = self._c.TF_GraphOperationByName(self._graph, name.encode())
        place = Place(operation or 0, int(index or 0))
        if not operation or place.output >= self._c.TF_OperationNumOutputs(operation):
            raise MissingTensor(f"the graph has no tensor {tensor}")
        return place

    def add(self, op: str, name: str, inputs: Sequence[Place], types: Mapping[str, int]) -> Place:
        """Add an operation to the graph, and return its first output.

        Args:
          op: the op, such as `ReadVariableOp`.
          name: a name that the graph does not have.
          inputs: the operation's inputs.
          types: its attributes that are dtypes, by name.

        Raises:
          TensorFlowError: there is no such op, or the inputs do not fit.
        """
        c = self._c
        made = c.TF_NewOperation(self._graph, op.encode(), name.encode())
        for place in inputs:
            c.TF_AddInput(made, Output(*place))
        for key, number in types.items():
            c.TF_SetAttrType(made, key.encode(), number)
        return Place(self.library.call(c.TF_FinishOperation, made))

    def run(
        self,
        inputs: Any,
        values: Sequence[int],
        outputs: Any,
        targets: Sequence[int] = (),
        timeout_ms: int | None = None,
    ) -> list[int]:
        """Run the part of the graph that the outputs and targets depend on.

        Args:
          inputs: the places to feed, as `places` returns them.
          values: a TF_Tensor for each; they stay the caller's.
          outputs: the places to return, as `places` returns them.
          targets: further operations to run.
          timeout_ms: after it a loop ends, and the call raises DEADLINE_EXCEEDED; None for no
            limit.

        Returns:
          A TF_Tensor for each output, which the caller frees.

        Raises:
          TensorFlowError: the call failed; the session can be used again.
        """
        c = self._c
        fed = (ctypes.c_void_p * len(values))(*values)
        results = (ctypes.c_void_p * len(outputs))()
        wanted = (ctypes.c_void_p * len(targets))(*targets)
        options = None
        if timeout_ms is not None:
            text = run_options(max(1, timeout_ms))
            options = c.TF_NewBufferFromString(text, len(text))
        try:
            self.library.call(
                c.TF_SessionRun,
                *(self._session, options),
                *(inputs, fed, len(fed), outputs, results, len(results)),
                *(wanted, len(wanted), None),
            )
        finally:
            if options is not None:
                c.TF_DeleteBuffer(options)
        return list(results)


def places(found: Sequence[Place]) -> Any:
    """Return places in the form that `Session.run` takes."""
    return (Output * len(found))(*(Output(*place) for place in found))


def _free(library: Library, session: int, graph: int) -> None:
    """Free a session; errors of closing it do not matter any more."""
    c = library.c
    status = c.TF_NewStatus()
    c.TF_CloseSession(session, status)
    c.TF_DeleteSession(session, status)
    c.TF_DeleteStatus(status)
    c.TF_DeleteGraph(graph)
