"""Model formats: which one a path holds, and the module that loads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.servable import Model

SAVED_MODEL, KERAS, LITERT = "SavedModel", "Keras", "LiteRT"
DEFAULT_SIGNATURE = "serving_default"
_SUFFIXES = {".keras": KERAS, ".tflite": LITERT}


def format_of(path: str) -> str | None:
    """Return the format of the model at a path; None when there is none."""
    at = Path(path)
    if any((at / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        return SAVED_MODEL
    return _SUFFIXES.get(at.suffix) if at.is_file() else None


def load_model(
    path: str,
    signature_name: str,
    concurrent_calls: int | None = None,
    op_libraries: Sequence[str] = (),
) -> Model:
    """Load a signature of the model at a path; only its own framework is imported.

    Raises:
      ModelError: it does not load, or has no such signature.
    """
    found = format_of(path)
    if found == LITERT:
        from models.litert import load_litert

        return load_litert(path, signature_name, op_libraries)
    if found == KERAS:
        from models.keras_file import load_keras

        return load_keras(path, signature_name, concurrent_calls, op_libraries)
    from models.saved_model import load_saved_model

    return load_saved_model(path, signature_name, concurrent_calls, op_libraries)
