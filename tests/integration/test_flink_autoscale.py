"""A worker is added to a real cluster under a backlog, and removed after it."""

from __future__ import annotations

import json

import pytest

from demo.waiting_model import save_waiting
from deploy.local.flink_autoscale import Autoscaler, GroupLag, count_running
from deploy.local.scaling_rule import Known, Rule
from scoreline.pipelines.runners.flink_options import job_server_jar
from scoreline.transforms.kafka.client import Connection
from tests.kafka import assert_scored, make_producer, scores_of, send, stop, wait_until

pytestmark = [pytest.mark.flink, pytest.mark.kafka, pytest.mark.timeout(600)]
# 8 s of work for one worker.
RECORDS, US_PER_ROW = 4000, 2000
RULE = Rule(max_workers=2, readers=2, catch_up_s=4.0, window_s=2.0, remove_after_s=1.0)


@pytest.fixture
def scaler_of(cluster, broker):
    """Return a function that starts the autoscaler of a topic; it ends with the test."""
    started = []

    def start(topic):
        lag = GroupLag(Connection(brokers=broker.address), topic, f"group-of-{topic}")
        scaler = Autoscaler(cluster, lag, RULE, known=Known(1e6 / US_PER_ROW))
        started.append(scaler)
        scaler.start()
        return scaler

    yield start
    for scaler in started:
        scaler.stop()


def test_a_worker_is_added_under_a_backlog_and_removed_after_it(
    cluster, broker, topics, stream_arguments, start_stream, scaler_of, tmp_path
):
    cluster.scale(1)
    client = tmp_path / "client.properties"  # a restart waits for the end of a call: make it short
    client.write_text("queued.max.messages.kbytes=32\nfetch.message.max.bytes=32768\n")
    process = start_stream(
        stream_arguments(
            *cluster.arguments,
            f"--flink_job_server_jar={job_server_jar()}",
            f"--kafka_config={client}",
            "--readers=2",
            "--parallelism=2",
            "--checkpointing_interval=1000",
            "--exactly_once",
            model=save_waiting(tmp_path / "waiting", us_per_row=US_PER_ROW),
        )
    )
    wait_until(lambda: count_running(cluster.rest) == 1, 240)
    scaler = scaler_of(topics[0])
    records = [(b"%d" % i, json.dumps({"id": i, "x": float(i)}).encode()) for i in range(RECORDS)]
    send(make_producer(broker.address), topics[0], records)

    def is_scaled_to(workers):
        assert scaler.is_working
        assert process.poll() is None, process.printed.read_text()
        return scaler.changes and scaler.changes[-1].decision.workers == workers

    # It looks only at a job that runs on all workers, so the job has run on both in between.
    wait_until(lambda: is_scaled_to(2), 240)
    wait_until(lambda: is_scaled_to(1), 240)
    wait_until(lambda: count_running(cluster.rest) == 1, 240)
    assert cluster.slots().task_managers == 1
    assert [(change.before, change.decision.workers) for change in scaler.changes] == [
        (1, 2),
        (2, 1),
    ]
    stop(process)
    assert_scored(scores_of(broker.address, topics[1]), RECORDS, exactly_once=True)
