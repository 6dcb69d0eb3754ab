"""The error of a model that cannot be used, and how errors of foreign code are quoted."""

from __future__ import annotations


class ModelError(ValueError):
    """A model that cannot be loaded or called; the message says why and what to do."""


class CallFails(ModelError):
    """A model that loads, but fails on its first call, and not because of the inputs."""


class ImpureModel(ModelError):
    """A model whose score of a row depends on more than the row: docs/models.md."""


def first_lines(error: BaseException, limit: int = 500) -> str:
    """Return the first lines of an error's message: TensorFlow appends a dump of the graph."""
    text = str(error).strip()
    return text if len(text) <= limit else text[:limit] + " …"


def describe_error(error: BaseException) -> str:
    """Return the class of an error and the first lines of its message, as in dead letters.

    An error from another process carries its own `description`.
    """
    description = getattr(error, "description", None)
    return description or f"{type(error).__name__}: {first_lines(error)}"
