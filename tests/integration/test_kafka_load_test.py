"""The driver of a load test, with a real stream on a real broker."""

import dataclasses
import os
import signal
import subprocess
import sys
import uuid

import numpy as np
import psutil
import pytest
from confluent_kafka.admin import AdminClient

from scoreline.pipelines.load_test.arrivals import find_due
from scoreline.pipelines.load_test.driver.child import ChildEnded
from scoreline.pipelines.load_test.driver.loads import HARNESS, Offer, StreamSubject
from scoreline.pipelines.load_test.driver.stream import StreamDriver
from scoreline.pipelines.load_test.driver.topics import PREFIX
from scoreline.pipelines.options.problems import BadOptions
from scoreline.transforms.kafka.client import Connection, read_bounds
from tests.fakes import ROOT
from tests.kafka import as_json, delete_topic, rows, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.fixture
def run():
    return uuid.uuid4().hex[:8]


@pytest.fixture
def argv(zoo, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"id": "int64"}')
    return (f"--model={zoo('model.tflite')}", "--keys=id", f"--schema={schema}")


@pytest.fixture
def driver(broker, argv, run, tmp_path):
    broker.start()
    subject = StreamSubject(
        connection=Connection(brokers=broker.address),
        argv=argv,
        values=(*(value for _, value in as_json(rows(0, 50))), b"no JSON"),
        partitions=3,
    )
    scaled = []
    with StreamDriver(subject, tmp_path / "test", run, scaled.append) as driver:
        driver.scaled = scaled
        yield driver
        children = psutil.Process().children(recursive=True)
    assert topics_of(broker, run) == []
    assert not [child for child in children if is_of_driver(child)]


def topics_of(broker, run):
    admin = AdminClient({"bootstrap.servers": broker.address})
    return [name for name in admin.list_topics(timeout=30).topics if f"{PREFIX}{run}" in name]


def is_of_driver(process):
    """Return whether a process belongs to a driver, and runs."""
    try:
        return "load_test.driver" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def offer_of(rate_per_s, seconds):
    due = find_due("poisson", rate_per_s, seconds, seed=1)
    return Offer(
        phase="ramp", shape="poisson", seed=1, due_s=due, warm_up_s=1.0, window_s=seconds - 1.0
    )


def test_each_record_of_a_load_is_seen_once_with_its_times(driver):
    driver.start(workers=1)
    window = driver.offer(offer_of(100, 6.0))
    assert driver.scaled == [1]
    assert 500 < window.due_s.size < 700
    assert (window.sent_s >= window.due_s).all()
    assert (window.scored_s > window.sent_s).all()  # none is without a score
    assert (window.extra_ids, window.lost_ids) == (0, 0)
    # Each 51st value is no JSON, from the first record of the topic on.
    numbers = 3 + np.arange(window.due_s.size)
    assert np.array_equal(window.is_dead, numbers % 51 == 50)
    (worker,) = window.worker_times
    counted = {stage.name: stage.rows for stage in worker.stages}
    assert counted["predict"] > 100  # of the window, to a second at each end
    assert window.memory_mb.max() > 50
    assert driver.can_take(1)


def test_a_backlog_is_worked_off_at_once(driver):
    driver.start(backlog=2000)
    drained = driver.drain(2000, 60.0)
    assert drained.scored_s.size == 2000
    assert (np.diff(drained.scored_s) >= 0).all()
    assert drained.begin_s <= drained.end_s


def test_records_go_to_the_partitions_that_are_asked_for(driver):
    driver._subject = dataclasses.replace(driver._subject, send_to=(0, 0, 0, 2))
    driver.start(replaced=HARNESS, backlog=400)
    connection, topic = driver._subject.connection, driver._topics.records
    consumer = connection.consumer("to look")
    ends = [read_bounds(consumer, topic, partition)[1] for partition in range(3)]
    consumer.close()
    assert ends == [300, 0, 100]


def test_the_harness_copies_each_record_once(driver):
    driver.start(replaced=HARNESS, backlog=5000)
    drained = driver.drain(5000, 60.0)
    assert drained.scored_s.size == 5000


def test_a_stage_that_does_nothing_is_left_out(driver):
    driver.start(replaced="predict")
    window = driver.offer(offer_of(100, 4.0))
    assert window.replaced == "predict"
    assert not np.isnan(window.scored_s).any()


def test_the_model_alone_is_measured_by_loadgen(driver):
    driver.start()
    found = driver.measure_model(100.0)
    assert found.server_rate_per_s == 100.0
    assert 0 < found.single_row_p90_ms < 1000
    assert found.server_p99_ms > 0
    assert found.offline_per_s > 1000 / found.single_row_p90_ms  # many rows cost less than one each
    without_rate = driver.measure_model(None)
    assert (without_rate.server_p99_ms, without_rate.server_rate_per_s) == (None, None)


def test_a_stream_that_dies_ends_the_load(driver):
    driver.start()
    os.kill(driver._scorer.pid, signal.SIGKILL)
    with pytest.raises(ChildEnded, match="the stream ended with exit code -9"):
        driver.offer(offer_of(100, 30.0))


def test_what_the_stream_refuses_is_told_in_its_words(broker, run, argv, tmp_path):
    broker.start()
    subject = StreamSubject(
        connection=Connection(brokers=broker.address),
        argv=(*argv, "--columns=nothing=id"),
        values=(b"{}",),
        partitions=1,
    )
    with (
        StreamDriver(subject, tmp_path / "test", run, lambda workers: None) as driver,
        pytest.raises(BadOptions, match=r"stream: .*nothing"),
    ):
        driver.start()
    assert topics_of(broker, run) == []


def test_a_broker_that_dies_ends_the_test_with_a_reason(broker, argv, tmp_path):
    broker.start()
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(value for _, value in as_json(rows(0, 9))))
    flags = [f"--records={tmp_path}/rows.jsonl", "--rate_per_s=50", f"--output={tmp_path}/report"]
    tested = ["stream", f"--brokers={broker.address}", *argv]
    process = subprocess.Popen(
        [sys.executable, "-m", "scoreline", "load-test", *flags, *tested],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: topics_of(broker, ""))
        broker.kill()
        out, _ = process.communicate(timeout=400)
    finally:
        process.kill()
        broker.start()
    assert process.returncode == 1, out
    assert "The test ended before its verdict" in out or "expected Kafka" in out
    assert "Traceback" not in out
    for name in topics_of(broker, ""):  # that a dead broker could not delete
        delete_topic(broker.address, name)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_test_leaves_no_topic_and_no_process(broker, argv, tmp_path, signal_number):
    broker.start()
    before = set(topics_of(broker, ""))
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(value for _, value in as_json(rows(0, 9))))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "scoreline", "load-test", f"--records={tmp_path}/rows.jsonl"),
            *("--rate_per_s=50", "--latency_ms=1000", f"--output={tmp_path}/report"),
            *("stream", f"--brokers={broker.address}", *argv),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: set(topics_of(broker, "")) - before)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal_number)
        out, _ = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == 130, out
    assert "there is no verdict" in out
    assert set(topics_of(broker, "")) == before
    # A process notices the end of the one that started it, and ends then.
    _, running = psutil.wait_procs(children, timeout=60)
    assert not running
