"""Processes of a load test: started with a folder, ended with the driver, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

_END_S = 60.0
_TAIL_BYTES = 4000
_OF_TRACEBACK = ("Traceback (most recent call last):", "  ")


class ChildEnded(RuntimeError):
    """A process of a load test ended before its time. The message ends with its last words."""


class Child:
    """A process that runs a module of the driver on a folder, and writes its output to a log."""

    def __init__(self, module: str, folder: Path, name: str) -> None:
        """Start it.

        Args:
          module: module in `scoreline.pipelines.load_test.driver`.
          folder: its folder.
          name: what it is, for messages.
        """
        self.name = name
        self._log = folder / f"{module}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"scoreline.pipelines.load_test.driver.{module}", folder],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the driver, which ends the others in order
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether it still runs."""
        return self._process.poll() is None

    def require_running(self) -> None:
        """Raise unless it runs.

        Raises:
          ChildEnded: it ended.
        """
        code = self._process.poll()
        if code is not None:
            raise ChildEnded(f"{self.name} ended with exit code {code}: {self.last_words()}")

    def wait_and_measure(self, seconds: float) -> tuple[int, float]:
        """Wait for its end; return its exit code, and the CPU seconds of it and its children.

        Raises:
          ChildEnded: it still runs after that time, and is killed.
        """
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(self._process.pid, 0)
        finally:
            timer.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode == -signal.SIGKILL:
            raise ChildEnded(f"{self.name} was killed, or did not end within {seconds:.0f} s")
        return self._process.returncode, usage.ru_utime + usage.ru_stime

    def wait(self, seconds: float) -> int:
        """Wait for its end, and return its exit code.

        Raises:
          ChildEnded: it still runs after that time.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired as e:
            raise ChildEnded(f"{self.name} did not end within {seconds:.0f} s") from e

    def last_words(self) -> str:
        """Return the end of its log, of a traceback only the exception."""
        text = self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        lines = [line for line in text.split("\n") if not line.startswith(_OF_TRACEBACK)]
        return "\n".join(lines) or "it printed nothing"

    def end(self) -> int:
        """Stop it in order, and kill it if that does not help; return its exit code."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self.is_running():
            self._process.terminate()
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait()


def end_with_driver() -> None:
    """In a child: stop this process, as SIGTERM does, when the driver has ended."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end-with-driver").start()
