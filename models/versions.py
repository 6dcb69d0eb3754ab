"""Identity of a model on disk: the digest of a SavedModel directory."""

from __future__ import annotations

import hashlib
from pathlib import Path

DIGEST_PREFIX = "sha256:"


def is_saved_model(path: str) -> bool:
    """Return whether a directory holds a SavedModel."""
    return any((Path(path) / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt"))


def digest_model(path: str) -> str:
    """Return `sha256:…` over the names and bytes of all files of a SavedModel directory.

    Two directories have the same digest if and only if they hold the same files at the same
    relative paths. File times and modes do not count.

    Raises:
      FileNotFoundError: the directory holds no SavedModel; says what is there instead.
    """
    root = Path(path)
    if not is_saved_model(path):
        raise FileNotFoundError(_describe_missing(root))
    total = hashlib.sha256()
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        with file.open("rb") as f:
            content = hashlib.file_digest(f, "sha256")
        total.update(f"{file.relative_to(root).as_posix()}\0{content.hexdigest()}\n".encode())
    return DIGEST_PREFIX + total.hexdigest()


def _describe_missing(root: Path) -> str:
    expected = f"--model: expected a SavedModel directory (with saved_model.pb), got {root}"
    if not root.exists():
        return f"{expected}, which does not exist"
    if root.is_file():
        return f"{expected}, which is a file. Give the directory"
    below = sorted(p.parent.name for p in root.glob("*/saved_model.pb"))
    if below:
        versions = ", ".join(below)
        return f"{expected}, which holds model versions {versions}. Give one: {root / below[-1]}"
    return f"{expected}, where there is none"
