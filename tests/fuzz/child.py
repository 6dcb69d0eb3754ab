"""The process that reads damaged files: started again when it crashes or hangs."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
from typing import Any

from tests.fakes import ROOT

# Far more than any file of the tests takes, also on a busy machine.
_HANGS_AFTER_S = 60.0


class Child:
    """A process that reads one dataset after the other."""

    def __init__(self) -> None:
        """Start the process."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  open as long as this
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.reader_process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)

    def read(self, **request: object) -> list[Any]:
        """Return the answer, or `crash` or `hang` with what is known about it."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        if not self._selector.select(_HANGS_AFTER_S):
            self._process.kill()
            self._restart()
            return ["hang", f"no answer in {_HANGS_AFTER_S} s"]
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read()[-2000:].decode(errors="replace")
        self._restart()
        return ["crash", f"exit code {code}: {last}"]

    def _restart(self) -> None:
        self._end()
        self._start()

    def close(self) -> None:
        """End the process."""
        self._end()
        self._errors.close()

    def _end(self) -> None:
        self._selector.close()
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
