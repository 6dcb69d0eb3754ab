"""Runs a command in a separate process, and restarts it if it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from scoreline.pipelines.exit_codes import EXIT_FAILED

_MAX_WAIT_SECONDS = 60.0
# After a run of this length, a failure has a new cause, so the next wait is short again.
_STEADY_SECONDS = 60.0
# Environment variable with the file that a process creates after its start.
_BEGUN_FILE = "SCORELINE_BEGUN_FILE"


class Pause(NamedTuple):
    """Time to wait before the next start, and the number of failures in a row."""

    seconds: float
    failures: int


def next_pause(failures: int, ran_seconds: float) -> Pause:
    """Return the pause after one more failure: 1, 2, 4 … 60 s; 1 s again after a long run.

    Args:
      failures: the number of failures in a row before.
      ran_seconds: time from the start of the process to its failure.
    """
    failures = 1 if ran_seconds >= _STEADY_SECONDS else failures + 1
    return Pause(min(_MAX_WAIT_SECONDS, 2.0 ** (failures - 1)), failures)


def is_failure(exit_code: int) -> bool:
    """Return whether a process died, or failed in a way that a restart may fix.

    Wrong options (2) stay wrong. 0, 3 and a stop by the user (130) are final.
    """
    return exit_code == EXIT_FAILED or exit_code < 0


def supervise(
    first: Sequence[str], again: Sequence[str], say: Callable[[str], None], command: Sequence[str]
) -> int:
    """Run `python -m command` until it ends without a failure; return its exit code.

    SIGTERM, SIGINT and SIGHUP are passed on as SIGTERM. After them, the process is not restarted.
    If the supervisor is killed, a process that has called `end_with_supervisor` stops cleanly.

    Args:
      first: its arguments until it has called `tell_begun`.
      again: its arguments for restarts after that.
      say: called with the reason and the time of each restart.
      command: the module to run, and its first arguments.
    """
    stopped: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        for process in running:
            process.send_signal(signal.SIGTERM)

    before = {name: signal.signal(name, pass_on) for name in _signals()}
    pause = Pause(0, 0)
    folder = tempfile.TemporaryDirectory()
    begun = Path(folder.name, "begun")
    try:
        while True:
            began = time.monotonic()
            # A new session, so that Ctrl-C reaches it only once, through this process.
            process = subprocess.Popen(
                [sys.executable, "-m", *command, *(again if begun.exists() else first)],
                stdin=subprocess.PIPE,
                env={**os.environ, _BEGUN_FILE: str(begun)},
                start_new_session=True,
            )
            running[:] = [process]
            if stopped:
                process.send_signal(signal.SIGTERM)
            code = process.wait()
            process.communicate()  # closes the pipe
            if stopped or not is_failure(code):
                return code
            pause = next_pause(pause.failures, time.monotonic() - began)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            say(f"The job ended with {how}; restarting in {pause.seconds:.0f} s")
            deadline = time.monotonic() + pause.seconds
            while time.monotonic() < deadline and not stopped:
                time.sleep(0.1)
            if stopped:
                return code
    finally:
        folder.cleanup()
        for name, handler in before.items():
            signal.signal(name, handler)


def _signals() -> list[signal.Signals]:
    """Return the signals that end the supervisor, without SIGHUP under nohup."""
    hears_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hears_terminal else [])]


def tell_begun() -> None:
    """Notify the supervisor, if any, that the one-time steps are done."""
    if _BEGUN_FILE in os.environ:
        Path(os.environ[_BEGUN_FILE]).touch()


def end_with_supervisor() -> None:
    """Stop this process cleanly if its supervisor ends. Without a supervisor, do nothing.

    Otherwise, after a restart of the command, two jobs would score the same records.
    """
    if _BEGUN_FILE in os.environ:
        threading.Thread(target=_wait_for_its_end, daemon=True).start()


def _wait_for_its_end() -> None:
    os.read(0, 1)  # nothing is ever written; the pipe closes with the supervisor
    os.kill(os.getpid(), signal.SIGTERM)
