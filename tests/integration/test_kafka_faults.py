"""Streams whose brokers hang, are slow, or have deleted unread records."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import psutil
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
)

from deploy.local.kafka_broker import broker_jars
from scoreline.pipelines import score_stream
from tests.kafka import (
    Feed,
    as_json,
    assert_scored,
    committed,
    count_of,
    make_producer,
    make_topics,
    rows,
    scores_of,
    send,
    stop,
    wait_until,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
RECORDS = 20_000
AWAY_SECONDS = 20


@pytest.fixture
def two_streams(broker, topics, stream_arguments):
    """Two jobs on one topic, at least once and exactly once: command line, group and topic."""
    other = f"{topics[1]}-once"
    make_topics(broker.address, 4, other)

    def make(flags=(), **options):
        group = f"group-of-{topics[0]}"
        return [
            (stream_arguments(**options), group, topics[1]),
            (
                stream_arguments(
                    *flags,
                    "--exactly_once",
                    group=f"{group}-once",
                    output_topic=other,
                    **options,
                ),
                f"{group}-once",
                other,
            ),
        ]

    return make


def is_done(broker, topic, groups, count):
    return all(sum(committed(broker.address, g, topic).values()) == count for g in groups)


def test_a_broker_that_is_away_for_20_s_loses_nothing(
    broker, topics, two_streams, start_stream, tmp_path
):
    streams = two_streams(flags=("--restart",))
    heartbeat = tmp_path / "heartbeat"
    streams[0][0].append(f"--heartbeat_file={heartbeat}")
    processes = [start_stream(arguments) for arguments, _, _ in streams]
    outputs = [output for _, _, output in streams]
    feed = Feed(broker.address, topics[0], outputs)
    wait_until(lambda: all(count_of(broker.address, o) > RECORDS // 4 for o in outputs))
    os.kill(broker.pid(), signal.SIGSTOP)
    try:
        time.sleep(AWAY_SECONDS)  # the fault itself
    finally:
        os.kill(broker.pid(), signal.SIGCONT)
    feed.finish()
    wait_until(lambda: is_done(broker, topics[0], [g for _, g, _ in streams], RECORDS))
    os.utime(heartbeat, (1, 1))
    wait_until(lambda: heartbeat.stat().st_mtime > 1)  # it lives, although no record arrives
    for process in processes:  # at least once: it was never restarted
        stop(process)
    assert_scored(scores_of(broker.address, outputs[0]), RECORDS, exactly_once=False)
    assert_scored(scores_of(broker.address, outputs[1]), RECORDS, exactly_once=True)


def limit_producers(broker, client_id, bytes_per_second):
    """Slow down the producers of a client id with Kafka's own quota."""
    command = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", f"{broker_jars().fetch()}/*"]
    command += ["kafka.admin.ConfigCommand", "--bootstrap-server", broker.address, "--alter"]
    command += ["--add-config", f"producer_byte_rate={bytes_per_second}"]
    command += ["--entity-type", "clients", "--entity-name", client_id]
    subprocess.run(command, check=True, capture_output=True, timeout=150)


def test_a_slow_sink_takes_time_and_no_memory(broker, topics, two_streams, start_stream, tmp_path):
    count, bytes_each = 8_000, 100_000  # 800 MB wait in the topic
    limit_producers(broker, "slow", 100_000)
    config = tmp_path / "client.properties"
    config.write_text("client.id=slow\ncompression.type=none\n")
    padded = (
        # The same record ten times: sending distinct ones would take longer than the test.
        {**row, "padding": os.urandom(bytes_each // 20).hex() * 10}
        for row in rows(1, count - 1)
    )
    producer = make_producer(broker.address, compression="lz4")
    send(producer, topics[0], as_json(rows(0, 1)))
    streams = two_streams(kafka_config=config)
    started = [start_stream(arguments) for arguments, _, _ in streams]
    wait_until(lambda: all(count_of(broker.address, output) for _, _, output in streams))
    processes = [psutil.Process(process.pid) for process in started]
    idle = max(process.memory_info().rss for process in processes)
    send(producer, topics[0], as_json(padded))
    most = 0

    def is_scored():
        nonlocal most
        most = max(most, *(process.memory_info().rss for process in processes))
        return is_done(broker, topics[0], [group for _, group, _ in streams], count)

    wait_until(is_scored, 150)
    for process in started:  # neither failed
        stop(process)
    for _, _, output in streams:
        scores = scores_of(broker.address, output)
        assert_scored(scores, count, exactly_once=True)
        times = [score["scored_time_ms"] for score in scores]
        assert max(times) - min(times) > 5_000  # delivery was slow
    print(f"the larger of the two took {idle / 1e6:.0f} MB before, and at most {most / 1e6:.0f} MB")
    assert most - idle < count * bytes_each / 2  # the backlog stayed in Kafka


def test_records_that_were_deleted_unread_are_not_passed_over(
    broker, topics, stream_arguments, capsys
):
    producer = make_producer(broker.address)
    send(producer, topics[0], as_json(rows(0, 100)), partition=1)
    assert score_stream.main(stream_arguments("--until_end")) == 0
    send(producer, topics[0], as_json(rows(100, 100)), partition=1)
    admin = AdminClient({"bootstrap.servers": broker.address})
    for done in admin.delete_records([TopicPartition(topics[0], 1, 150)]).values():
        done.result(120)
    capsys.readouterr()
    assert score_stream.main(stream_arguments("--until_end")) == 2
    err = capsys.readouterr().err
    assert f"expected the records of partition 1 of topic {topics[0]} from offset 100 of" in err
    assert "but the first one is 150. The others were deleted unread. Continue with the" in err
    assert count_of(broker.address, topics[1]) == 100
    assert score_stream.main(stream_arguments("--until_end", start="earliest")) == 0
    ids = [score["id"] for score in scores_of(broker.address, topics[1])]
    assert sorted(ids) == [*range(100), *range(150, 200)]


def test_a_group_that_others_reset_while_the_job_is_down_goes_on_from_there(
    broker, topics, stream_arguments
):
    group = f"group-of-{topics[0]}"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 100)), partition=2)
    assert score_stream.main(stream_arguments("--until_end", "--exactly_once")) == 0
    admin = AdminClient({"bootstrap.servers": broker.address})
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topics[0], 2, 40)])
    for done in admin.alter_consumer_group_offsets([wanted]).values():
        done.result(120)
    assert score_stream.main(stream_arguments("--until_end", "--exactly_once")) == 0
    ids = [score["id"] for score in scores_of(broker.address, topics[1])]
    assert sorted(ids) == sorted([*range(100), *range(40, 100)])
    assert committed(broker.address, group, topics[0])[2] == 100
