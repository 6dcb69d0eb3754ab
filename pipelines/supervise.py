"""A command that runs in a process of its own and is started again when it fails."""

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
# Who ran for so long had a new cause to fail, and starts with a short wait again.
_STEADY_SECONDS = 60.0
# Names the file by which a process tells its supervisor that it has begun.
_BEGUN_FILE = "SCORELINE_BEGUN_FILE"


class Pause(NamedTuple):
    """How long to wait before the next start, and how many failures in a row there were."""

    seconds: float
    failures: int


def next_pause(failures: int, ran_seconds: float) -> Pause:
    """Return the pause after one more failure: 1, 2, 4 … 60 s; from 1 s again after a steady run.

    Args:
      failures: how many there were in a row before.
      ran_seconds: how long the process ran until it failed.
    """
    failures = 1 if ran_seconds >= _STEADY_SECONDS else failures + 1
    return Pause(min(_MAX_WAIT_SECONDS, 2.0 ** (failures - 1)), failures)


def is_failure(exit_code: int) -> bool:
    """Return whether a process died or failed in a way that another start may mend.

    Wrong options (2) stay wrong; 0 and 3 are ends, and so is being stopped (130).
    """
    return exit_code == EXIT_FAILED or exit_code < 0


def supervise(
    first: Sequence[str], again: Sequence[str], say: Callable[[str], None], command: Sequence[str]
) -> int:
    """Run `python -m command` until it ends otherwise than by a failure; return its exit code.

    SIGTERM, SIGINT and SIGHUP are passed on as SIGTERM, and the process is then not started again.
    If the supervisor is killed, the process that called `end_with_supervisor` ends in order.

    Args:
      first: its arguments until it has called `tell_begun`.
      again: its arguments whenever it is started again after that.
      say: is told why and when it is started again.
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
            # Its own group, so that Ctrl-C reaches it once only: through us.
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
            say(f"The job ended with {how}; it is started again in {pause.seconds:.0f} s")
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
    """Return what ends the supervisor; under nohup, not the end of its terminal."""
    hears_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hears_terminal else [])]


def tell_begun() -> None:
    """Tell the supervisor, if there is one, that what is to be done once only is done."""
    if _BEGUN_FILE in os.environ:
        Path(os.environ[_BEGUN_FILE]).touch()


def end_with_supervisor() -> None:
    """End this process, as SIGTERM does, when its supervisor is gone; without one, do nothing.

    Whoever starts the command again would have two jobs otherwise, which both score all records.
    """
    if _BEGUN_FILE in os.environ:
        threading.Thread(target=_wait_for_its_end, daemon=True).start()


def _wait_for_its_end() -> None:
    os.read(0, 1)  # nothing ever comes: the pipe ends with the supervisor
    os.kill(os.getpid(), signal.SIGTERM)
