"""Load a model by the runtime of its format; a framework is imported when it is needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from scoreline.models.runtimes.model import Model
from scoreline.models.artifact import KERAS, LITERT, VARIANT, model_format_of, refuse_empty
from scoreline.models.errors import CallFails, ModelError, describe_error
from scoreline.models.signature import DEFAULT_SIGNATURE

_LOG = logging.getLogger(__name__)

NO_TAGS = "--tags: expected a SavedModel, which has tags, got {path}. Leave them out"
RUNTIME_VARIABLE = "SCORELINE_RUNTIME"
_C, _PYTHON = "c", "python"

Tried = TypeVar("Tried")


class ModelSource(NamedTuple):
    """A model, and how it is loaded.

    Attributes:
      path: a SavedModel directory, a `.keras` or a `.tflite` file, or the folder of a variant.
      signature_name: the signature's key.
      concurrent_calls: number of parallel calls in this process; None for the framework's setting.
      op_libraries: shared libraries with custom ops.
      tags: of a SavedModel's MetaGraph; () for the only one, or the one for serving.
    """

    path: str
    signature_name: str
    concurrent_calls: int | None = None
    op_libraries: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def load_and_try(source: ModelSource, try_model: Callable[[Model], Tried]) -> Tried:
    """Load a model by the first runtime that can call it, and return the result of a first call.

    A SavedModel is called by TensorFlow's C API, without Python TensorFlow. If that cannot load it,
    or a first call fails, and not because of the inputs, Python TensorFlow gets its turn. If it
    fails too, its error is the one that is raised. `SCORELINE_RUNTIME` names one of both, `c` or
    `python`: then there is no other.

    Args:
      source: the model.
      try_model: makes the first calls; raises CallFails if another runtime may do better.

    Raises:
      ModelError: it does not load or answer, or has no such signature or tags.
    """
    refuse_empty(source.path)
    found = model_format_of(source.path)
    if source.tags and found in (LITERT, KERAS, VARIANT):
        raise ModelError(NO_TAGS.format(path=source.path))
    if found == LITERT:
        from scoreline.models.runtimes.litert import load_litert

        return try_model(load_litert(source.path, source.signature_name, source.op_libraries))
    if found == KERAS:
        from scoreline.models.runtimes.keras_file import load_keras

        return try_model(load_keras(*source[:4]))
    if found == VARIANT:
        from scoreline.models.runtimes.variant import load_variant

        def load_front(path: str) -> Model:
            front = source._replace(path=path, signature_name=DEFAULT_SIGNATURE)
            return _load_saved_model(front, lambda model: model)

        return try_model(load_variant(*source[:2], source.op_libraries, load_front))
    return _load_saved_model(source, try_model)


def _load_saved_model(source: ModelSource, try_model: Callable[[Model], Tried]) -> Tried:
    wanted = _read_wanted()
    if wanted == _PYTHON:
        return _by_python(source, try_model, "")
    from scoreline.models.runtimes.tensorflow_c import CannotLoad, load_by_c

    try:
        model = load_by_c(source)
    except CannotLoad as e:
        if wanted == _C:
            raise
        return _by_python(source, try_model, e.reason)
    try:
        return try_model(model)
    except CallFails as e:
        if wanted == _C:
            raise
        reason = describe_error(e.__cause__ or e)
    model.close()
    return _by_python(source, try_model, reason)


def _by_python(source: ModelSource, try_model: Callable[[Model], Tried], why: str) -> Tried:
    from scoreline.models.runtimes.saved_model import load_saved_model

    model = load_saved_model(*source, fallback=" ".join(why.split()))
    tried = try_model(model)
    if why:
        _LOG.info("Model %s is called by %s", source.path, model.runtime)
    return tried


def _read_wanted() -> str:
    """Return the runtime for SavedModels that the environment names; "" if it names none.

    Raises:
      ModelError: there is no such runtime.
    """
    wanted = os.environ.get(RUNTIME_VARIABLE, "")
    if wanted not in ("", _C, _PYTHON):
        raise ModelError(
            f"{RUNTIME_VARIABLE}: expected {_C} (TensorFlow's C API) or {_PYTHON} (Python "
            f"TensorFlow), got '{wanted}'. Without it, the C API is taken, and Python TensorFlow "
            "where that cannot call a model"
        )
    return wanted
