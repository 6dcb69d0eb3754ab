"""A local Kafka broker for trials and tests: `make kafka-up`, `make kafka-down`.

    python -m deploy.local.kafka_broker up --folder build/kafka --port 9092
    python -m deploy.local.kafka_broker down --folder build/kafka

It uses KRaft, so it is a single Java process. It listens on loopback only, without authentication:
not for production. Maven downloads the jars of kafka_broker/pom.xml into the cache once.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.maven import Jars
from deploy.local.processes import Processes, is_listening, wait_for
from scoreline.pipelines.runners.cache import cache_folder

KAFKA_VERSION = "4.1.1"
_BROKER = "broker"
_READY_SECONDS = 60.0
_CLUSTER_ID = "c2NvcmVsaW5lLWxvY2FsLTE"
_LOGGING = """\
<Configuration status="ERROR"><Appenders>
<Console name="out"><PatternLayout pattern="%d %p %c %m%n"/></Console>
</Appenders><Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def broker_jars() -> Jars:
    """Return the jars of the broker, of its fixed version."""
    folder = cache_folder() / f"kafka-{KAFKA_VERSION}"
    return Jars("a Kafka broker", Path(__file__).parent / "kafka_broker", folder)


@dataclasses.dataclass(kw_only=True)
class Broker:
    """One broker, with its settings, data, log and process record in one folder.

    Attributes:
      folder: the folder of the broker's files.
      port: port of the broker on loopback.
      controller_port: port of its controller on loopback.
      memory: maximum heap of Java.
      settings: settings of the server that add to, or replace, ours.
      owner: id of a process; the broker stops when it ends. None if there is no owner.
    """

    folder: Path
    port: int
    controller_port: int
    memory: str = "384m"
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    owner: int | None = None

    def __post_init__(self) -> None:
        """Attach to the broker of the folder; it need not run."""
        self.folder = self.folder.absolute()
        self.processes = Processes(self.folder)
        self._properties = self.folder / "server.properties"

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the broker, unless it runs, and wait until it answers. Existing data is kept.

        Raises:
          FileNotFoundError: Java or Maven is not installed.
          RuntimeError: it ended, did not answer in 60 s, or runs with other settings.
        """
        wanted = _to_properties(self._all_settings())
        if self.pid() is None:
            self._launch(broker_jars().fetch(), wanted)
        elif self._properties.read_text() != wanted:
            raise RuntimeError(
                f"Expected no Kafka broker in {self.folder}, got one with other settings than port "
                f"{self.port} and those asked for. Stop it first: make kafka-down"
            )
        wait_for(lambda: self._answers() or self.pid() is None, _READY_SECONDS)
        if not self._answers():
            self.kill()
            output = self.processes.tail(_BROKER)
            raise RuntimeError(f"The Kafka broker did not start on {self.address}: {output}")

    def _all_settings(self) -> dict[str, str]:
        controller = f"127.0.0.1:{self.controller_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": f"{self.folder}/data",
            "num.partitions": "1",
            "auto.create.topics.enable": "false",
            "message.max.bytes": "8388608",
            "replica.fetch.max.bytes": "8388608",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **self.settings,
        }

    def _launch(self, jars: Path, properties: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(properties)
        logging = self.folder / "log4j2.xml"
        logging.write_text(_LOGGING)
        java = ["java", f"-Xmx{self.memory}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        java += [f"-Dlog4j2.configurationFile={logging}", "-cp", f"{jars}/*"]
        if not (self.folder / "data" / "meta.properties").exists():
            tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID]
            command = [*java, *tool, "-c", str(self._properties)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"Cannot format the broker's folder: {done.stdout}{done.stderr}")
        command = [*java, "kafka.Kafka", str(self._properties)]
        if self.owner is not None:
            self.processes.stop_with(self.owner)
        self.processes.start(_BROKER, command, cwd=self.folder, env=os.environ)

    def pid(self) -> int | None:
        """Return the id of the broker's process; None if it does not run."""
        record = self.processes.running().get(_BROKER)
        return None if record is None else record.pid

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        if not is_listening(self.port):
            return False
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        try:
            return bool(client.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def stop(self) -> None:
        """Stop the broker and wait for its end. Idempotent."""
        self.processes.stop(list(self.processes.recorded()))

    def kill(self) -> None:
        """Kill the broker with SIGKILL, like a crash."""
        for process in self.processes.members(_BROKER):
            process.kill()
        self.stop()


def _to_properties(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Start or stop the broker of a folder."""
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
        print("The Kafka broker has stopped; its data stays in", given.folder)
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
