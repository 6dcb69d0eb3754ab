"""A model on disk: its format, and its identity, the digest of its files."""

from __future__ import annotations

import hashlib
from pathlib import Path

SAVED_MODEL, KERAS, LITERT = "SavedModel", "Keras", "LiteRT"
_SUFFIXES = {".keras": KERAS, ".tflite": LITERT}


def model_format_of(path: str) -> str | None:
    """Return the format of the model at a path; None if there is no model."""
    at = Path(path)
    if any((at / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        return SAVED_MODEL
    return _SUFFIXES.get(at.suffix) if at.is_file() else None


DIGEST_PREFIX = "sha256:"


def digest_model(path: str) -> str:
    """Return `sha256:…` over the names and bytes of all files of a model.

    Two SavedModel directories have the same digest if and only if they hold the same files at the
    same relative paths. Two model files have the same digest if they have the same bytes. File
    times and modes do not count.

    Raises:
      FileNotFoundError: there is no model; the message names what is there instead.
    """
    root = Path(path)
    found = model_format_of(path)
    if found is None:
        raise FileNotFoundError(_describe_missing(root))
    if root.is_file():
        return DIGEST_PREFIX + _digest_file(root)
    total = hashlib.sha256()
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        total.update(f"{file.relative_to(root).as_posix()}\0{_digest_file(file)}\n".encode())
    return DIGEST_PREFIX + total.hexdigest()


def _digest_file(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _describe_missing(root: Path) -> str:
    expected = (
        "--model: expected a SavedModel directory (with saved_model.pb), a .keras or a .tflite "
        f"file, got {root}"
    )
    if not root.exists():
        return f"{expected}, which does not exist"
    if root.is_file():
        if root.name in ("saved_model.pb", "saved_model.pbtxt"):
            return f"{expected}. Give its directory: {root.parent}"
        return f"{expected}, which is another file"
    below = sorted(p.parent.name for p in root.glob("*/saved_model.pb"))
    if below:
        versions = ", ".join(below)
        return f"{expected}, which holds model versions {versions}. Give one: {root / below[-1]}"
    return f"{expected}, where there is none"
