"""The phases of a command: what was being done when an unforeseen error came."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_ATTRIBUTE = "_scoreline_phase"


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Name a phase: an error that leaves the with block unforeseen is reported with it.

    Args:
      what: as in `loading the model /models/churn/7`. The innermost phase wins.
    """
    try:
        yield
    except Exception as e:
        if not hasattr(e, _ATTRIBUTE):
            setattr(e, _ATTRIBUTE, what)
        raise


def phase_of(error: Exception) -> str:
    """Return the innermost phase that an error has left."""
    phase: str = getattr(error, _ATTRIBUTE, "running the command")
    return phase
