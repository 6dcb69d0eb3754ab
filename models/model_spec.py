"""Which model to load, and how: the one description that planning, workers and replay share."""

from __future__ import annotations

import dataclasses
from typing import Any

from scoreline.models.process import ModelProcess
from scoreline.models.servable import LocalServable, Servable, load_servable, shared_servable
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A model, and how it is called.

    Attributes:
      path: the model's directory or file, as the process that loads it sees it.
      digest: `sha256:…` that the model must have; "" for any.
      signature: the signature's key.
      batch_rows: rows per call; None finds a good size.
      concurrent_calls: how many calls a process makes at once; None leaves TensorFlow's setting.
      op_libraries: shared libraries with custom ops.
      outputs: the outputs that will be asked for; None for all. The model is checked for these.
      ragged: pairs of an input and the component of a ragged tensor that it is.
      batch_timeout_s: maximum seconds that a record batch takes in the model, which then runs in
        a process of its own; None for no limit, in the process that loads it.
    """

    path: str
    digest: str = ""
    signature: str = DEFAULT_SIGNATURE
    batch_rows: int | None = None
    concurrent_calls: int | None = None
    op_libraries: tuple[str, ...] = ()
    outputs: tuple[str, ...] | None = None
    ragged: tuple[tuple[str, str], ...] = ()
    batch_timeout_s: float | None = None

    def load(self, *, shared: bool = True) -> Servable:
        """Return the model, warmed up: in this process, or in its own if calls have a limit.

        Args:
          shared: whether a model in this process is loaded once for all of its threads. Otherwise
            it is loaded anew, and nobody else holds it.

        Raises:
          FileNotFoundError: there is no model.
          ModelError: another digest, no such signature, or a model that does not load or answer.
        """
        return self.load_here(shared=shared) if self.batch_timeout_s is None else self.start()

    def load_here(self, *, shared: bool = True) -> LocalServable:
        """Return the model in this process; raises as `load` does."""
        load = shared_servable if shared else load_servable
        return load(self.path, self.signature, **self._options(self.concurrent_calls))

    def start(self) -> ModelProcess:
        """Return the model in a process of its own; raises as `load` does.

        Its threads are set for one call at a time: each worker starts its own.
        """
        return ModelProcess(
            self.path, self.signature, batch_timeout_s=self.batch_timeout_s, **self._options(1)
        )

    def read_signature(self, *, here: bool) -> Signature:
        """Load the model, have it answer a call, and return its signature.

        Args:
          here: whether the model stays loaded in this process, for the workers that are its
            threads. Otherwise a process of its own reads it and ends: this one never imports a
            framework, and a model that crashes does not take it along.

        Raises:
          FileNotFoundError: there is no model.
          ModelError: the model does not load or answer, or has no such signature.
        """
        if here and self.batch_timeout_s is None:
            return self.load_here().signature
        process = self.start()
        try:
            return process.signature
        finally:
            process.close()

    def _options(self, concurrent_calls: int | None) -> dict[str, Any]:
        return {
            "digest": self.digest or None,
            "batch_rows": self.batch_rows,
            "concurrent_calls": concurrent_calls,
            "op_libraries": self.op_libraries,
            "outputs": self.outputs,
            "ragged": self.ragged,
        }
