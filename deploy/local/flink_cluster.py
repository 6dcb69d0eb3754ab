"""A local Flink session cluster on loopback, for trials and tests.

    python -m deploy.local.flink_cluster up --task_managers 2
    python -m deploy.local.flink_cluster scale --task_managers 3
    python -m deploy.local.flink_cluster status
    python -m deploy.local.flink_cluster down

It has a JobManager, TaskManagers and one SDK worker pool, which starts Python workers for all of
them. `up` is idempotent: it starts the processes that are missing, and returns when the cluster is
ready. Flink's jars come from PyPI's apache-flink-libraries (`make flink-libs`). That package has no
start scripts, hence the `java` commands here. For clusters of several machines see deploy/flink/.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from deploy.local.processes import GUARD, Processes, is_listening, wait_for
from scoreline.pipelines.runners.cache import cache_folder
from scoreline.pipelines.runners.flink_rest import FlinkRest, Slots
from scoreline.pipelines.runners.versions import FLINK_VERSION

ROOT = Path(__file__).parents[2]
FOLDER = "build/flink"
_JOB_MANAGER, _POOL, _TASK_MANAGER = "jobmanager", "pool", "taskmanager"
_READY_SECONDS = 90.0
_TEMPORARY = "tmp"
# The packages that Flink's own scripts open for Java 17.
_EXPORTS = (
    "java.base/sun.net.util",
    "java.rmi/sun.rmi.registry",
    "java.security.jgss/sun.security.krb5",
)
_OPENS = (
    *("lang", "net", "io", "nio", "lang.reflect", "text", "time", "util"),
    *("util.concurrent", "util.concurrent.atomic", "util.concurrent.locks"),
)
_JAVA_OPTIONS = (
    *(f"--add-exports={package}=ALL-UNNAMED" for package in _EXPORTS),
    *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENS),
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    # No row passes through Java, and processors are scarce. The second compiler, which optimizes
    # long runs of the same code, would cost more than it saves.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
)
_LOG4J = """
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1.} %m%n
"""


class ClusterFailed(RuntimeError):
    """The cluster did not start. The message ends with the output of its processes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """Ports and sizes of a cluster.

    Attributes:
      rest_port, rpc_port, pool_port: ports of the JobManager and the worker pool on 127.0.0.1.
      slots: slots per TaskManager.
      scheduler: `default` or `adaptive`. `adaptive` also uses TaskManagers that join while a
        streaming job runs.
      task_manager_memory_mb, job_manager_heap_mb: memory of Java, without the Python workers.
      heartbeat_timeout_ms: time after which a silent TaskManager counts as lost.
      prometheus_ports: ports of Flink's reporter, one per process, for example `9249-9260`. The
        reporter listens on every interface. "" for no reporter.
    """

    rest_port: int = 8081
    rpc_port: int = 6123
    pool_port: int = 50000
    slots: int = 2
    scheduler: str = "adaptive"
    task_manager_memory_mb: int = 1728
    job_manager_heap_mb: int = 1024
    heartbeat_timeout_ms: int = 10_000
    prometheus_ports: str = ""


class FlinkCluster:
    """A cluster with its configuration, process records and logs in one folder."""

    def __init__(self, folder: str | Path, libraries: str | Path | None = None) -> None:
        """Attach to the cluster of a folder; nothing needs to run there."""
        self.folder = Path(folder).absolute()
        self.processes = Processes(self.folder)
        self._libraries = Path(libraries or flink_libraries())
        self._spec_file = self.folder / "cluster.json"
        self._temporary = self.folder / _TEMPORARY

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
            self._start_java(
                _JOB_MANAGER,
                "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
                [f"-Xmx{spec.job_manager_heap_mb}m"],
                [],
            )
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
        shutil.rmtree(self._temporary, ignore_errors=True)

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

    def _write_configuration(self, spec: ClusterSpec) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir(exist_ok=True)
        conf = self.folder / "conf"
        conf.mkdir(exist_ok=True)
        (conf / "flink-conf.yaml").write_text(_configuration(spec, self.folder))
        (conf / "log4j.properties").write_text(_LOG4J)
        self._spec_file.write_text(json.dumps(dataclasses.asdict(spec)))

    def _start_task_manager(self, name: str, jvm: Sequence[str], dynamic: Sequence[str]) -> None:
        # An earlier TaskManager of this name left the jars of its jobs, 310 MB each. Flink would
        # check them all before it starts, which takes 90 s for 8 GB.
        shutil.rmtree(self._temporary / f"tm_{name}", ignore_errors=True)
        self._start_java(
            name,
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            jvm,
            [*dynamic, "-D", f"taskmanager.resource-id={name}"],
        )

    def _memory_options(self) -> tuple[list[str], list[str]]:
        """Return a TaskManager's JVM options and Flink options, computed by Flink's own tool.

        Flink's start script does the same. A TaskManager does not start without these options.
        """
        libraries = self._libraries
        done = subprocess.run(
            [  # noqa: S607  the java on PATH, as for the cluster
                "java",
                "-cp",
                f"{libraries}/bin/bash-java-utils.jar"
                f":{libraries}/lib/flink-dist-{FLINK_VERSION}.jar",
                "org.apache.flink.runtime.util.bash.BashJavaUtils",
                "GET_TM_RESOURCE_PARAMS",
                "--configDir",
                str(self.folder / "conf"),
            ],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        mark = "BASH_JAVA_UTILS_EXEC_RESULT:"
        lines = [line.removeprefix(mark) for line in done.stdout.splitlines() if mark in line]
        if len(lines) != 2:
            raise ClusterFailed(f"Flink rejected the configuration: {done.stdout}{done.stderr}")
        return lines[0].split(), lines[1].split()

    def _start_java(self, name: str, main: str, jvm: Sequence[str], options: Sequence[str]) -> None:
        conf = self.folder / "conf"
        self.processes.start(
            name,
            [
                "java",
                *jvm,
                *_JAVA_OPTIONS,
                f"-Dlog4j.configurationFile=file:{conf}/log4j.properties",
                "-cp",
                f"{self._libraries}/lib/*",
                main,
                "--configDir",
                str(conf),
                *options,
            ],
            cwd=self.folder,
            env=self._environment(),
        )

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "FLINK_LIB_DIR": str(self._libraries / "lib"),
            "FLINK_PLUGINS_DIR": str(self._libraries / "plugins"),
            "FLINK_CONF_DIR": str(self.folder / "conf"),
        }


def flink_libraries() -> Path:
    """Return the folder in which `make flink-libs` installs Flink."""
    return cache_folder() / f"flink-{FLINK_VERSION}" / "pyflink"


def _number_of(name: str) -> int:
    return int(name.rpartition("-")[2]) if name.startswith(_TASK_MANAGER) else 0


def _configuration(spec: ClusterSpec, folder: Path) -> str:
    values = {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.rpc.port": spec.rpc_port,
        # The heap is given to the JVM; the other parts must only add up to the total.
        "jobmanager.memory.process.size": f"{spec.job_manager_heap_mb + 1024}m",
        "jobmanager.scheduler": spec.scheduler,
        "jobmanager.adaptive-scheduler.resource-stabilization-timeout": "2 s",
        "jobmanager.adaptive-scheduler.resource-wait-timeout": "60 s",
        # By default Flink ignores a TaskManager that joins within 30 s of a start.
        "jobmanager.adaptive-scheduler.scaling-interval.min": "1 s",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": spec.rest_port,
        "web.tmpdir": folder / _TEMPORARY,
        "io.tmp.dirs": folder / _TEMPORARY,
        "state.checkpoints.dir": f"file://{folder}/state/checkpoints",
        "state.savepoints.dir": f"file://{folder}/state/savepoints",
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.numberOfTaskSlots": spec.slots,
        "taskmanager.memory.process.size": f"{spec.task_manager_memory_mb}m",
        "taskmanager.memory.managed.size": "192m",
        # Every job loads Beam's classes again; the JVM unloads them only under pressure.
        "taskmanager.memory.jvm-metaspace.size": "384m",
        "heartbeat.interval": max(500, spec.heartbeat_timeout_ms // 5),
        "heartbeat.timeout": spec.heartbeat_timeout_ms,
        "slot.request.timeout": 60_000,
        # Each job's jar has 310 MB: TaskManagers would keep those of ended jobs for an hour.
        "blob.service.cleanup.interval": 60,
        "metrics.fetcher.update-interval": 1000,
    }
    if spec.prometheus_ports:
        factory = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
        values["metrics.reporter.prom.factory.class"] = factory
        values["metrics.reporter.prom.port"] = spec.prometheus_ports
    return "".join(f"{key}: {value}\n" for key, value in values.items())


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
