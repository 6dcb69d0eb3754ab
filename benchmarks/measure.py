"""CPU time, wall time and peak memory of a command with all its child processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

_POLL_SECONDS = 0.05
# Listing all processes takes milliseconds, so new children are searched less often.
_POLLS_PER_LISTING = 5
_TIMEOUT_SECONDS = 3600
_LOG_TAIL = 4000


class Usage(NamedTuple):
    """The cost of one run.

    Attributes:
      cpu_s: user and system time of the process and of its descendants.
      wall_s: time from its start to its end.
      peak_rss_mb: peak of the total memory of its process tree, in MB (10^6 bytes).
    """

    cpu_s: float
    wall_s: float
    peak_rss_mb: float


class RunFailed(RuntimeError):
    """A measured command failed. The message ends with the end of its log."""


def measure(command: Sequence[str], log: Path) -> Usage:
    """Run a command to its end and return its cost.

    CPU time is the kernel's count (`wait4`) and includes every descendant that was waited for.
    Memory is the sum of resident sizes over the process tree, sampled every 50 ms. Shared pages
    count once per process. The peak of the first process is exact, because the kernel records it.

    Args:
      command: the program and its arguments; it runs without a terminal.
      log: the file for its output.

    Raises:
      RunFailed: its exit code is not 0, or it took longer than an hour.
    """
    with log.open("wb") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        )
        watcher = _MemoryWatcher(process.pid)
        watcher.start()
        timer = threading.Timer(_TIMEOUT_SECONDS, process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
            watcher.stop()
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text(errors="replace")[-_LOG_TAIL:]
        raise RunFailed(f"{' '.join(command)} exited with {process.returncode}:\n{tail}")
    return Usage(usage.ru_utime + usage.ru_stime, wall, watcher.peak_bytes / 1e6)


class _MemoryWatcher(threading.Thread):
    """Samples the memory of a process and its descendants until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._stopped = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        tree = [self._root]
        polls = 0
        while not self._stopped.wait(_POLL_SECONDS):
            if polls % _POLLS_PER_LISTING == 0:
                tree = self._list_tree()
            polls += 1
            total = sum(_resident_bytes(process) for process in tree)
            self.peak_bytes = max(self.peak_bytes, total, _peak_bytes(self._root.pid))

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _list_tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return [self._root]


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _peak_bytes(pid: int) -> int:
    """Return the peak resident size of a process since it started this program; 0 if unknown.

    `ru_maxrss` cannot be used: it includes the size of the parent before the start.
    """
    if not sys.platform.startswith("linux"):
        return 0
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    _, found, rest = status.partition("VmHWM:")
    return int(rest.split(maxsplit=1)[0]) * 1024 if found else 0
