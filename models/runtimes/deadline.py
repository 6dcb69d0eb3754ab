"""The time by which calls of a model must have ended, for runtimes that can end a call."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator

from scoreline.models.runtimes.capi.errors import TensorFlowError

_end: contextvars.ContextVar[float | None] = contextvars.ContextVar("end", default=None)


@contextlib.contextmanager
def limit_calls(seconds: float | None) -> Iterator[None]:
    """Give all calls in a `with` block together some seconds; None for no limit.

    TensorFlow's C API ends a call that is in a loop. Nothing ends a single op, and other runtimes
    heed no limit.
    """
    token = _end.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def left_ms() -> int | None:
    """Return the milliseconds that are left for a call, at least 1; None without a limit."""
    end = _end.get()
    return None if end is None else max(1, round((end - time.monotonic()) * 1000))


def is_late(error: Exception) -> bool:
    """Return whether a call failed because its time was over."""
    end = _end.get()
    is_about_time = isinstance(error, TensorFlowError) and error.code == "DEADLINE_EXCEEDED"
    return is_about_time and end is not None and time.monotonic() >= end
