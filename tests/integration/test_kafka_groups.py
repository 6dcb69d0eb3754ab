"""Consumer groups: offsets that do not fit the topic, and other consumers."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from scoreline.pipelines import score_stream
from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.group import commit
from tests.fakes import read_scores
from tests.kafka import (
    as_json,
    committed,
    count_of,
    make_producer,
    rows,
    run_while,
    send,
    wait_until,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    """Look at topics often, so that the tests are short."""
    monkeypatch.setattr("scoreline.transforms.kafka.reader._DISCOVERY_SECONDS", 0.3)


def set_offsets(broker, group, topic, offsets):
    """Set offsets like kafka-consumer-groups.sh."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    at = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    wanted = ConsumerGroupTopicPartitions(group, at)
    for done in admin.alter_consumer_group_offsets([wanted]).values():
        done.result(120)


def test_offsets_of_a_group_that_are_not_of_the_topic_are_refused_before_the_first_record(
    broker, topics, stream_arguments, tmp_path, capsys
):
    source, group = topics[0], f"group-of-{topics[0]}"
    send(make_producer(broker.address), source, as_json(rows(0, 20)), partition=1)
    send(make_producer(broker.address), source, as_json(rows(20, 20)), partition=2)
    admin = AdminClient({"bootstrap.servers": broker.address})
    for done in admin.delete_records([TopicPartition(source, 2, 8)]).values():
        done.result(120)
    connection = Connection(brokers=broker.address)
    consumer = connection.consumer(group)
    cases = {
        "end": ({1: 1000}, "", "expected offset 20 or less for partition 1", "got 1000"),
        "start": ({2: 3}, "", "of partition 2 of topic", "from offset 3 of"),
        "another_topic": ({1: 5}, "old-id", "got offset 5 of id old-id for partition 1", "skip"),
    }
    tables = {"output": tmp_path / "scores", "output_topic": None}
    try:
        for name, (offsets, topic_id, *told) in cases.items():
            commit(consumer, source, {1: 0, 2: 8})
            commit(consumer, source, offsets, topic_id)
            for flags in ((), ("--until_end",), ("--check",), ("--until_end", "--exactly_once")):
                assert score_stream.main(stream_arguments(*flags)) == 2, (name, flags)
                err = capsys.readouterr().err
                assert "--group: expected " in err
                for text in told:
                    assert text in err, name
            if name != "another_topic":
                assert score_stream.main(stream_arguments("--until_end", **tables)) == 2
        assert count_of(broker.address, topics[1]) == 0
        assert committed(broker.address, group, source)[1] == 5
        # A table begins anew: it knows which records of which topic it has.
        assert score_stream.main(stream_arguments("--until_end", **tables)) == 0
        assert "created again since the last start: partitions 1 begin" in capsys.readouterr().out
        assert len(read_scores(tmp_path / "scores")) == 20 + 12
        # The way out that the message has for a move to another cluster.
        commit(consumer, source, {1: 15, 2: 20}, "old-id")
        set_offsets(broker, group, source, {1: 15, 2: 20})
        assert score_stream.main(stream_arguments("--until_end")) == 0
        assert count_of(broker.address, topics[1]) == 5
    finally:
        consumer.close()


@pytest.fixture
def other_consumer(broker, topics):
    """Return a function that joins the test's group with another consumer."""
    joined = []

    def join(protocol="classic"):
        group = f"group-of-{topics[0]}"
        settings = {"bootstrap.servers": broker.address, "group.id": group, "log_level": 0}
        settings |= {"client.id": "dashboard", "group.protocol": protocol}
        other = Consumer(settings)
        joined.append(other)
        other.subscribe([topics[0]])
        deadline = 1200
        while not other.assignment() and deadline:
            other.poll(0.1)
            deadline -= 1
        return other

    yield join
    for other in joined:
        other.close()


def test_a_consumer_that_has_joined_the_group_is_named_before_the_first_record(
    broker, topics, stream_arguments, tmp_path, capsys, other_consumer
):
    send(make_producer(broker.address), topics[0], as_json(rows(0, 20)))
    for protocol in ("classic", "consumer"):
        other = other_consumer(protocol)
        for flags, options in (
            (("--until_end",), {}),
            (("--exactly_once",), {}),
            (("--check",), {}),
            ((), {"start": "earliest"}),
            ((), {"output": tmp_path / "scores"}),
        ):
            assert score_stream.main(stream_arguments(*flags, **options)) == 2
            err = capsys.readouterr().err
            assert f"expected no other consumer in group group-of-{topics[0]}, got dashboard" in err
        other.close()
    assert count_of(broker.address, topics[1]) == 0
    assert score_stream.main(stream_arguments("--until_end")) == 0


@pytest.mark.parametrize("flags", [(), ("--exactly_once",)], ids=["at_least_once", "exactly_once"])
def test_a_consumer_that_joins_the_group_later_ends_the_job(
    broker, topics, stream_arguments, capsys, other_consumer, flags
):
    """Kafka itself would let transactions commit offsets beside another consumer."""
    send(make_producer(broker.address), topics[0], as_json(rows(0, 20)))

    def act():
        wait_until(lambda: count_of(broker.address, topics[1]) >= 20)
        other_consumer()

    assert run_while(stream_arguments(*flags), act) == 2
    assert "--group: " in capsys.readouterr().err
