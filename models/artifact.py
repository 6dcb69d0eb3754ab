"""A model on disk: its format, and its identity, the digest of its files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from scoreline.models.errors import ModelError

SAVED_MODEL, KERAS, LITERT = "SavedModel", "Keras", "LiteRT"
VARIANT = "Variant"
# The file that a variant's folder has: see scoreline.models.runtimes.variant_file.
VARIANT_FILE = "variant.json"
_SUFFIXES = {".keras": KERAS, ".tflite": LITERT}


def model_format_of(path: str) -> str | None:
    """Return the format of the model at a path; None if there is no model."""
    at = Path(path)
    if any((at / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        return SAVED_MODEL
    if (at / VARIANT_FILE).is_file():
        return VARIANT
    return _SUFFIXES.get(at.suffix) if at.is_file() else None


def refuse_empty(path: str) -> None:
    """Raise ModelError if the file of a model has 0 bytes, as after a copy that failed.

    The frameworks report this as a missing argument, a missing file, or a model without graphs.
    """
    at = Path(path)
    names = ("saved_model.pb", VARIANT_FILE)
    file = next((at / name for name in names if (at / name).is_file()), at)
    if file.is_file() and not file.stat().st_size:
        raise ModelError(f"Model {path} does not load: its file {file} is empty. Copy it again")


DIGEST_PREFIX = "sha256:"


def digest_model(path: str) -> str:
    """Return `sha256:…` over the names and bytes of all files of a model.

    Two SavedModel directories have the same digest if and only if they hold the same files at the
    same relative paths. Two model files have the same digest if they have the same bytes. File
    times and modes do not count. Links count as what they lead to, as for the one who loads them.

    Raises:
      FileNotFoundError: there is no model; the message names what is there instead.
      ModelError: links lead in a circle.
    """
    root = Path(path)
    found = model_format_of(path)
    if found is None:
        raise FileNotFoundError(_describe_missing(root))
    if root.is_file():
        return digest_file(root)
    total = hashlib.sha256()
    for file in model_files(path):
        total.update(f"{file.relative_to(root).as_posix()}\0{_hash(file)}\n".encode())
    return DIGEST_PREFIX + total.hexdigest()


def model_files(path: str) -> list[Path]:
    """Return the files of a model, sorted by path; links to folders and files are followed.

    Raises:
      ModelError: links lead in a circle.
    """
    root = Path(path)
    if not root.is_dir():
        return [root]
    return sorted(_walk(root, (os.path.realpath(root),)))


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_file():
            yield entry
        elif entry.is_dir():
            real = os.path.realpath(entry)
            if real in above:
                raise ModelError(
                    f"--model: {entry} is a link to a folder above it. Remove the link"
                )
            yield from _walk(entry, (*above, real))


def digest_file(file: Path) -> str:
    """Return `sha256:…` over the bytes of a file."""
    return DIGEST_PREFIX + _hash(file)


def _hash(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


# What to do with a file that is no model yet, by its suffix.
_OTHER_FILES = {
    ".h5": "an HDF5 file of Keras. Load it with the Keras that wrote it, and save it with "
    "model.export(FOLDER), or as a .keras file with Keras 3",
    ".pb": "a frozen graph. Load it with TensorFlow 1, and save it with "
    "tf.compat.v1.saved_model.Builder",
    ".ckpt": "a checkpoint, which holds weights and no model. Restore it in the code of the model, "
    "and save that with model.export(FOLDER)",
    ".onnx": "a model of ONNX. Score the TensorFlow model that it was converted from",
    ".pt": "a model of PyTorch, which is not TensorFlow",
    ".zip": "an archive. Unpack it, and give the folder with saved_model.pb",
}
_OTHER_FILES |= {
    ".hdf5": _OTHER_FILES[".h5"],
    ".weights": _OTHER_FILES[".ckpt"],
    ".index": _OTHER_FILES[".ckpt"],
    ".pth": _OTHER_FILES[".pt"],
    ".gz": _OTHER_FILES[".zip"],
    ".tgz": _OTHER_FILES[".zip"],
    ".tar": _OTHER_FILES[".zip"],
    ".lite": "a file of LiteRT with another name. Rename it to end in .tflite",
}


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
        what = _OTHER_FILES.get(root.suffix.lower(), "another file")
        return f"{expected}, which is {what}"
    below = [p.name for p in root.iterdir() if model_format_of(str(p))]
    if below:
        versions = sorted(below, key=number_parts)
        return (
            f"{expected}, which holds model versions {', '.join(versions)}. "
            f"Give one: {root / versions[-1]}"
        )
    if (root / "saved_model.cpb").is_file():
        return (
            f"{expected}, which holds saved_model.cpb, a model in parts. Export it without "
            "experimental_image_format"
        )
    if any(root.glob("*.index")) or (root / "checkpoint").is_file():
        return f"{expected}, which holds {_OTHER_FILES['.ckpt']}"
    return f"{expected}, where there is none"


def number_parts(name: str) -> list[tuple[int, str]]:
    """Return the sort key of a name by which the numbers in it count as numbers: 9 before 10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part]
