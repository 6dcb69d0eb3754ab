"""A Flink cluster for tests: real processes on free ports, which never outlive the test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from deploy.local.flink_cluster import ClusterSpec, FlinkCluster, flink_libraries
from deploy.local.processes import free_ports
from scoreline.pipelines.runners.flink_options import job_server_jar
from tests.fakes import ROOT, Ended

_POLL_SECONDS = 0.1


def require_flink() -> None:
    """Skip, or fail where CI is set, when what Flink needs is not there."""
    missing = [] if shutil.which("java") else ["Java is not on PATH"]
    missing += [] if flink_libraries().is_dir() else ["Flink is not fetched: `make flink-libs`"]
    missing += [] if job_server_jar().exists() else ["its runner is not built: `make flink-jar`"]
    if missing and os.environ.get("CI"):
        pytest.fail("; ".join(missing))
    if missing:
        pytest.skip("; ".join(missing))


@contextmanager
def start_cluster(folder: Path, task_managers: int, **fields: object) -> Iterator[FlinkCluster]:
    """Start a cluster on free ports; all its processes are gone when the with block ends."""
    require_flink()
    rest, rpc, pool = free_ports(3)
    cluster = FlinkCluster(folder)
    spec = ClusterSpec(rest_port=rest, rpc_port=rpc, pool_port=pool, **fields)
    try:
        cluster.processes.stop_with(os.getpid())
        cluster.up(spec, task_managers)
        yield cluster
    finally:
        names = list(cluster.processes.recorded())
        started = [process for name in names for process in cluster.processes.members(name)]
        cluster.down()
        _, left = psutil.wait_procs(started, timeout=0)
        assert not left


def kill_workers(cluster: FlinkCluster) -> None:
    """Kill every Python worker: one that an ended job left behind may be among them."""
    for worker in cluster.workers():
        with suppress(psutil.NoSuchProcess):
            worker.kill()


class Job:
    """A scoring command in a process of its own, which is watched from outside."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Start it."""
        self._out = (folder / "job.out").open("w+")
        self._err = (folder / "job.err").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scoreline", "batch", *options],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "400"},
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
        )

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float = 200) -> None:
        """Return when a condition holds; the command must not end before."""
        until = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > until:
                self.interrupt()  # so that it leaves no job behind for the next test
                raise AssertionError(f"{what}: {self.end()}")
            time.sleep(_POLL_SECONDS)

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def end(self, seconds: float = 200) -> Ended:
        """Wait for the end, kill it when it does not come, and return what it printed."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()  # whoever waits sees the code, and the cluster's end ends the job
            self.process.wait()
        texts = []
        for stream in (self._out, self._err):
            stream.flush()
            stream.seek(0)
            texts.append(stream.read())
            stream.close()
        return Ended(self.process.returncode, *texts)
