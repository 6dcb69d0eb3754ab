"""A local Flink session cluster on loopback, for trials and tests.

    python -m deploy.local.flink_cluster up --task_managers 2
    python -m deploy.local.flink_cluster scale --task_managers 3
    python -m deploy.local.flink_cluster status
    python -m deploy.local.flink_cluster down

It has a JobManager, TaskManagers and one SDK worker pool, which starts Python workers for all of
them. `up` is idempotent: it starts the processes that are missing, and returns when the cluster is
ready. Flink's jars come from PyPI's apache-flink-libraries (`make flink-libs`). For clusters of
several machines see deploy/flink/.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from deploy.local import flink_java
from deploy.local.flink_configuration import (
    ClusterSpec,
    configuration_folder,
    temporary_folder,
    write_configuration,
)
from deploy.local.processes import GUARD, Processes, free_ports, is_listening, wait_for
from scoreline.pipelines.runners.flink_rest import ENDED, FlinkRest, Slots

ROOT = Path(__file__).parents[2]
FOLDER = "build/flink"
_JOB_MANAGER, _POOL, _TASK_MANAGER = "jobmanager", "pool", "taskmanager"
_READY_SECONDS = 90.0


class ClusterFailed(RuntimeError):
    """The cluster did not start. The message ends with the output of its processes."""


class FlinkCluster:
    """A cluster with its configuration, process records and logs in one folder."""

    def __init__(self, folder: str | Path, libraries: str | Path | None = None) -> None:
        """Attach to the cluster of a folder; nothing needs to run there."""
        self.folder = Path(folder).absolute()
        self.processes = Processes(self.folder)
        self._libraries = Path(libraries or flink_java.flink_libraries())
        self._spec_file = self.folder / "cluster.json"
        self._conf = configuration_folder(self.folder)

    @property
    def spec(self) -> ClusterSpec:
        """The configuration that the cluster was started with.

        Raises:
          ClusterFailed: no cluster was started from the folder.
        """
        if not self._spec_file.exists():
            raise ClusterFailed(f"Expected a cluster in {self.folder}, got none: make flink-up")
        return ClusterSpec(**json.loads(self._spec_file.read_text()))

    @property
    def master(self) -> str:
        """The value of `--flink_master`."""
        return f"127.0.0.1:{self.spec.rest_port}"

    @property
    def pool(self) -> str:
        """The value of `--environment_config`."""
        return f"127.0.0.1:{self.spec.pool_port}"

    @property
    def arguments(self) -> list[str]:
        """The options that run a job on this cluster."""
        return [
            "--runner=flink",
            f"--flink_master={self.master}",
            f"--environment_config={self.pool}",
        ]

    @property
    def rest(self) -> FlinkRest:
        """Flink's REST interface."""
        return FlinkRest(self.master)

    def task_managers(self) -> list[str]:
        """Return the names of the running TaskManagers, in order of their start."""
        names = [n for n in self.processes.running() if n.startswith(_TASK_MANAGER)]
        return sorted(names, key=_number_of)

    def up(self, spec: ClusterSpec, task_managers: int) -> None:
        """Start the missing processes, and wait until `task_managers` have registered.

        Raises:
          ClusterFailed: Java or Flink is missing, a port is in use, a process ended, or the cluster
            runs with another configuration.
        """
        running = self.processes.running()
        if running.keys() - {GUARD} and self.spec != spec:
            raise ClusterFailed(
                f"Expected no cluster in {self.folder}, got one with another configuration: "
                f"{self.spec}. Stop it first: make flink-down"
            )
        self._check_installed()
        ports = {_JOB_MANAGER: spec.rest_port, _POOL: spec.pool_port}
        for name, port in ports.items():
            if name not in running and is_listening(port):
                raise ClusterFailed(
                    f"Expected port {port} of 127.0.0.1 to be free for the {name}, but another "
                    "program listens on it. Choose another port"
                )
        self._write_configuration(spec)
        self._forget_dead("")
        if _JOB_MANAGER not in running:
            jvm = [f"-Xmx{spec.job_manager_heap_mb}m"]
            self._start_java(_JOB_MANAGER, flink_java.JOB_MANAGER, jvm)
        if _POOL not in running:
            self.start_pool()
        self.scale(task_managers)

    def start_pool(self) -> None:
        """Start the worker pool with this Python, so that workers can import this project."""
        self.processes.start(
            _POOL,
            [sys.executable, "-m", "deploy.local.worker_pool", f"--port={self.spec.pool_port}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def scale(self, task_managers: int, slots: int | None = None) -> None:
        """Start or stop TaskManagers until `task_managers` run and have registered.

        If `slots` differs from their number of slots, all TaskManagers are replaced.
        """
        self._forget_dead(_TASK_MANAGER)
        running = self.task_managers()
        if slots not in (None, self.spec.slots):
            self.processes.stop(running)
            running = []
            self._write_configuration(dataclasses.replace(self.spec, slots=slots))
        self.processes.stop(running[task_managers:])
        number = max((_number_of(name) for name in self.processes.recorded()), default=0)
        options = self._memory_options() if len(running) < task_managers else ([], [])
        while len(running) < task_managers:
            number += 1
            running.append(f"{_TASK_MANAGER}-{number}")
            self._start_task_manager(running[-1], *options)
        self.wait(task_managers)

    def wait(self, task_managers: int) -> None:
        """Wait until that many TaskManagers have registered and the pool listens."""
        ended: list[str] = []

        def is_ready() -> bool:
            recorded, running = self.processes.recorded(), self.processes.running()
            ended[:] = [name for name in (_JOB_MANAGER, _POOL) if name not in running]
            ended.extend(n for n in recorded if n not in running and n not in ended)
            if ended:
                return True
            slots = self.slots()
            return (
                slots is not None
                and slots.task_managers == task_managers
                # A TaskManager reports its slots only after it has registered.
                and slots.total == task_managers * self.spec.slots
                and is_listening(self.spec.pool_port)
            )

        in_time = wait_for(is_ready, _READY_SECONDS)
        if ended:
            name = ended[0]
            raise ClusterFailed(f"The {name} ended. Its output:\n{self.processes.tail(name)}")
        if not in_time:
            raise ClusterFailed(
                f"Expected {task_managers} TaskManagers in {_READY_SECONDS:.0f} s, got "
                f"{self.slots()}. Read the logs in {self.processes.logs}"
            )

    def slots(self) -> Slots | None:
        """Return the JobManager's count of TaskManagers and slots; None if it does not answer."""
        try:
            return self.rest.slots()
        except (OSError, LookupError):
            return None

    def cancel_jobs(self) -> None:
        """Cancel all jobs. A job outlives a command that was killed, and keeps its slots."""
        for name, state in self.rest.jobs():
            for job_id in self.rest.job_ids(name) if state not in ENDED else ():
                self.rest.cancel(job_id)

    def workers(self) -> list[psutil.Process]:
        """Return the running Python workers, which the pool has started."""
        record = self.processes.recorded().get(_POOL)
        return [p for p in self.processes.members(_POOL) if record and p.pid != record.pid]

    def down(self) -> None:
        """Stop every process that was started from the folder, in order. Idempotent.

        Savepoints and logs stay. Temporary files, such as the jars of jobs, are removed.
        """
        names = self.processes.recorded()
        managers = [name for name in names if name.startswith(_TASK_MANAGER)]
        self.processes.stop([*managers, *(name for name in names if name not in managers)])
        shutil.rmtree(temporary_folder(self.folder), ignore_errors=True)

    def _forget_dead(self, prefix: str) -> None:
        """Remove the records of processes that have ended, and stop their children."""
        running = self.processes.running()
        recorded = [name for name in self.processes.recorded() if name.startswith(prefix)]
        self.processes.stop([name for name in recorded if name not in running])

    def _check_installed(self) -> None:
        if shutil.which("java") is None:
            raise ClusterFailed("Expected Java 11 or 17 for Flink, got no `java` on PATH")
        if not (self._libraries / "lib").is_dir():
            raise ClusterFailed(f"Expected Flink in {self._libraries}, got none: make flink-libs")

    def _start_task_manager(self, name: str, jvm: Sequence[str], dynamic: Sequence[str]) -> None:
        # An earlier TaskManager of this name left the jars of its jobs, 310 MB each. Flink would
        # check them all before it starts, which takes 90 s for 8 GB.
        shutil.rmtree(temporary_folder(self.folder) / f"tm_{name}", ignore_errors=True)
        self._start_java(
            name,
            flink_java.TASK_MANAGER,
            jvm,
            [*dynamic, "-D", f"taskmanager.resource-id={name}"],
        )

    def _write_configuration(self, spec: ClusterSpec) -> None:
        write_configuration(spec, self.folder)
        self._spec_file.write_text(json.dumps(dataclasses.asdict(spec)))

    def _memory_options(self) -> tuple[list[str], list[str]]:
        try:
            return flink_java.read_memory_options(self._libraries, self._conf)
        except ValueError as e:
            raise ClusterFailed(str(e)) from e

    def _start_java(
        self, name: str, main: str, jvm: Sequence[str], options: Sequence[str] = ()
    ) -> None:
        self.processes.start(
            name,
            flink_java.java_command(main, self._libraries, self._conf, jvm, options),
            cwd=self.folder,
            env=flink_java.java_environment(self._libraries, self._conf),
        )


def _number_of(name: str) -> int:
    return int(name.rpartition("-")[2]) if name.startswith(_TASK_MANAGER) else 0


@contextmanager
def own_cluster(folder: Path, task_managers: int, slots: int) -> Iterator[FlinkCluster]:
    """Start a cluster on free ports; it ends with the block, or with this process."""
    rest, rpc, pool = free_ports(3)
    cluster = FlinkCluster(folder)
    try:
        cluster.processes.stop_with(os.getpid())
        spec = ClusterSpec(rest_port=rest, rpc_port=rpc, pool_port=pool, slots=slots)
        cluster.up(spec, task_managers)
        yield cluster
    finally:
        cluster.down()


def describe(cluster: FlinkCluster) -> str:
    """Return the running processes, their addresses, and the options to use them."""
    running, recorded = cluster.processes.running(), cluster.processes.recorded()
    if not recorded:
        return f"Nothing runs from {cluster.folder}."
    lines = [
        f"{name:<16}{f'pid {record.pid}' if name in running else 'NOT RUNNING'}"
        for name, record in recorded.items()
    ]
    slots = cluster.slots()
    lines.append(
        f"{'cluster':<16}"
        + (
            f"{slots.task_managers} TaskManagers, {slots.free} of {slots.total} slots free"
            if slots
            else "does not answer"
        )
    )
    lines.append(f"{'web page':<16}http://{cluster.master}")
    lines.append(f"{'logs':<16}{cluster.processes.logs}")
    lines.append(f"{'use it with':<16}{' '.join(cluster.arguments)}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command on the cluster of a folder; return 0, or 1 if it fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("command", choices=("up", "scale", "status", "arguments", "down"))
    parser.add_argument("--folder", default=FOLDER, help=f"default: {FOLDER}")
    parser.add_argument("--task_managers", type=int, help="default: 1, or the number that runs")
    for field in dataclasses.fields(ClusterSpec):
        default = field.default
        parser.add_argument(f"--{field.name}", type=type(default), help=f"default: {default}")
    args = parser.parse_args(argv)
    cluster = FlinkCluster(args.folder)
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(ClusterSpec)}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        running = cluster.processes.running()
        if args.command == "arguments":
            sys.stdout.write(" ".join(cluster.arguments) + "\n")
            return 0
        if args.command == "up":
            spec = dataclasses.replace(cluster.spec if running else ClusterSpec(), **given)
            cluster.up(spec, args.task_managers or len(cluster.task_managers()) or 1)
        elif args.command == "scale":
            if _JOB_MANAGER not in running:
                raise ClusterFailed("Expected a cluster, got none: make flink-up")  # noqa: TRY301
            wanted = args.task_managers
            cluster.scale(len(cluster.task_managers()) if wanted is None else wanted, args.slots)
        elif args.command == "down":
            cluster.down()
    except ClusterFailed as e:
        sys.stderr.write(f"{e}\n")
        return 1
    sys.stdout.write(describe(cluster) + "\n")
    return 0 if args.command != "status" or _JOB_MANAGER in running else 1


if __name__ == "__main__":
    sys.exit(main())
