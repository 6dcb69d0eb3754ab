"""Errors that end a stream, because a restart of its workers alone cannot continue.

A runner passes on the text of a worker's error, and not always its type. So the type is found in
the text.
"""

from __future__ import annotations

import re

# The name of the class and its sentence, up to what Beam adds: the step, or a traceback.
_IN_TEXT = re.compile(
    r"\b(StreamEnds|StreamRefused): (.+?)(?= \[while running | with exceptions|\\n|\n|$)"
)
_STEP = re.compile(r" \[while running '[^']*'\]$")


class StreamEnds(RuntimeError):
    """The job must end. The command, started again, may continue: exit code 1."""


class StreamRefused(StreamEnds):
    """The job must end, and a user must correct the cause: exit code 2."""


def find_ending(error: BaseException | str) -> StreamEnds | None:
    """Return the error of a worker that ended a job, from the runner's error; None for others."""
    while isinstance(error, BaseException) and not isinstance(error, StreamEnds):
        found = _IN_TEXT.search(str(error))
        if found:
            return _make(found)
        if error.__cause__ is None:
            return None
        error = error.__cause__
    if isinstance(error, StreamEnds):  # Beam raises the same type, and adds the step to the text
        return type(error)(_STEP.sub("", str(error)))
    found = _IN_TEXT.search(error)
    return _make(found) if found else None


def _make(found: re.Match[str]) -> StreamEnds:
    kind = StreamRefused if found[1] == StreamRefused.__name__ else StreamEnds
    return kind(found[2].strip())
