"""The spec of a model and its calls, shared by planning, workers and replay."""

from __future__ import annotations

import dataclasses
from typing import Any

from scoreline.models.process import ModelProcess
from scoreline.models.servable import LocalServable, Servable, load_servable, shared_servable
from scoreline.models.signature import DEFAULT_SIGNATURE
from scoreline.models.variants import Choice


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A model, and the parameters of its calls.

    Attributes:
      path: the model's directory or file, on the machine that loads it.
      digest: `sha256:…` that the model must have; "" for any.
      signature: the signature's key.
      batch_rows: rows per call; None for automatic.
      concurrent_calls: number of parallel calls in a process; None keeps TensorFlow's setting.
      op_libraries: shared libraries with custom ops.
      tags: of a SavedModel's MetaGraph; () for the only one, or the one for serving.
      outputs: the outputs that will be used; None for all. The warm-up checks them.
      ragged: pairs of an input and its component of a ragged tensor.
      batch_timeout_s: maximum seconds of a record batch in the model, which then runs in a
        separate process; None for no limit, in the process that loads it.
      choice: how `auto:` chose this model; None if it was named itself.
    """

    path: str
    digest: str = ""
    signature: str = DEFAULT_SIGNATURE
    batch_rows: int | None = None
    concurrent_calls: int | None = None
    op_libraries: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    outputs: tuple[str, ...] | None = None
    ragged: tuple[tuple[str, str], ...] = ()
    batch_timeout_s: float | None = None
    choice: Choice | None = None

    def load(self, *, shared: bool = True) -> Servable:
        """Return the model, warmed up: in this process, or in its own if calls have a limit.

        Args:
          shared: whether all threads of this process share the model. Otherwise a new model is
            loaded for the caller alone.

        Raises:
          FileNotFoundError: there is no model.
          ModelError: another digest, no such signature, or a model that does not load or answer.
        """
        return self.load_here(shared=shared) if self.batch_timeout_s is None else self.start()

    def load_here(self, *, shared: bool = True) -> LocalServable:
        """Return the model in this process; raises like `load`."""
        load = shared_servable if shared else load_servable
        return load(self.path, self.signature, **self._options(self.concurrent_calls))

    def start(self) -> ModelProcess:
        """Return the model in a separate process; raises like `load`.

        The process is configured for one call at a time, because each worker starts its own.
        """
        return ModelProcess(
            self.path, self.signature, batch_timeout_s=self.batch_timeout_s, **self._options(1)
        )

    def _options(self, concurrent_calls: int | None) -> dict[str, Any]:
        return {
            "digest": self.digest or None,
            "batch_rows": self.batch_rows,
            "concurrent_calls": concurrent_calls,
            "op_libraries": self.op_libraries,
            "tags": self.tags,
            "outputs": self.outputs,
            "ragged": self.ragged,
        }
