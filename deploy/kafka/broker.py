"""One Kafka broker on this machine, for development and tests: `make kafka-up`, `make kafka-down`.

    python deploy/kafka/broker.py up --folder build/kafka --port 9092
    python deploy/kafka/broker.py down --folder build/kafka

KRaft, so that there is nothing but one Java process; loopback only; unauthenticated: not for
production. The jars come from Maven, by deploy/kafka/pom.xml, into the cache, once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

KAFKA_VERSION = "4.1.1"
_POM = Path(__file__).with_name("pom.xml")
_READY_SECONDS = 60
_STOP_SECONDS = 20
_CLUSTER_ID = "c2NvcmVsaW5lLWxvY2FsLTE"
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
num.partitions=1
auto.create.topics.enable=false
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""
_LOGGING = """\
<Configuration status="ERROR"><Appenders>
<Console name="out"><PatternLayout pattern="%d %p %c %m%n"/></Console>
</Appenders><Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def cache_folder() -> Path:
    """Return where jars are kept: `$CACHE`, else the cache that the Makefile uses."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CACHE") or Path(home) / "scoreline")


def missing_tools() -> list[str]:
    """Return which programs that a broker needs are missing: java, and mvn for its jars."""
    needed = ["java"] if _jars_folder().is_dir() else ["java", "mvn"]
    return [name for name in needed if shutil.which(name) is None]


def _jars_folder() -> Path:
    return cache_folder() / f"kafka-{KAFKA_VERSION}"


def fetch_jars() -> Path:
    """Return the folder of the broker's jars, fetched by Maven unless they are there.

    Raises:
      FileNotFoundError: Java or Maven is not installed.
      RuntimeError: Maven failed; holds its output.
    """
    folder = _jars_folder()
    if missing := missing_tools():
        raise FileNotFoundError(f"A Kafka broker needs {' and '.join(missing)}. Install them")
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}-{os.getpid()}")
    command = ["mvn", "-q", "-B", "--strict-checksums", "-f", str(_POM)]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise RuntimeError(f"Maven could not fetch the broker: {done.stdout}{done.stderr}")
    with contextlib.suppress(OSError):  # another process was first
        fresh.rename(folder)
    shutil.rmtree(fresh, ignore_errors=True)
    return folder


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@dataclasses.dataclass(kw_only=True)
class Broker:
    """One broker: its folder holds settings, data, log and the id of its process.

    Attributes:
      folder: where all of it is kept.
      port: of the broker, on the loopback.
      controller_port: of its controller, on the loopback.
      memory: the most that Java's heap takes.
    """

    folder: Path
    port: int
    controller_port: int
    memory: str = "384m"
    _process: subprocess.Popen[bytes] | None = dataclasses.field(default=None, repr=False)

    @property
    def address(self) -> str:
        """What a client is given: host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the broker prints."""
        return self.folder / "broker.log"

    @property
    def _properties(self) -> Path:
        return self.folder.absolute() / "server.properties"

    def start(self) -> None:
        """Start the broker, unless it runs, and wait until it answers. Keeps the data there is.

        Raises:
          FileNotFoundError: Java or Maven is not installed.
          RuntimeError: it ended, or did not answer in 60 s; holds the end of its log.
        """
        if self.pid() is None:
            self._launch(fetch_jars())
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers():
            if self.pid() is None or time.monotonic() > deadline:
                self.kill()
                tail = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"The Kafka broker did not come up on {self.address}: {tail}")
            time.sleep(0.1)

    def _launch(self, jars: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self._properties
        properties.write_text(
            _PROPERTIES.format(
                folder=self.folder.absolute(),
                port=self.port,
                controller_port=self.controller_port,
            )
        )
        logging = self.folder.absolute() / "log4j2.xml"
        logging.write_text(_LOGGING)
        java = ["java", f"-Xmx{self.memory}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        java += [f"-Dlog4j2.configurationFile={logging}", "-cp", f"{jars}/*"]
        if not (self.folder / "data" / "meta.properties").exists():
            tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)]
            done = subprocess.run([*java, *tool], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(
                    f"The broker's folder cannot be made: {done.stdout}{done.stderr}"
                )
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                [*java, "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._process = started  # a child that nobody waits for stays as a zombie
        (self.folder / "pid").write_text(str(started.pid))

    def pid(self) -> int | None:
        """Return the id of the broker's process; None when it does not run."""
        if self._process is not None:
            return self._process.pid if self._process.poll() is None else None
        try:
            pid = int((self.folder / "pid").read_text())
            # The number may have gone to another process since.
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if str(self._properties).encode() in line else None

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        try:
            return bool(client.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def stop(self) -> None:
        """End the broker and wait for it; nothing happens when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker as a crash would: by SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        pid = self.pid()
        if pid is not None:
            os.kill(pid, how)
        deadline = time.monotonic() + _STOP_SECONDS
        while (pid := self.pid()) is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        (self.folder / "pid").unlink(missing_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Start or end the broker of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("--folder", type=Path, default=Path("build/kafka"))
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--controller_port", type=int, help="default: the port after --port")
    given = parser.parse_args(argv)
    controller_port = given.controller_port or given.port + 1
    broker = Broker(folder=given.folder, port=given.port, controller_port=controller_port)
    if given.action == "down":
        broker.stop()
        print("The Kafka broker is stopped; its data stays in", given.folder)
        return 0
    try:
        broker.start()
    except (FileNotFoundError, RuntimeError) as e:
        print(e, file=sys.stderr)
        return 1
    print(f"A Kafka broker answers on {broker.address}, pid {broker.pid()}, in {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
