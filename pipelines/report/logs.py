"""Filters logs for the terminal: our warnings, and errors of libraries.

Tracebacks are not for the terminal. They are held for the log of an error that ends the command.
"""

from __future__ import annotations

import collections
import logging
import os
import threading
import traceback

# Beam warns here about unknown flags, which a custom runner may need.
_BEAM_FLAGS = "apache_beam.options.pipeline_options"
TRACEBACK = "Traceback (most recent call last):"
# The last ones tell why a job failed; each may be long.
_MAX_HELD = 20
_held: collections.deque[str] = collections.deque(maxlen=_MAX_HELD)


def take_held_records() -> list[str]:
    """Return the log records with tracebacks that the terminal did not show, and forget them."""
    taken = list(_held)
    _held.clear()
    return taken


def set_up_logs() -> None:
    """Show our warnings and errors of libraries, each as one readable line.

    Call it before TensorFlow is imported, because its C++ part reads its log level from the
    environment once. Worker processes inherit the level. An existing setting is kept.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    handler = logging.StreamHandler()
    handler.setFormatter(_Readable())
    handler.addFilter(_hold_tracebacks)
    root = logging.getLogger()
    for other in [h for h in root.handlers if type(h) is logging.StreamHandler]:
        root.removeHandler(other)  # a library's, which would print tracebacks
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    for name in ("scoreline", _BEAM_FLAGS):
        logging.getLogger(name).setLevel(logging.WARNING)
    threading.excepthook = _hold_error_of_thread


def _hold_tracebacks(record: logging.LogRecord) -> bool:
    """Filter of the terminal's handler: hold records with a traceback back."""
    has_traceback = bool(record.exc_info) or TRACEBACK in record.getMessage()
    if has_traceback:
        _held.append(logging.Formatter("%(asctime)s %(name)s %(message)s").format(record))
    return not has_traceback


def _hold_error_of_thread(error: threading.ExceptHookArgs) -> None:
    """Hold the error of a library's thread. What it means for the job, the main thread reports."""
    if error.exc_value is not None:
        _held.append("".join(traceback.format_exception(error.exc_value)))


class _Readable(logging.Formatter):
    """Prefixes a line with its library, except for our own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  of logging
        """Return a line without its traceback."""
        library = record.name.partition(".")[0]
        return record.message if library == "scoreline" else f"{library}: {record.message}"
