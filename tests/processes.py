"""Scripts that run the command in processes of their own, which are killed or race."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.fakes import ROOT, Ended

_ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "400"}
# All wait, after planning, until every one has planned: then they race to commit. They look every
# 10 ms; whoever started them ends them when they wait for ever.
_MEETS = """
import os, pathlib, sys, time
from scoreline.pipelines import score_batch
real = score_batch.create_table
def meet(*args):
    folder = pathlib.Path(sys.argv[1])
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < int(sys.argv[2]):
        time.sleep(0.01)
    real(*args)
score_batch.create_table = meet
sys.exit(score_batch.main(sys.argv[3:]))
"""


def start_script(folder: Path, text: str, *args: object) -> subprocess.Popen[str]:
    """Start a Python script with the project on its path and an almost empty environment."""
    script = folder / "script.py"
    # Not written anew: one that was just started may be about to read it, and would find it empty.
    if not script.exists() or script.read_text() != text:
        script.write_text(text)
    return subprocess.Popen(
        [sys.executable, script, *map(str, args)],
        cwd=ROOT,
        env=_ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_script(folder: Path, text: str, *args: object, timeout: int = 150) -> Ended:
    """Run such a script to its end; its code is negative when a signal ended it."""
    return _end(start_script(folder, text, *args), timeout)


def race(folder: Path, runs: int, *args: object, timeout: int = 170) -> list[Ended]:
    """Run score_batch several times at once; all have planned before any commits."""
    meet = folder / "meet"
    meet.mkdir()
    started = [start_script(folder, _MEETS, meet, runs, *args) for _ in range(runs)]
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and any(process.poll() is None for process in started):
        time.sleep(0.05)
    # Who waits for one that has ended before it came there would wait for ever.
    for process in started:
        process.kill()
    return [_end(process, timeout) for process in started]


def _end(process: subprocess.Popen[str], timeout: int) -> Ended:
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)
