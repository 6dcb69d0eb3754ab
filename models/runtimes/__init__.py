"""Load a model by the runtime of its format; a framework is imported when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scoreline.models.runtimes.model import Model
from scoreline.models.artifact import KERAS, LITERT, model_format_of
from scoreline.models.errors import ModelError

NO_TAGS = "--tags: expected a SavedModel, which has tags, got {path}. Leave them out"


def load_model(
    path: str,
    signature_name: str,
    concurrent_calls: int | None = None,
    op_libraries: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> Model:
    """Load a signature of the model at a path; only its own framework is imported.

    Raises:
      ModelError: it does not load, or has no such signature or tags.
    """
    found = model_format_of(path)
    if tags and found in (LITERT, KERAS):
        raise ModelError(NO_TAGS.format(path=path))
    if found == LITERT:
        from scoreline.models.runtimes.litert import load_litert

        return load_litert(path, signature_name, op_libraries)
    if found == KERAS:
        from scoreline.models.runtimes.keras_file import load_keras

        return load_keras(path, signature_name, concurrent_calls, op_libraries)
    from scoreline.models.runtimes.saved_model import load_saved_model

    return load_saved_model(path, signature_name, concurrent_calls, op_libraries, tags)
