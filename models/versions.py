"""A folder of numbered model versions, as in TensorFlow Serving, and which one serves.

    /models/churn/7/saved_model.pb …    a version: also 7.keras or 7.tflite
    /models/churn/SERVING               optional: one line with the name of a version, `6`
    /models/churn/8.refused             by a job that did not swap to 8: its digest, and why

The version that SERVING names serves. Without that file, the highest version that was not refused
serves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from scoreline.models.artifact import digest_model, model_files, model_format_of

SERVING_FILE = "SERVING"
_NAME = re.compile(r"(\d+)(\.keras|\.tflite)?", re.ASCII)

# Relative path, size and modification time of each file.
Fingerprint = tuple[tuple[str, int, int], ...]


class Version(NamedTuple):
    """A model version in a folder: its name there, its number and path.

    `is_named` is true if the file SERVING names it: a person decided that it serves.
    """

    name: str
    number: int
    path: str
    is_named: bool = False


def version_at(path: str) -> Version:
    """Return the version at a path whose last part is the version's name.

    Raises:
      ValueError: the last part is not the name of a version.
    """
    name = os.path.basename(path)
    found = _NAME.fullmatch(name)
    if not found:
        raise ValueError(f"Expected a number, or one with .keras or .tflite behind it, got {name}")
    return Version(name, int(found[1]), path)


def find_versions(folder: str) -> list[Version]:
    """Return the versions in a folder that hold a model, newest first.

    Raises:
      OSError: the folder cannot be read.
    """
    paths = [os.path.join(folder, name) for name in os.listdir(folder) if _NAME.fullmatch(name)]
    found = [version_at(path) for path in paths if model_format_of(path)]
    return sorted(found, key=lambda version: (version.number, version.name), reverse=True)


def is_marked_refused(version: Version, digest_of: Callable[[str], str] = digest_model) -> bool:
    """Return whether a job has refused a version whose files have not changed since.

    The digest is computed only if there is a mark.
    """
    try:
        with open(_mark_of(version), encoding="utf-8") as f:
            digest = f.readline().strip()
    except OSError:
        return False
    return digest == digest_of(version.path)


def choose_version(
    folder: str, is_refused: Callable[[Version], bool] = is_marked_refused
) -> Version:
    """Return the version that serves: the one that SERVING names, else the highest.

    Args:
      folder: of the versions.
      is_refused: whether to skip a version that SERVING does not name.

    Raises:
      FileNotFoundError: there is no version, or not the named one; the message lists what is there.
    """
    if model_format_of(folder) or not os.path.isdir(folder):
        what = "a model itself" if model_format_of(folder) else "no directory"
        raise FileNotFoundError(
            f"{folder}: expected a directory of model versions 1, 2, …, got {what}"
        )
    versions = find_versions(folder)
    names = ", ".join(version.name for version in reversed(versions)) or "none"
    try:
        named = Path(folder, SERVING_FILE).read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        for version in versions:
            if not is_refused(version):
                return version
        if versions:
            raise FileNotFoundError(
                f"{folder}: every version ({names}) is marked as refused. Read why in "
                f"{_mark_of(versions[0])}; remove it, or name a version in {SERVING_FILE}"
            ) from None
        raise FileNotFoundError(
            f"{folder}: expected model versions 1, 2, … (SavedModel directories, or 1.keras, "
            "1.tflite), found none"
        ) from None
    for version in versions:
        if version.name == named:
            return version._replace(is_named=True)
    raise FileNotFoundError(
        f"{Path(folder, SERVING_FILE)}: expected the name of a version there is ({names}), got "
        f"'{named}'"
    )


def fingerprint_of(path: str) -> Fingerprint:
    """Return names, sizes and times of a model's files: they change while it is copied.

    Raises:
      OSError: a file disappeared meanwhile.
    """
    root = Path(path)
    stats = [(file, file.stat()) for file in model_files(path)]
    return tuple((str(f.relative_to(root)), s.st_size, s.st_mtime_ns) for f, s in stats)


def mark_refused(version: Version, digest: str, reason: str) -> None:
    """Mark a version as refused, for later jobs and for people: a file beside it with the reason.

    Raises:
      OSError: the folder cannot be written to.
    """
    mark = _mark_of(version)
    partial = f"{mark}.{os.getpid()}"
    try:
        Path(partial).write_text(f"{digest}\n{reason}\n", "utf-8")
        os.replace(partial, mark)
    except OSError:
        Path(partial).unlink(missing_ok=True)
        raise


def remove_mark(version: Version) -> None:
    """Remove the mark that a version was refused.

    Raises:
      OSError: the folder cannot be written to.
    """
    Path(_mark_of(version)).unlink(missing_ok=True)


def _mark_of(version: Version) -> str:
    return f"{version.path}.refused"
