"""Errors that end a command: foreseen ones in our words, others with a log to report.

A command names its phases with `doing`. An error that no phase foresaw ends in `end_unexpected`:
one sentence on stderr, exit code 1, and the traceback in a file.
"""

from __future__ import annotations

import builtins
import importlib.metadata
import os
import platform
import re
import sys
import tempfile
import traceback
from typing import NamedTuple

from scoreline import __version__
from scoreline.pipelines.doing import phase_of
from scoreline.pipelines.exit_codes import EXIT_FAILED
from scoreline.pipelines.report.logs import TRACEBACK, take_held_records
from scoreline.pipelines.report.reporter import Reporter

_PACKAGE = "scoreline."
_LIBRARIES = ("apache-beam", "tensorflow", "pyarrow", "deltalake", "confluent-kafka")
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_STEP = re.compile(r"\s*\[while running '(?P<step>[^']+)'\]\s*\Z")
# What Beam's local runner says when one of its worker processes is gone.
_LOST_WORKER = re.compile(
    r"Channel closed prematurely|Worker subprocess exited|Data channel closed|Socket closed"
)
# Kafka's client: the code and the sentence of its error.
_OF_KAFKA = re.compile(r'KafkaError\{(?:\w+,)*code=(\w+),val=-?\d+,str="(.+)"\}', re.S)
_MAX_REASON = 2000
_ADVICE = "This is a fault of Scoreline or of a library that it uses. Report it with the log"


class JobError(NamedTuple):
    """The error of a failed job.

    Attributes:
      message: what went wrong; with the error's class if it is not ours.
      step: the label of the Beam step that raised it; "" if it was none.
      is_foreseen: whether the message is in our words, or is that of an unreachable store.
    """

    message: str
    step: str
    is_foreseen: bool


def read_job_error(error: BaseException) -> JobError:
    """Return the first error of a chain.

    Runners hand over the error of a worker as the text of its traceback, so its class is read from
    there.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    module, kind, message = type(error).__module__, type(error).__name__, str(error).strip()
    raised = _STEP.search(message)
    if raised:
        message = message[: raised.start()]
        shown = _last_error(message)
        if shown:
            module, kind, message = shown
    is_foreseen = _is_foreseen(module, kind)
    of_kafka = _OF_KAFKA.fullmatch(message) if kind == "KafkaException" else None
    if of_kafka:
        message = f"Kafka or its client reports: {of_kafka[2]} ({of_kafka[1]})"
        is_foreseen = True
    if not raised and not is_foreseen and _LOST_WORKER.search(message):
        message = f"a worker process died: it was killed, or ran out of memory ({message})"
        return JobError(message, "", is_foreseen=True)
    if not is_foreseen or not message:
        message = f"{kind}: {message}"
    if len(message) > _MAX_REASON:
        message = message[:_MAX_REASON] + " …"
    return JobError(message, raised["step"] if raised else "", is_foreseen)


def _last_error(text: str) -> tuple[str, str, str] | None:
    """Return module, class and message of the error in a traceback or in its last line.

    None if the text is the message of the exception itself.
    """
    lines = text.rpartition(TRACEBACK)[2].splitlines()
    # Frames are indented; the line below them starts with the class.
    start = next((number for number, line in enumerate(lines) if line and line[0] != " "), 0)
    name, _, message = "\n".join(lines[start:]).partition(": ")
    if not _NAME.fullmatch(name):
        return None
    module, _, kind = name.rpartition(".")
    return module or "builtins", kind, message.strip()


def _is_foreseen(module: str, name: str) -> bool:
    if f"{module}.".startswith(_PACKAGE):
        return True
    kind = getattr(builtins, name, None) if module == "builtins" else None
    return isinstance(kind, type) and issubclass(kind, OSError)


def end_failed_job(reporter: Reporter, error: Exception, advice: str) -> int:
    """Report the error of a job; return the exit code.

    Args:
      reporter: the reporter of the command.
      error: the runner's exception.
      advice: how to continue.
    """
    found = read_job_error(error)
    problem = f"The job failed: {found.message}"
    if not found.is_foreseen:
        where = f" in step {found.step}" if found.step else ""
        problem = (
            f"The job failed{where} with an unexpected error: {found.message}. {_ADVICE} "
            f"{_write_log(reporter.kind, error)}"
        )
    return reporter.end(EXIT_FAILED, problems=[problem], advice=advice)


def end_unexpected(reporter: Reporter, error: Exception) -> int:
    """Report an error that no phase of a command foresaw; return the exit code."""
    from scoreline.lake.table.tracebacks import describe_unexpected

    what = phase_of(error)
    sentence = describe_unexpected(error, what)
    path = _write_log(reporter.kind, error)
    problem = f"{sentence[0].upper()}{sentence[1:]}. {_ADVICE} {path}"
    return reporter.end(EXIT_FAILED, problems=[problem])


def _write_log(command: str, error: BaseException) -> str:
    """Write what a maintainer needs; return the path. Flags are without values, maybe secret."""
    flags = [flag.partition("=")[0] for flag in sys.argv[1:] if flag.startswith("--")]
    head = [
        f"scoreline {__version__}, command {command}, flags: {' '.join(flags) or 'none'}",
        f"Python {platform.python_version()} on {platform.platform()}",
        ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES),
    ]
    parts = [*head, "", *traceback.format_exception(error), *take_held_records()]
    handle, path = tempfile.mkstemp(prefix="scoreline-", suffix=".log")
    with os.fdopen(handle, "w") as file:
        file.write("\n".join(part.rstrip("\n") for part in parts) + "\n")
    return path


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
