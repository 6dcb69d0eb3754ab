"""Commands and scripts in separate processes, which tests kill or race."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.fakes import ROOT, Ended
from tests.forks import Fork, fork

Process = subprocess.Popen[str] | Fork
_ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "400"}


def _start(
    command: Sequence[object], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*map(str, command)],
        cwd=ROOT,
        env=_ENVIRONMENT | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_script(
    folder: Path, text: str, *args: object, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a Python script with the project on its path and an almost empty environment."""
    script = folder / "script.py"
    # Do not rewrite it: a process that has just started could read an empty file.
    if not script.exists() or script.read_text() != text:
        script.write_text(text)
    return _start([sys.executable, script, *args], environment)


def run_script(
    folder: Path,
    text: str,
    *args: object,
    timeout: int = 150,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run such a script to its end; its exit code is negative if a signal ended it."""
    return end(start_script(folder, text, *args, environment=environment), timeout)


def start_command(
    *args: object,
    environment: Mapping[str, str] | None = None,
    within: Sequence[object] = (),
) -> Process:
    """Start `scoreline …`; `within` is a command that runs another one."""
    if within:
        return _start([*within, sys.executable, "-m", "scoreline", *args], environment)
    return fork("scoreline", *args, environment=_ENVIRONMENT | dict(environment or {}))


def run_to_death(point: str, *args: object, timeout: int = 150) -> Ended:
    """Run `scoreline …` until it dies at a point of `kill_points`: its name, or `name:n`."""
    return end(start_command(*args, environment={"SCORELINE_DIE_AT": point}), timeout)


def race(runs: int, *args: object, timeout: int = 170) -> list[Ended]:
    """Run several `scoreline batch …` at once; all finish planning before any continues."""
    stops = {"SCORELINE_STOP_AT": "planned"}
    started = [start_command("batch", *args, environment=stops) for _ in range(runs)]
    try:
        wait_until_stopped(started, timeout)
        for process in started:
            psutil.Process(process.pid).resume()
        return [end(process, timeout) for process in started]
    finally:
        for process in started:
            process.kill()


def wait_until_stopped(processes: Sequence[Process], timeout: float = 60) -> None:
    """Wait until each process has stopped itself. A process that ends instead fails the test."""
    deadline = time.monotonic() + timeout
    waiting = list(processes)
    while waiting:
        for process in waiting:
            assert process.poll() is None, end(process, 10)
        assert time.monotonic() < deadline, f"{len(waiting)} processes did not stop themselves"
        statuses = [psutil.Process(process.pid).status() for process in waiting]
        waiting = [
            process
            for process, status in zip(waiting, statuses, strict=True)
            if status != psutil.STATUS_STOPPED
        ]
        time.sleep(0.05)


def end(process: Process, timeout: int = 150) -> Ended:
    """Wait for the end of a process, kill it after a timeout, and return its output."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    return Ended(process.returncode, out, err)
