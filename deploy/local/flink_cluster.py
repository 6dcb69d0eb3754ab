"""A Flink session cluster on this machine: real processes, on loopback, for trying and testing.

    python -m deploy.local.flink_cluster up --task_managers 2
    python -m deploy.local.flink_cluster scale --task_managers 3
    python -m deploy.local.flink_cluster status
    python -m deploy.local.flink_cluster down

A JobManager, TaskManagers and one SDK worker pool, which starts Python workers for all of them.
`up` is idempotent: it starts what does not run, and returns when the cluster answers. Flink's jars
come from PyPI's apache-flink-libraries (`make flink-libs`), which has no start scripts, hence the
`java` commands here. For clusters of more than one machine see deploy/flink/.
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
# What Flink's own scripts open for Java 17.
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
    # No row passes through Java, and there are no processors to spare: what the second compiler
    # does for long runs of the same code would cost more than it gives.
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
    """A cluster that does not come up; the message ends with what its processes printed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """What a cluster looks like.

    Attributes:
      rest_port, rpc_port, pool_port: where JobManager and worker pool listen, on 127.0.0.1.
      slots: of each TaskManager.
      scheduler: `default` or `adaptive`; the second uses TaskManagers that come while a streaming
        job runs.
      task_manager_memory_mb, job_manager_heap_mb: what Java gets; Python workers are not in it.
      heartbeat_timeout_ms: after which a silent TaskManager counts as lost.
      prometheus_ports: ports for Flink's reporter, as `9249-9260`, one for each process; it listens
        on every interface. "" for none.
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
    """A cluster whose configuration, records and logs are in one folder."""

    def __init__(self, folder: str | Path, libraries: str | Path | None = None) -> None:
        """Take over what runs from a folder, if anything does."""
        self.folder = Path(folder).absolute()
        self.processes = Processes(self.folder)
        self._libraries = Path(libraries or flink_libraries())
        self._spec_file = self.folder / "cluster.json"
        self._temporary = self.folder / _TEMPORARY

    @property
    def spec(self) -> ClusterSpec:
        """What it was started with.

        Raises:
          ClusterFailed: it never was.
        """
        if not self._spec_file.exists():
            raise ClusterFailed(f"No cluster was started from {self.folder}: `make flink-up`")
        return ClusterSpec(**json.loads(self._spec_file.read_text()))

    @property
    def master(self) -> str:
        """What `--flink_master` is to be."""
        return f"127.0.0.1:{self.spec.rest_port}"

    @property
    def pool(self) -> str:
        """What `--environment_config` is to be."""
        return f"127.0.0.1:{self.spec.pool_port}"

    @property
    def arguments(self) -> list[str]:
        """The options that run a job here."""
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
        """Return the names of the TaskManagers that run, in the order they were started."""
        names = [n for n in self.processes.running() if n.startswith(_TASK_MANAGER)]
        return sorted(names, key=_number_of)

    def up(self, spec: ClusterSpec, task_managers: int) -> None:
        """Start what does not run yet, and wait until so many TaskManagers have registered.

        Raises:
          ClusterFailed: Java or Flink is missing, a port is taken, a process ended, or the cluster
            runs with another configuration.
        """
        running = self.processes.running()
        if running.keys() - {GUARD} and self.spec != spec:
            raise ClusterFailed(
                f"A cluster of another configuration runs from {self.folder}: {self.spec}. "
                "Stop it first: `make flink-down`"
            )
        self._check_installed()
        ports = {_JOB_MANAGER: spec.rest_port, _POOL: spec.pool_port}
        for name, port in ports.items():
            if name not in running and is_listening(port):
                raise ClusterFailed(
                    f"Port {port} of 127.0.0.1 is taken by another program; choose another for the "
                    f"{name}"
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
        """Start the worker pool: this Python, with this project importable."""
        self.processes.start(
            _POOL,
            [sys.executable, "-m", "deploy.local.worker_pool", f"--port={self.spec.pool_port}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def scale(self, task_managers: int, slots: int | None = None) -> None:
        """Start or stop TaskManagers until there are so many, and wait for them to register.

        With another number of slots than they have, all are replaced.
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
        """Wait until the JobManager knows so many TaskManagers and the pool listens."""
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
                # A TaskManager tells of its slots only after it has registered.
                and slots.total == task_managers * self.spec.slots
                and is_listening(self.spec.pool_port)
            )

        in_time = wait_for(is_ready, _READY_SECONDS)
        if ended:
            name = ended[0]
            raise ClusterFailed(f"The {name} ended. It printed:\n{self.processes.tail(name)}")
        if not in_time:
            raise ClusterFailed(
                f"The cluster is not ready after {_READY_SECONDS:.0f} s: {self.slots()}, wanted "
                f"{task_managers} TaskManagers. Logs are in {self.processes.logs}"
            )

    def slots(self) -> Slots | None:
        """Return TaskManagers and slots as the JobManager knows them; None when it is not there."""
        try:
            return self.rest.slots()
        except (OSError, LookupError):
            return None

    def workers(self) -> list[psutil.Process]:
        """Return the Python workers that run: what the pool has started."""
        record = self.processes.recorded().get(_POOL)
        return [p for p in self.processes.members(_POOL) if record and p.pid != record.pid]

    def down(self) -> None:
        """Stop every process that was ever started from the folder, in order; none left is fine.

        Savepoints and logs stay, temporary files do not: each job's jar is among them.
        """
        names = self.processes.recorded()
        managers = [name for name in names if name.startswith(_TASK_MANAGER)]
        self.processes.stop([*managers, *(name for name in names if name not in managers)])
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _forget_dead(self, prefix: str) -> None:
        """Remove the records of processes that ended by themselves, and what they left running."""
        running = self.processes.running()
        recorded = [name for name in self.processes.recorded() if name.startswith(prefix)]
        self.processes.stop([name for name in recorded if name not in running])

    def _check_installed(self) -> None:
        if shutil.which("java") is None:
            raise ClusterFailed("Flink needs Java 11 or 17: no `java` on PATH")
        if not (self._libraries / "lib").is_dir():
            raise ClusterFailed(f"Flink is not in {self._libraries}: run `make flink-libs`")

    def _write_configuration(self, spec: ClusterSpec) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir(exist_ok=True)
        conf = self.folder / "conf"
        conf.mkdir(exist_ok=True)
        (conf / "flink-conf.yaml").write_text(_configuration(spec, self.folder))
        (conf / "log4j.properties").write_text(_LOG4J)
        self._spec_file.write_text(json.dumps(dataclasses.asdict(spec)))

    def _start_task_manager(self, name: str, jvm: Sequence[str], dynamic: Sequence[str]) -> None:
        # The one of this name before left the jars of its jobs, 310 MB each. Flink would read them
        # all before it starts, to see whether they are whole: a minute and a half for 8 GB.
        shutil.rmtree(self._temporary / f"tm_{name}", ignore_errors=True)
        self._start_java(
            name,
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            jvm,
            [*dynamic, "-D", f"taskmanager.resource-id={name}"],
        )

    def _memory_options(self) -> tuple[list[str], list[str]]:
        """Return a TaskManager's JVM options and Flink options, as Flink's own tool works them out.

        Its start script does the same; without them a TaskManager refuses to start.
        """
        libraries = self._libraries
        done = subprocess.run(
            [  # noqa: S607  the java on PATH, as for the cluster itself
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
            raise ClusterFailed(f"Flink refuses the configuration: {done.stdout}{done.stderr}")
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
    """Return where `make flink-libs` puts Flink."""
    return cache_folder() / f"flink-{FLINK_VERSION}" / "pyflink"


def _number_of(name: str) -> int:
    return int(name.rpartition("-")[2]) if name.startswith(_TASK_MANAGER) else 0


def _configuration(spec: ClusterSpec, folder: Path) -> str:
    values = {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.rpc.port": spec.rpc_port,
        # Heap as given to the JVM; the rest of this only has to add up.
        "jobmanager.memory.process.size": f"{spec.job_manager_heap_mb + 1024}m",
        "jobmanager.scheduler": spec.scheduler,
        "jobmanager.adaptive-scheduler.resource-stabilization-timeout": "2 s",
        "jobmanager.adaptive-scheduler.resource-wait-timeout": "60 s",
        # By default a TaskManager that comes within 30 s of a start is not used at all.
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
        # Each job brings Beam's classes along; what ended jobs loaded goes only when it must.
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
    """Return what runs, where, and how to use it."""
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
    """Run a command on the cluster of a folder, and return 0, or 1 when it failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("command", choices=("up", "scale", "status", "arguments", "down"))
    parser.add_argument("--folder", default=FOLDER, help=f"default: {FOLDER}")
    parser.add_argument("--task_managers", type=int, help="default: 1, or as many as run")
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
                raise ClusterFailed("No cluster runs: `make flink-up`")  # noqa: TRY301
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
