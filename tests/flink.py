"""A Flink cluster for tests: real processes on free ports, which end with the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from deploy.local.flink_cluster import FlinkCluster
from deploy.local.flink_configuration import ClusterSpec
from deploy.local.flink_java import flink_libraries
from deploy.local.processes import free_ports, wait_for
from scoreline.pipelines.runners.flink_options import job_server_jar
from tests.fakes import Ended
from tests.forks import fork
from tests.required import fail_or_skip

_POLL_SECONDS = 0.25  # a look at all processes, or at Flink, takes 20 ms of CPU time


def require_flink() -> None:
    """Skip, or fail if CI is set, when something that Flink needs is missing."""
    missing = [] if shutil.which("java") else ["Java is not on PATH"]
    missing += [] if flink_libraries().is_dir() else ["Flink is not fetched: `make flink-libs`"]
    missing += [] if job_server_jar().exists() else ["its runner is not built: `make flink-jar`"]
    if missing:
        fail_or_skip(f"every job on Flink: {'; '.join(missing)}")


@contextmanager
def start_cluster(folder: Path, task_managers: int, **fields: object) -> Iterator[FlinkCluster]:
    """Start a cluster on free ports; all its processes end with the block."""
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


def make_ready(cluster: FlinkCluster, task_managers: int, slots: int) -> None:
    """Cancel all jobs, restart killed processes, and wait until all slots are free.

    An earlier test may have failed at any point.
    """
    if cluster.slots() is None:
        cluster.up(cluster.spec, task_managers)
    cluster.cancel_jobs()
    cluster.up(cluster.spec, 0 if cluster.spec.slots != slots else task_managers)
    cluster.scale(task_managers, slots)
    assert wait_for(lambda: cluster.rest.slots().free == task_managers * slots, 150)


def leave_jar(folder: Path) -> Path:
    """Leave the jar of an earlier job in a cluster's folder, as a TaskManager does."""
    jar = folder / "tmp" / "tm_taskmanager-1" / "blobStorage" / "job_0" / "blob_p-0"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"of a job that is over")
    return jar


def kill_workers(cluster: FlinkCluster) -> None:
    """Kill every Python worker; one of them may belong to a job that has ended."""
    for worker in cluster.workers():
        with suppress(psutil.NoSuchProcess):
            worker.kill()


class Job:
    """A scoring command in a separate process, observed from outside."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Start the process."""
        environment = {**os.environ, "COLUMNS": "400"}
        self.process = fork("scoreline", "batch", *options, environment=environment)

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float = 200) -> None:
        """Wait until a condition is true; the command must not end before."""
        until = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > until:
                self.interrupt()  # so that no job is left for the next test
                raise AssertionError(f"{what}: {self.end()}")
            time.sleep(_POLL_SECONDS)

    def interrupt(self) -> None:
        """Send SIGINT, like Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, seconds: float = 200) -> Ended:
        """Wait for the end, kill it when it does not come, and return what it printed."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()  # whoever waits sees the code, and the cluster's end ends the job
        texts = self.process.communicate()
        return Ended(self.process.returncode, *texts)
