"""Processes that are forked from one that has imported large libraries, so that they start at once.

    python -m tests.forks SOCKET MODULE…

Beam costs 1.4 s of CPU time to import, TensorFlow 3.5 s, and the tests start hundreds of processes.
A forked process has its own environment, output and signals. It imports this project itself, which
reads its environment then, and it ends like any other process. The libraries start no threads when
they are imported.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NoReturn

_ROOT = Path(__file__).parent.parent
# What `scoreline batch` and `scoreline stream` import, without TensorFlow.
LIBRARIES = (
    "apache_beam",
    "apache_beam.runners.portability.fn_api_runner.fn_runner",
    "confluent_kafka.admin",
    "ai_edge_litert.interpreter",
    "deltalake",
    "google_crc32c",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "rich.progress",
)
_MAX_REQUEST_BYTES = 200_000


class Fork:
    """A forked process, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, status: IO[str], stdout: IO[str], stderr: IO[str]) -> None:
        """Take over a process, the pipe that tells how it ended, and the files of its output."""
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._files = (stdout, stderr)

    def poll(self) -> int | None:
        """Return the exit code, or minus the signal that ended it; None if the process runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
          subprocess.TimeoutExpired: the process still runs.
        """
        if self.returncode is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        code = self.poll()
        assert code is not None
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, and return and close what it wrote into its files."""
        self.wait(timeout)
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read())
            file.close()
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless the process has ended."""
        self.send_signal(signal.SIGKILL)


def fork(
    module: str,
    *args: object,
    environment: Mapping[str, str],
    stdout: IO[str] | None = None,
    stderr: IO[str] | None = None,
    libraries: tuple[str, ...] = LIBRARIES,
) -> Fork:
    """Run `python -m module …` in the folder of the project, forked from an importing process.

    Output goes to the given files or to temporary ones: nothing reads a pipe during the run, and a
    full one would block.
    """
    stdout = stdout or tempfile.TemporaryFile("w+")  # noqa: SIM115
    stderr = stderr or tempfile.TemporaryFile("w+")  # noqa: SIM115
    server = _server(libraries)
    ours, theirs = os.pipe()
    request = {"module": module, "args": [str(a) for a in args], "environment": dict(environment)}
    try:
        descriptors = [stdout.fileno(), stderr.fileno(), theirs]
        socket.send_fds(server, [json.dumps(request).encode()], descriptors)
    finally:
        os.close(theirs)
    status = os.fdopen(ours)
    return Fork(int(status.readline()), status, stdout, stderr)


@functools.cache
def _server(libraries: tuple[str, ...]) -> socket.socket:
    """Start a server; it ends when the returned socket closes, at the latest with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.forks", str(theirs.fileno()), *libraries],
            cwd=_ROOT,
            env={"PYTHONPATH": str(_ROOT), "PATH": os.environ["PATH"], "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )

    def stop() -> None:
        ours.close()
        server.wait()

    atexit.register(stop)
    return ours


def serve(requests: socket.socket) -> None:
    """Fork a process for each request until the other end of the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    gc.freeze()  # so that the forks share the memory of the libraries
    while True:
        content, descriptors, *_ = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 3)
        if not content:
            return
        if os.fork() == 0:
            requests.close()
            _keep(json.loads(content), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(request: dict[str, object], out: int, err: int, status: int) -> None:
    """Fork the process. Here, wait for its end and tell it; in the fork, run the module."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _run(request, out, err)
    os.write(status, f"{pid}\n".encode())
    _, ended = os.waitpid(pid, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def _run(request: dict[str, object], out: int, err: int) -> NoReturn:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    gc.unfreeze()
    sys.argv[1:] = request["args"]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    for library in sys.argv[2:]:
        importlib.import_module(library)
    assert "scoreline" not in sys.modules
    serve(socket.socket(fileno=int(sys.argv[1])))
