"""Fixtures of real engines."""

from __future__ import annotations

import contextlib
import itertools
import os
import re

import psutil
import pytest

from deploy.local.kafka_broker import broker_jars
from deploy.local.processes import free_ports
from scoreline.pipelines.runners.cache import cache_folder
from tests.fakes import ROOT
from tests.flink import leave_jar, make_ready, start_cluster
from tests.forks import Fork, fork
from tests.kafka import make_topics, start_broker
from tests.required import fail_or_skip

_numbers = itertools.count()


@pytest.fixture(scope="session")
def prism():
    version = re.search(r"^BEAM_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    binary = cache_folder() / f"prism-{version}" / "prism"
    if not binary.exists():
        fail_or_skip(f"Prism, which is not built at {binary}: run `make prism`, which needs Go")
    return binary


@pytest.fixture(scope="session")
def reporter_ports():
    return free_ports(4)


@pytest.fixture(scope="session")
def flink_cluster(tmp_path_factory, reporter_ports):
    """One cluster for all tests, because its start takes longer than most tests."""
    folder = tmp_path_factory.mktemp("flink")
    leave_jar(folder)
    ports = ",".join(map(str, reporter_ports))
    fields = {"slots": 1, "heartbeat_timeout_ms": 5000, "prometheus_ports": ports}
    with start_cluster(folder, 2, **fields) as started:
        yield started


@pytest.fixture
def cluster(flink_cluster):
    """The cluster, repaired: no job, and two TaskManagers with one slot each."""
    make_ready(flink_cluster, task_managers=2, slots=1)
    return flink_cluster


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    if missing := broker_jars().missing_tools():
        fail_or_skip(f"every stream: Kafka needs {' and '.join(missing)}, not installed")
    broker = start_broker(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.kill()


@pytest.fixture
def topics(broker):
    """Three new topics of four partitions: input, output and dead letters."""
    broker.start()  # an earlier test may have killed it and failed
    number = next(_numbers)
    names = [f"{kind}-{number}" for kind in ("in", "out", "dead")]
    # Tests send records of 1970, which the broker would delete 30 s after its start.
    settings = {"max.message.bytes": "4000000", "retention.ms": "-1"}
    make_topics(broker.address, 4, *names, settings=settings)
    return names


@pytest.fixture
def stream_arguments(broker, topics, zoo, tmp_path):
    """Return a function that makes a command line from options; None leaves one out."""
    schema = tmp_path / "schema.json"
    schema.write_text('{"id": "int64"}')

    def make(*flags, **options):
        given = {
            "brokers": broker.address,
            "topic": topics[0],
            "group": f"group-of-{topics[0]}",
            "model": zoo("model.tflite"),
            "keys": "id",
            "schema": schema,
            "output_topic": topics[1],
            "dead_letter_topic": topics[2],
            **options,
        }
        return [*(f"--{k}={v}" for k, v in given.items() if v is not None), *flags]

    return make


@pytest.fixture
def start_stream(tmp_path):
    """Return a function that starts the command in a process, which ends with the test."""
    started: list[Fork] = []
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "COLUMNS": "400"}

    def run(arguments):
        with (tmp_path / "printed.txt").open("a") as printed:
            files = {"stdout": printed, "stderr": printed}
            process = fork("scoreline", "stream", *arguments, environment=environment, **files)
        process.printed = tmp_path / "printed.txt"
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
            for child in psutil.Process(process.pid).children():
                child.kill()
        process.kill()
        process.wait()
