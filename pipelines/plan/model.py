"""The model: its digest, its signature, and its spec for planning, workers and replay."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from scoreline.models.artifact import digest_model
from scoreline.models.errors import ModelError
from scoreline.models.model_spec import ModelSpec
from scoreline.models.runtimes.model import Runtime
from scoreline.models.servable import Servable
from scoreline.models.signature import Signature
from scoreline.models.variants import Choice, choose_variant
from scoreline.pipelines.doing import doing
from scoreline.pipelines.options.model import AUTO, ModelSettings
from scoreline.pipelines.options.problems import Problems

_LOG = logging.getLogger(__name__)

# Loads a model, calls it once and returns its signature.
SignatureReader = Callable[[ModelSpec], Signature]


class PlannedModel:
    """The model of a plan, loaded once for its signature and for the first rows.

    Attributes:
      servable: the loaded model; None before `read_signature`.
    """

    def __init__(self, *, here: bool) -> None:
        """Choose where the model is loaded.

        Args:
          here: whether the model stays loaded in this process, for worker threads. Otherwise a
            separate process loads it until `close`. Then this process imports no framework, and a
            crash of the model does not affect it.
        """
        self._here = here
        self.servable: Servable | None = None

    def read_signature(self, model: ModelSpec) -> Signature:
        """Load the model, call it once, and return its signature; raises like `ModelSpec.load`."""
        is_here = self._here and model.batch_timeout_s is None
        self.servable = model.load_here() if is_here else model.start()
        return self.servable.signature

    @property
    def runtime(self) -> Runtime | None:
        """What calls the model; None before `read_signature`."""
        return None if self.servable is None else self.servable.runtime

    def close(self) -> None:
        """End the model's process; a model in this process stays loaded."""
        if self.servable is not None:
            self.servable.close()


def find_model(
    settings: ModelSettings, problems: Problems, concurrent_calls: int | None = None
) -> ModelSpec | None:
    """Return the model to load; None, with a problem, if it does not exist. Does not run it."""
    if not settings.path or "://" in settings.path:
        return None  # reported with the options
    try:
        if settings.path.startswith(AUTO):
            choice = choose_variant(settings.path.removeprefix(AUTO), settings.digest)
            for sentence in choice.passed_over:
                _LOG.warning(sentence)
            return _spec(settings, choice.path, choice.digest, concurrent_calls, choice)
        digest = digest_model(settings.path)
    except (OSError, ModelError) as e:
        problems.add(str(e))
        return None
    if settings.digest not in (None, digest):
        problems.add(
            f"--model_digest: expected {settings.digest}, got {digest} for {settings.path}. "
            "It was not run"
        )
        return None
    return _spec(settings, settings.path, digest, concurrent_calls)


def _spec(
    settings: ModelSettings,
    path: str,
    digest: str,
    concurrent_calls: int | None,
    choice: Choice | None = None,
) -> ModelSpec:
    return ModelSpec(
        path=os.path.abspath(path),
        digest=digest,
        signature=settings.signature,
        batch_rows=settings.batch_rows,
        concurrent_calls=concurrent_calls,
        op_libraries=settings.op_libraries,
        tags=settings.tags,
        outputs=settings.fit.asked_outputs,
        ragged=settings.fit.ragged,
        batch_timeout_s=settings.batch_timeout_s,
        choice=choice,
    )


def load_signature(
    model: ModelSpec | None, read: SignatureReader, problems: Problems
) -> Signature | None:
    """Return the signature of a model; None, with a problem, if it does not load."""
    if model is None:
        return None
    try:
        with doing(f"loading the model {model.path}"):
            return read(model)
    except (ValueError, OSError) as e:
        problems.add(str(e))
        return None
