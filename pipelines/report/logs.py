"""Filters logs for the terminal: our warnings, and errors of libraries."""

from __future__ import annotations

import logging
import os

# Beam warns here about unknown flags, which a custom runner may need.
_BEAM_FLAGS = "apache_beam.options.pipeline_options"


def set_up_logs() -> None:
    """Show our warnings and errors of libraries, each as one readable line.

    Call it before TensorFlow is imported, because its C++ part reads its log level from the
    environment once. Worker processes inherit the level. An existing setting is kept.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    handler = logging.StreamHandler()
    handler.setFormatter(_Readable())
    logging.basicConfig(level=logging.ERROR, handlers=[handler])
    for name in ("scoreline", _BEAM_FLAGS):
        logging.getLogger(name).setLevel(logging.WARNING)


class _Readable(logging.Formatter):
    """Prefixes a line with its library, except for our own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  of logging
        """Return a line without its traceback."""
        library = record.name.partition(".")[0]
        return record.message if library == "scoreline" else f"{library}: {record.message}"
