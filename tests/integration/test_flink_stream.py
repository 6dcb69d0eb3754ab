"""Streams on a real Flink cluster: no kill loses a record, and a stop is clean."""

from __future__ import annotations

import os
import re

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from scoreline.pipelines import score_stream
from scoreline.pipelines.runners.flink_options import job_server_jar
from tests.fakes import ROOT, read_scores
from tests.flink import kill_workers
from tests.kafka import (
    Feed,
    as_json,
    assert_scored,
    committed,
    count_of,
    make_anew,
    make_producer,
    read_all,
    records_done,
    rows,
    scores_of,
    send,
    stop,
    wait_until,
)

pytestmark = [pytest.mark.flink, pytest.mark.kafka, pytest.mark.timeout(600)]
RECORDS = 20_000
WARM = 400


@pytest.fixture
def on_flink(cluster, stream_arguments):
    """Return a function that makes the command line of a stream with one reader per worker."""

    def make(*flags):
        return stream_arguments(
            *cluster.arguments,
            f"--flink_job_server_jar={job_server_jar()}",
            "--readers=2",
            "--checkpointing_interval=1000",
            *flags,
        )

    return make


@pytest.fixture
def start_warm(cluster, broker, topics, on_flink, start_stream):
    """Return a function that starts a stream and waits until all four partitions are read."""

    def start(*flags):
        before = offsets_of(broker, topics)
        process = start_stream(on_flink(*flags))
        for partition in before:
            warm = as_json(rows(-WARM, WARM // len(before)))
            send(make_producer(broker.address), topics[0], warm, partition=partition)

        def is_warm():
            assert process.poll() is None, process.printed.read_text()
            now = offsets_of(broker, topics)
            return all(now[partition] > before[partition] for partition in before)

        wait_until(is_warm, 240)
        return process

    return start


def offsets_of(broker, topics):
    """Return the group's offset in each partition of the source."""
    found = committed(broker.address, f"group-of-{topics[0]}", topics[0])
    return {partition: max(0, offset) for partition, offset in found.items()}


def wait_for_offsets(broker, topics, total):
    wait_until(lambda: records_done(broker, topics) == total, 240)


def scored(broker, topics):
    """Return the results of the records, without those of the warm-up."""
    return [score for score in scores_of(broker.address, topics[1]) if score["id"] >= 0]


def table_of(output):
    """Return the rows of the table, without those of the warm-up."""
    return [row for row in read_scores(output).to_pylist() if row["id"] >= 0]


def is_running(cluster):
    """Return whether the JobManager has a job whose tasks all run."""
    rest = cluster.rest
    jobs = [rest.job(job_id) for name, _ in rest.jobs() for job_id in rest.job_ids(name)]
    statuses = [[vertex["status"] for vertex in job["vertices"]] for job in jobs]
    return any(found and set(found) == {"RUNNING"} for found in statuses)


def kill_task_manager(cluster):
    psutil.Process(cluster.processes.recorded()[cluster.task_managers()[0]].pid).kill()


@pytest.mark.parametrize(
    ("kill", "flags"),
    [
        (kill_task_manager, ()),
        (kill_task_manager, ("--exactly_once",)),
        (kill_workers, ("--exactly_once",)),
    ],
    ids=["task_manager-at_least_once", "task_manager-exactly_once", "workers-exactly_once"],
)
def test_a_kill_in_mid_stream_loses_no_record_and_a_new_task_manager_is_used(
    cluster, broker, topics, start_warm, kill, flags
):
    process = start_warm(*flags)
    feed = Feed(broker.address, topics[0], topics[1:2])
    wait_until(lambda: count_of(broker.address, topics[1]) > WARM + RECORDS // 4)
    kill(cluster)
    assert records_done(broker, topics) < WARM + RECORDS
    feed.finish()
    wait_for_offsets(broker, topics, WARM + RECORDS)
    cluster.scale(2)
    wait_until(lambda: len(cluster.workers()) == 2, 120)
    send(make_producer(broker.address), topics[0], as_json(rows(RECORDS, 1000)))
    wait_for_offsets(broker, topics, WARM + RECORDS + 1000)
    assert "Flink restarts the job" in stop(process)
    assert_scored(scored(broker, topics), RECORDS + 1000, exactly_once=bool(flags))


def test_a_job_that_died_with_its_job_manager_is_started_again(cluster, broker, topics, start_warm):
    process = start_warm("--exactly_once", "--restart")
    feed = Feed(broker.address, topics[0], topics[1:2])
    wait_until(lambda: count_of(broker.address, topics[1]) > WARM + RECORDS // 4)
    job_manager = psutil.Process(cluster.processes.recorded()["jobmanager"].pid)
    job_manager.kill()
    job_manager.wait(150)
    assert records_done(broker, topics) < WARM + RECORDS
    cluster.up(cluster.spec, 2)
    feed.finish()
    # The lost job runs on for a while. It has ended when another job gets its slots.
    wait_until(lambda: is_running(cluster), 240)
    send(make_producer(broker.address), topics[0], as_json(rows(RECORDS, 1000)))
    wait_for_offsets(broker, topics, WARM + RECORDS + 1000)
    out = stop(process)
    assert "does not have the job any more: its JobManager restarted" in out
    assert "The job ended with exit code 1; restarting in 1 s" in out
    assert_scored(scored(broker, topics), RECORDS + 1000, exactly_once=True)


def test_a_table_has_each_record_once_though_workers_die_with_rows_that_wait(
    cluster, broker, topics, on_flink, start_stream, start_warm, tmp_path
):
    output = tmp_path / "scores"
    process = start_warm(f"--output={os.path.relpath(output, ROOT)}", "--flush_interval_s=1")
    feed = Feed(broker.address, topics[0], topics[1:2])
    wait_until(lambda: records_done(broker, topics) > WARM + RECORDS // 4)
    kill_workers(cluster)
    assert records_done(broker, topics) < WARM + RECORDS
    feed.finish()
    wait_for_offsets(broker, topics, WARM + RECORDS)
    assert "Flink restarts the job" in stop(process)
    assert_scored(table_of(output), RECORDS, exactly_once=True)
    assert_scored(scored(broker, topics), RECORDS, exactly_once=False)

    # Rows that wait for their file when the job stops may be left to the next start.
    process = start_stream(on_flink(f"--output={output}", "--flush_interval_s=3600"))
    before = len(scored(broker, topics))
    send(make_producer(broker.address), topics[0], as_json(rows(RECORDS, 1000)))
    wait_until(lambda: len(scored(broker, topics)) >= before + 1000, 240)
    stop(process)
    process = start_stream(on_flink(f"--output={output}", "--flush_interval_s=1"))
    # There may be no rows left, so send one more record to see that this job runs.
    send(make_producer(broker.address), topics[0], as_json(rows(RECORDS + 1000, 100)))
    wait_for_offsets(broker, topics, WARM + RECORDS + 1100)
    stop(process)
    assert_scored(table_of(output), RECORDS + 1100, exactly_once=True)


def test_a_stop_is_in_order_and_its_savepoint_is_where_a_job_without_a_group_goes_on(
    cluster, broker, topics, on_flink, start_stream, start_warm, capsys
):
    process = start_warm()
    assert score_stream.main(on_flink()) == 2
    assert f"expected no job of group group-of-{topics[0]}" in capsys.readouterr().err
    producer = make_producer(broker.address)
    bad = b'{"id": 1, "a": 1e39, "b": 1}'
    producer.produce(topics[0], bad, headers=[("own", b"1")], timestamp=1_600_000_000_000)
    send(producer, topics[0], as_json(rows(0, 1000)))
    wait_for_offsets(broker, topics, WARM + 1001)
    out = stop(process, expected=3)
    (savepoint,) = re.findall(r"stopped; the savepoint is (file:\S+)", out)
    assert "read 1,401 records, scored 1,400, dead letters 1" in out
    (letter,) = read_all(broker.address, topics[2])
    assert letter.value() == bad
    assert letter.headers()[0] == ("own", b"1")
    assert letter.timestamp()[1] == 1_600_000_000_000

    group = f"group-of-{topics[0]}"  # like after its offsets have expired
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.delete_consumer_groups([group])[group].result(120)
    process = start_stream(on_flink(f"--savepoint_path={savepoint}"))
    send(producer, topics[0], as_json(rows(1000, 1000)))
    wait_for_offsets(broker, topics, WARM + 2001)
    kill_workers(cluster)
    send(producer, topics[0], as_json(rows(2000, 1000)))
    wait_for_offsets(broker, topics, WARM + 3001)
    assert "Flink restarts the job" in stop(process)
    # If no record is in flight when a worker dies, there are no duplicates.
    assert len(scored(broker, topics)) == 3000
    assert_scored(scored(broker, topics), 3000, exactly_once=True)


def test_a_job_whose_topic_is_made_anew_ends_and_is_not_restarted_by_flink(
    cluster, broker, topics, start_warm
):
    process = start_warm()
    make_anew(broker.address, topics[0])
    send(make_producer(broker.address), topics[0], as_json(rows(0, 400)))
    assert process.wait(120) == 2
    out = process.printed.read_text()
    assert f"The job ended: --topic: expected topic {topics[0]} with id " in out
    assert "Start the job again with --start=earliest" in out
    assert not is_running(cluster)
