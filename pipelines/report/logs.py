"""What of the libraries' logs reaches the terminal: errors, and warnings that are ours."""

from __future__ import annotations

import logging
import os

# Beam warns here of flags that it does not know, which a runner of its own may need.
_BEAM_FLAGS = "apache_beam.options.pipeline_options"


def set_up_logs() -> None:
    """Let warnings of ours and errors of others through, each as one readable line.

    Called before TensorFlow is imported, whose C++ part reads its level from the environment once;
    workers in processes of their own inherit it. What the environment sets already stays.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    handler = logging.StreamHandler()
    handler.setFormatter(_Readable())
    logging.basicConfig(level=logging.ERROR, handlers=[handler])
    for name in ("scoreline", _BEAM_FLAGS):
        logging.getLogger(name).setLevel(logging.WARNING)


class _Readable(logging.Formatter):
    """Names the library that logs, and nothing for a line of ours."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  of logging
        """Return a line without its traceback."""
        library = record.name.partition(".")[0]
        return record.message if library == "scoreline" else f"{library}: {record.message}"
