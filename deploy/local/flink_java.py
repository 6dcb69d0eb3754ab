"""The `java` commands of a Flink cluster, which apache-flink-libraries has no start scripts for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scoreline.pipelines.runners.cache import cache_folder
from scoreline.pipelines.runners.versions import FLINK_VERSION

JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
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


def flink_libraries() -> Path:
    """Return the folder in which `make flink-libs` installs Flink."""
    return cache_folder() / f"flink-{FLINK_VERSION}" / "pyflink"


def java_command(
    main: str, libraries: Path, conf: Path, jvm: Sequence[str], options: Sequence[str] = ()
) -> list[str]:
    """Return the command of a Flink process.

    Args:
      main: its main class.
      libraries: the folder of `flink_libraries`.
      conf: the folder of its configuration.
      jvm: further options of Java.
      options: further options of Flink.
    """
    return [
        "java",
        *jvm,
        *_JAVA_OPTIONS,
        f"-Dlog4j.configurationFile=file:{conf}/log4j.properties",
        "-cp",
        f"{libraries}/lib/*",
        main,
        "--configDir",
        str(conf),
        *options,
    ]


def java_environment(libraries: Path, conf: Path) -> dict[str, str]:
    """Return the environment of a Flink process."""
    return {
        **os.environ,
        "FLINK_LIB_DIR": str(libraries / "lib"),
        "FLINK_PLUGINS_DIR": str(libraries / "plugins"),
        "FLINK_CONF_DIR": str(conf),
    }


def read_memory_options(libraries: Path, conf: Path) -> tuple[list[str], list[str]]:
    """Return a TaskManager's JVM options and Flink options, computed by Flink's own tool.

    Flink's start script does the same. A TaskManager does not start without these options.

    Raises:
      ValueError: Flink rejected the configuration.
    """
    done = subprocess.run(
        [  # noqa: S607  the java on PATH, as for the cluster
            "java",
            "-cp",
            f"{libraries}/bin/bash-java-utils.jar:{libraries}/lib/flink-dist-{FLINK_VERSION}.jar",
            "org.apache.flink.runtime.util.bash.BashJavaUtils",
            "GET_TM_RESOURCE_PARAMS",
            "--configDir",
            str(conf),
        ],
        env=java_environment(libraries, conf),
        capture_output=True,
        text=True,
        check=False,
    )
    mark = "BASH_JAVA_UTILS_EXEC_RESULT:"
    lines = [line.removeprefix(mark) for line in done.stdout.splitlines() if mark in line]
    if len(lines) != 2:
        raise ValueError(f"Flink rejected the configuration: {done.stdout}{done.stderr}")
    return lines[0].split(), lines[1].split()
