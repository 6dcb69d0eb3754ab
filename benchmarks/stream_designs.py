"""Starts the designs of stream benchmarks, each on its own topics."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.data import KEY, Workload
from benchmarks.flink import SHAPES, cluster_of
from benchmarks.stream_load import DUE, input_names, read_rows
from deploy.local.flink_cluster import FlinkCluster

PRISM, FLINK = "--runner=PrismRunner", "--runner=flink"
_READY_SECONDS = 120.0
# Shape of the Flink cluster: one TaskManager with two slots, like `make flink-up`.
_SHAPE = SHAPES["flink-1x2"]
# Module and further arguments of each design, by name.
DESIGNS = {
    "bare": ("benchmarks.stream_bare", ()),
    "scoreline": ("scoreline stream", ()),
    "target_100": ("scoreline stream", ("--latency_target_ms=100",)),
    "target_300": ("scoreline stream", ("--latency_target_ms=300",)),
    "exactly_once": ("scoreline stream", ("--exactly_once",)),
    "prism": ("scoreline stream", (PRISM,)),
    "flink": ("scoreline stream", (FLINK,)),
    "flink_exactly_once": ("scoreline stream", (FLINK, "--exactly_once")),
    "runinference": ("benchmarks.stream_runinference", (PRISM,)),
}
BUILD = Path("build")
Arrivals = Generator[list[tuple[float, float]], None, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A design and its load.

    Attributes:
      design: a name in DESIGNS.
      pattern: the distribution of flights over time.
      partitions: partitions of the source topic and of the output topic.
      rate: flights per second.
      seconds: duration of the load.
      warm_up: seconds at its start that do not count.
    """

    design: str
    pattern: str
    partitions: int
    rate: int
    seconds: float
    warm_up: float


class Running(NamedTuple):
    """A design that has scored a flight of each partition.

    Attributes:
      process: the started process; on Flink, the job's launcher.
      cluster: on Flink, the cluster that runs the job.
      topic: the topic of flights.
      output: the topic of scores.
      incoming: pairs of arrival and due time of scores, in ms.
    """

    process: psutil.Process
    cluster: FlinkCluster | None
    topic: str
    output: str
    incoming: Arrivals

    def used(self) -> tuple[float, float]:
        """Return CPU seconds and resident MB of all its processes, with their children."""
        parents = [self.process]
        if self.cluster is not None:
            records = self.cluster.processes.running().values()
            parents += [psutil.Process(record.pid) for record in records]
        seconds = size = 0.0
        for parent in parents:
            for each in (parent, *parent.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = each.cpu_times()
                    seconds += times.user + times.system
                    size += each.memory_info().rss / 1e6
        return seconds, size

    def scorers(self) -> list[psutil.Process]:
        """Return the processes that read, score and write; on Flink, the cluster's workers."""
        if self.cluster is not None:
            return self.cluster.workers()
        return [self.process, *self.process.children(recursive=True)]


def command_of(
    design: str,
    brokers: str,
    topic: str,
    output: str,
    work: Workload,
    partitions: int = 1,
    cluster: FlinkCluster | None = None,
) -> list[str]:
    """Return the command that starts a design.

    Args:
      design: a name in DESIGNS.
      brokers: addresses of the Kafka brokers.
      topic: the topic of flights.
      output: the topic of scores.
      work: the model and its inputs.
      partitions: partitions of the topic; on Flink also the readers, up to the cluster's slots.
      cluster: on Flink, the cluster that runs the job.
    """
    group = f"bench-{topic}"
    module, flags = DESIGNS[design]
    command = [sys.executable, "-m", *module.split()]
    if PRISM in flags:
        flags = (*flags, f"--prism_location={os.environ['PRISM']}")
    if cluster is not None:
        flags = (*flags, *cluster.arguments, f"--readers={min(partitions, _SHAPE.slots)}")
    if module != "scoreline stream":
        return [*command, brokers, topic, output, group, *flags]
    schema = BUILD / "stream.schema.json"
    schema.write_text(orjson.dumps({KEY: "int64", DUE: "float64"}).decode())
    command += [f"--brokers={brokers}", f"--topic={topic}", f"--output_topic={output}"]
    command += [f"--group={group}", f"--model={work.models['small']}", f"--keys={KEY}"]
    command += [f"--keep={DUE}", f"--schema={schema}"]
    return [*command, *(f"--fill={n}={v}" for n, v in work.fills.items()), *flags]


def arrivals(brokers: str, topic: str, partitions: int) -> Arrivals:
    """Yield arrival and due time of each score, in ms."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "bench-watch", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    try:
        while True:
            first = consumer.poll(0.05)
            messages = [first, *consumer.consume(10_000, 0)] if first is not None else []
            now = time.time() * 1000
            yield [
                (now, orjson.loads(m.value() or b"")[DUE]) for m in messages if m.error() is None
            ]
    finally:
        consumer.close()


@contextlib.contextmanager
def running(case: Case, brokers: str, work: Workload) -> Iterator[Running]:
    """Start a design on its own topics, and stop it after the block.

    The block begins after a flight of each partition is scored: all readers have a model.
    """
    run = uuid.uuid4().hex[:8]
    topic, output = f"bench-{run}-in", f"bench-{run}-out"
    admin = AdminClient({"bootstrap.servers": brokers})
    new = [NewTopic(name, case.partitions, 1) for name in (topic, output)]
    for made in admin.create_topics(new).values():
        made.result(30)
    case_name = f"{case.design}-{case.pattern}-{case.partitions}-{case.rate}"
    log = BUILD / "bench" / "logs" / f"stream-{case_name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        # Delete millions of records: a broker that writes old ones to disk delays the new ones.
        stack.callback(_delete, admin, (topic, output))
        cluster = None
        if FLINK in DESIGNS[case.design][1]:
            cluster = stack.enter_context(cluster_of(_SHAPE, BUILD / "bench"))
        command = command_of(case.design, brokers, topic, output, work, case.partitions, cluster)
        stream = stack.enter_context(log.open("w"))
        process = psutil.Popen(command, stdout=stream, stderr=stream)
        stack.callback(_end, process)
        incoming = arrivals(brokers, output, case.partitions)
        stack.callback(incoming.close)
        _warm(brokers, topic, case.partitions, work)
        deadline, scored = time.monotonic() + _READY_SECONDS, 0
        while scored < case.partitions:
            scored += len(next(incoming))
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(
                    f"expected {case.design} to score {case.partitions} flights within "
                    f"{_READY_SECONDS:.0f} s, got {scored}, see {log}"
                )
        yield Running(process, cluster, topic, output, incoming)


def _warm(brokers: str, topic: str, partitions: int, work: Workload) -> None:
    (row,) = read_rows(work, input_names(work.models["small"]))[:1]
    producer = Producer({"bootstrap.servers": brokers})
    for number in range(partitions):
        value = orjson.dumps({**row, DUE: 0.0})
        producer.produce(topic, key=b"warm", value=value, partition=number)
    producer.flush()


def _delete(admin: AdminClient, topics: Sequence[str]) -> None:
    for done in admin.delete_topics(list(topics)).values():
        done.result(30)


def _end(process: psutil.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
