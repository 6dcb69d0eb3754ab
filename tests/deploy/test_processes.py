"""Local engines are found by their records and stopped with their children; no others are."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

from deploy.local.processes import Processes, Record, is_running, wait_for

_FOREVER = "import signal; signal.pause()"


@pytest.fixture
def processes(tmp_path):
    started = Processes(tmp_path)
    yield started
    started.stop(list(started.recorded()))


def start(processes, name, code):
    return processes.start(
        name, [sys.executable, "-c", code], cwd=processes.logs.parent, env=os.environ
    )


def test_stop_ends_a_process_with_what_it_started(processes):
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_FOREVER!r}])"
    record = start(processes, "parent", code)
    assert wait_for(lambda: len(processes.members("parent")) == 2, 30)
    family = processes.members("parent")
    psutil.Process(record.pid).kill()  # the child is found although its parent is dead
    assert wait_for(lambda: len(processes.members("parent")) == 1, 30)
    processes.stop(["parent"])
    _, left = psutil.wait_procs(family, timeout=0)
    assert not left
    assert not processes.recorded()


def test_another_process_of_the_same_pid_is_left_alone(processes, tmp_path):
    with subprocess.Popen([sys.executable, "-c", _FOREVER], start_new_session=True) as other:
        stale = Record("old", other.pid, 1.0)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "old.json").write_text(json.dumps(stale))
        assert not is_running(stale)
        assert not processes.running()
        processes.stop(["old"])
        assert other.poll() is None
        assert not processes.recorded()
        other.kill()


def test_everything_stops_when_the_one_it_is_for_is_killed(processes):
    record = start(processes, "engine", _FOREVER)
    with subprocess.Popen([sys.executable, "-c", _FOREVER]) as owner:
        processes.stop_with(owner.pid)
        assert is_running(record)
        owner.kill()
        owner.wait()
        assert wait_for(lambda: not is_running(record), 60)
