"""Topics, groups and records that change while a stream runs, or while it is down."""

from __future__ import annotations

import threading

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from scoreline.pipelines import score_stream
from scoreline.transforms.kafka.reader import stop_reading
from tests.fakes import read_scores
from tests.kafka import (
    as_json,
    committed,
    count_of,
    make_producer,
    make_topics,
    rows,
    scores_of,
    send,
    wait_until,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    """Look at topics often, so that the tests are short."""
    monkeypatch.setattr("scoreline.transforms.kafka.reader._DISCOVERY_SECONDS", 0.3)
    monkeypatch.setattr("scoreline.transforms.kafka.reader._TRANSACTION_SECONDS", 2.0)
    monkeypatch.setattr("scoreline.transforms.kafka.topic_watch._GONE_SECONDS", 1.0)


def run_while(arguments, act):
    """Run a stream in this process while a thread acts; return its exit code.

    A stream that does not end within a minute is stopped, which is code 0.
    """
    failed = []

    def run():
        try:
            act()
        except BaseException as e:
            failed.append(e)
            stop_reading.set()

    thread = threading.Thread(target=run)
    watchdog = threading.Timer(60, stop_reading.set)
    thread.start()
    watchdog.start()
    try:
        return score_stream.main(arguments)
    finally:
        watchdog.cancel()
        thread.join()
        assert not failed, failed


def delete_topic(broker, topic):
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics)


def make_anew(broker, topic, partitions=4):
    delete_topic(broker, topic)
    make_topics(broker.address, partitions, topic, settings={"retention.ms": "-1"})


def set_offsets(broker, group, topic, offsets):
    """Set offsets like kafka-consumer-groups.sh."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    at = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    wanted = ConsumerGroupTopicPartitions(group, at)
    for done in admin.alter_consumer_group_offsets([wanted]).values():
        done.result(30)


SINKS = pytest.mark.parametrize(
    "sink",
    [{}, {"exactly_once": True}, {"output": "scores", "output_topic": None}],
    ids=["topic", "exactly_once", "table"],
)


def arguments_of(stream_arguments, tmp_path, sink, *flags, **options):
    """Return a command line with the flags of a sink."""
    sink = {**sink, **options}
    flags = [*flags, *(["--exactly_once"] if sink.pop("exactly_once", False) else [])]
    if "output" in sink:
        sink |= {"output": tmp_path / sink["output"], "flush_interval_s": 0.1}
    return stream_arguments(*flags, **sink)


@SINKS
def test_a_source_topic_that_is_made_anew_ends_the_job_and_nothing_is_skipped(
    broker, topics, stream_arguments, tmp_path, capsys, sink
):
    group = f"group-of-{topics[0]}"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 50)), partition=1)

    def act():
        wait_until(lambda: committed(broker.address, group, topics[0])[1] == 50)
        make_anew(broker, topics[0])
        send(make_producer(broker.address), topics[0], as_json(rows(100, 80)), partition=1)

    code = run_while(arguments_of(stream_arguments, tmp_path, sink), act)
    err = capsys.readouterr().err
    assert f"--topic: expected topic {topics[0]} with id " in err
    again = arguments_of(stream_arguments, tmp_path, sink, "--until_end")
    if "output" in sink:  # the table has the id of the topic with each offset
        assert code == 1
        assert score_stream.main(again) == 0
        ids = [row["id"] for row in read_scores(tmp_path / "scores").to_pylist()]
        assert sorted(ids) == [*range(50), *range(100, 180)]
        return
    assert code == 2
    assert "with --start=earliest" in err
    if committed(broker.address, group, topics[0])[1] > 0:  # it read on before the look
        assert score_stream.main(again) == 2
        assert "got offset " in capsys.readouterr().err
    again = arguments_of(stream_arguments, tmp_path, sink, "--until_end", start="earliest")
    assert score_stream.main(again) == 0
    ids = {score["id"] for score in scores_of(broker.address, topics[1])}
    assert ids == {*range(50), *range(100, 180)}
