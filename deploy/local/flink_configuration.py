"""The configuration of a local Flink cluster: ports, sizes, and the files that Flink reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

_LOG4J = """
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1.} %m%n
"""


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


def write_configuration(spec: ClusterSpec, folder: Path) -> None:
    """Write Flink's configuration files for a cluster, and make its folders.

    `configuration_folder` and `temporary_folder` return where they are.
    """
    temporary_folder(folder).mkdir(parents=True, exist_ok=True)
    conf = configuration_folder(folder)
    conf.mkdir(exist_ok=True)
    (conf / "flink-conf.yaml").write_text(_format_configuration(spec, folder))
    (conf / "log4j.properties").write_text(_LOG4J)


def configuration_folder(folder: Path) -> Path:
    """Return the folder of the files that Flink reads."""
    return folder / "conf"


def temporary_folder(folder: Path) -> Path:
    """Return the folder of temporary files, such as the jars of jobs."""
    return folder / "tmp"


def _format_configuration(spec: ClusterSpec, folder: Path) -> str:
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
        "web.tmpdir": temporary_folder(folder),
        "io.tmp.dirs": temporary_folder(folder),
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
