"""Errors that nobody foresaw: one sentence for the user, and the traceback in a file of the table.

A step puts both into the reason of its failure. The step that stages or commits, which knows the
table, puts the traceback away: every worker of every runner can reach the table's folder.
"""

from __future__ import annotations

import hashlib
import traceback
from types import TracebackType

from scoreline.lake.storage import resolve, write_whole
from scoreline.lake.table.layout import tracebacks_folder

_PACKAGE = "scoreline."
_BEGIN = "\nTraceback (most recent call last):\n"


def explain_unexpected(error: BaseException, doing: str) -> str:
    """Return the sentence of `describe_unexpected`, and below it the traceback."""
    trace = "".join(traceback.format_exception(error))
    return f"{describe_unexpected(error, doing)}\n{trace}"


def describe_unexpected(error: BaseException, doing: str) -> str:
    """Return one sentence: what was being done, where in our code, and the error.

    Args:
      error: the error, with its traceback.
      doing: what was being done, as in `writing scores`.
    """
    message = str(error).strip().partition("\n")[0]
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = _place(error.__traceback__)
    where = f" ({place})" if place else ""
    return f"unexpected error while {doing}{where}: {what}"


def put_traceback_away(reason: str, output: str) -> str:
    """Return a reason without its traceback, which goes to a file that the reason then names.

    A reason without a traceback is returned unchanged. The file's name is a digest of its content,
    so a retried bundle writes the same file. If it cannot be written, the reason says why.

    Args:
      reason: the reason of a failure.
      output: the table whose folder takes the file.
    """
    sentence, begin, _ = reason.partition(_BEGIN)
    if not begin:
        return reason
    content = reason.encode()
    try:
        file_system, root = resolve(output)
        path = f"{tracebacks_folder(root)}/{hashlib.sha256(content).hexdigest()[:12]}.txt"
        write_whole(file_system, path, content)
    except Exception as e:  # noqa: BLE001  the store may be the cause: the reason must come out
        return f"{sentence}. Its traceback could not be kept: {type(e).__name__}: {e}"
    return f"{sentence}. Report it with its traceback, {path}"


def _place(at: TracebackType | None) -> str:
    """Return the last place of a traceback in this package, as in `lake.storage:42`; "" if none."""
    place = ""
    while at is not None:
        module = at.tb_frame.f_globals.get("__name__", "")
        if module.startswith(_PACKAGE):
            place = f"{module.removeprefix(_PACKAGE)}:{at.tb_lineno}"
        at = at.tb_next
    return place
