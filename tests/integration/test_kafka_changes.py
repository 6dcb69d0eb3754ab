"""Topics, groups and records that change while a stream runs, or while it is down."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable, write_deltalake

from scoreline.pipelines import score_stream
from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.group import commit
from scoreline.transforms.kafka.reader import stop_reading
from tests.fakes import read_scores
from tests.kafka import (
    as_json,
    committed,
    count_of,
    delete_topic,
    make_anew,
    make_producer,
    rows,
    run_while,
    scores_of,
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


@pytest.fixture
def impatient(monkeypatch):
    """Return a context in which a bounded job waits 3 s for records, instead of 90 s."""

    @contextlib.contextmanager
    def shorten():
        with monkeypatch.context() as patched:
            patched.setattr("scoreline.transforms.kafka.bounded._PATIENCE_SECONDS", 3.0)
            patched.setattr("scoreline.transforms.kafka.bounded._MIN_POLLS", 3)
            yield

    return shorten


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
    broker, topics, stream_arguments, tmp_path, capsys, monkeypatch, sink
):
    group = f"group-of-{topics[0]}"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 50)), partition=1)
    if "output" in sink:  # it looks before it writes, or it would have records of both topics
        monkeypatch.setattr("scoreline.transforms.kafka.reader._DISCOVERY_SECONDS", 600.0)

    def act():
        wait_until(lambda: committed(broker.address, group, topics[0])[1] == 50)
        make_anew(broker.address, topics[0])
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


def test_a_topic_that_is_made_anew_with_fewer_records_is_not_taken_for_deleted_ones(
    broker, topics, stream_arguments, capsys
):
    """The position is behind the end of the new topic, and its partition is gone."""
    group = f"group-of-{topics[0]}"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 50)), partition=3)

    def act():
        wait_until(lambda: committed(broker.address, group, topics[0])[3] == 50)
        make_anew(broker.address, topics[0], partitions=2)
        send(make_producer(broker.address), topics[0], as_json(rows(100, 8)), partition=1)

    assert run_while(stream_arguments(), act) == 2
    assert f"--topic: expected topic {topics[0]} with id " in capsys.readouterr().err
    assert score_stream.main(stream_arguments("--until_end", start="earliest")) == 0
    ids = {score["id"] for score in scores_of(broker.address, topics[1])}
    assert ids == {*range(50), *range(100, 108)}


def test_a_job_whose_source_topic_is_deleted_ends_and_says_so(
    broker, topics, stream_arguments, capsys, monkeypatch
):
    monkeypatch.setattr("scoreline.transforms.kafka.topic_watch._GONE_SECONDS", 1.0)
    group = f"group-of-{topics[0]}"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 10)), partition=1)

    def act():
        wait_until(lambda: committed(broker.address, group, topics[0])[1] == 10)
        delete_topic(broker.address, topics[0])

    assert run_while(stream_arguments(), act) == 2
    err = capsys.readouterr().err
    assert f"--topic: expected topic {topics[0]}, got none: it was deleted while the job ran" in err


@pytest.mark.parametrize("which", [1, 2], ids=["output_topic", "dead_letter_topic"])
def test_an_output_topic_that_is_made_anew_ends_the_job(
    broker, topics, stream_arguments, capsys, which
):
    send(make_producer(broker.address), topics[0], as_json(rows(0, 10)))

    def act():
        wait_until(lambda: count_of(broker.address, topics[1]) == 10)
        make_anew(broker.address, topics[which])

    assert run_while(stream_arguments(), act) == 2
    err = capsys.readouterr().err
    flag = "--output_topic" if which == 1 else "--dead_letter_topic"
    assert f"{flag}: expected topic {topics[which]} with id " in err
    assert "Earlier results are gone with the old topic" in err


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


def begin_transaction(broker, topic, some):
    """Send rows to partition 1 in a transaction that stays open; return its producer."""
    producer = make_producer(broker.address, transactional_id=f"of-{topic}")
    producer.init_transactions(120)
    producer.begin_transaction()
    send(producer, topic, as_json(some), partition=1)
    return producer


@SINKS
def test_a_bounded_job_waits_for_an_open_transaction_or_names_its_partition(
    broker, topics, stream_arguments, tmp_path, capsys, impatient, sink
):
    group = f"group-of-{topics[0]}"
    producer = make_producer(broker.address)
    send(producer, topics[0], as_json(rows(0, 5)), partition=1)
    open_one = begin_transaction(broker, topics[0], rows(5, 2))
    send(producer, topics[0], as_json(rows(7, 11)), partition=1)
    arguments = arguments_of(stream_arguments, tmp_path, sink, "--until_end")

    def scores():
        if "output" in sink:
            return read_scores(tmp_path / "scores").to_pylist()
        return scores_of(broker.address, topics[1])

    with impatient():
        assert score_stream.main(arguments) == 1
    err = capsys.readouterr().err
    assert f"expected the records of partition 1 of topic {topics[0]} up to offset 18" in err
    assert "an open transaction has held back those from 5 on" in err
    assert len(scores()) == 5

    def act():
        wait_until(lambda: committed(broker.address, group, topics[0])[1] == 5)
        open_one.abort_transaction(120)

    assert run_while(arguments, act) == 0
    assert sorted(score["id"] for score in scores()) == [*range(5), *range(7, 18)]


def test_a_changed_byte_on_the_brokers_disk_ends_the_job(broker, topics, stream_arguments, capsys):
    send(make_producer(broker.address), topics[0], as_json(rows(0, 20)), partition=1)
    send(make_producer(broker.address), topics[0], as_json(rows(20, 20)), partition=1)
    (segment,) = broker.folder.rglob(f"{topics[0]}-1/*.log")
    content = bytearray(segment.read_bytes())
    at = content.index(b'"id": 30') + 6
    content[at : at + 1] = b"9"
    with segment.open("r+b") as file:
        file.write(content)
    assert score_stream.main(stream_arguments("--until_end")) == 1
    err = capsys.readouterr().err
    assert f"partition 1 of topic {topics[0]}" in err
    assert "CRC" in err
    assert {score["id"] for score in scores_of(broker.address, topics[1])} <= set(range(20))


def test_a_table_whose_owner_changes_a_column_ends_the_job(
    broker, topics, stream_arguments, tmp_path, capsys
):
    output = tmp_path / "scores"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 10)))

    def act():
        wait_until(lambda: DeltaTable.is_deltatable(str(output)) and len(read_scores(output)) == 10)
        table = read_scores(output)
        at = table.schema.get_field_index("y")
        table = table.set_column(at, "y", table["y"].cast(pa.string()))
        write_deltalake(
            output, table, mode="overwrite", schema_mode="overwrite", partition_by=["scored_date"]
        )
        send(make_producer(broker.address), topics[0], as_json(rows(10, 10)))

    arguments = stream_arguments(output=output, output_topic=None, flush_interval_s=0.1)
    assert run_while(arguments, act) == 2
    assert "--output: expected column 'y' as \"float\", the table has" in capsys.readouterr().err
    assert len(read_scores(output)) == 10


def test_settings_that_cannot_work_are_refused_before_the_first_record(
    broker, topics, stream_arguments, tmp_path, capsys
):
    send(make_producer(broker.address), topics[0], as_json(rows(0, 10)))
    config = tmp_path / "client.properties"
    for line, flags, told in (
        ("acks=1", (), "line 1: expected acks=all, got 1"),
        (
            "isolation.level=read_uncommitted",
            ("--exactly_once",),
            "expected isolation.level=read_c",
        ),
        ("receive.message.max.bytes=1000", (), "`receive.message.max.bytes` must be >="),
        ("no.such.setting=1", (), "No such configuration property"),
        ("compression.type=best", (), "Invalid value"),
    ):
        config.write_text(line + "\n")
        assert score_stream.main(stream_arguments("--until_end", *flags, kafka_config=config)) == 2
        err = capsys.readouterr().err
        assert "--kafka_config: " in err
        assert told in err
    assert count_of(broker.address, topics[1]) == 0


@pytest.mark.prism
def test_prism_ends_a_job_for_the_same_reasons(
    broker, topics, stream_arguments, prism, capsys, impatient
):
    group, options = f"group-of-{topics[0]}", {"runner": "PrismRunner", "prism_location": prism}
    open_one = begin_transaction(broker, topics[0], rows(0, 10))
    with impatient():
        assert score_stream.main(stream_arguments("--until_end", **options)) == 1
    assert "an open transaction has held back those from 0 on" in capsys.readouterr().err
    open_one.commit_transaction(120)

    def act():
        wait_until(lambda: committed(broker.address, group, topics[0])[1] == 10)
        make_anew(broker.address, topics[0])

    assert run_while(stream_arguments(**options), act) == 2
    err = capsys.readouterr().err
    assert f"The job ended: --topic: expected topic {topics[0]} with id " in err


def test_an_endless_job_tells_of_a_transaction_that_holds_records_back(
    broker, topics, stream_arguments, monkeypatch, capsys
):
    monkeypatch.setattr("scoreline.pipelines.stream_watch._LOOK_SECONDS", 0.3)
    monkeypatch.setattr("scoreline.pipelines.stream_watch._PATIENCE_SECONDS", 0.5)
    told, real = [], score_stream.say
    monkeypatch.setattr(score_stream, "say", lambda c, text: (told.append(text), real(c, text)))
    group, producer = f"group-of-{topics[0]}", make_producer(broker.address)
    send(producer, topics[0], as_json(rows(0, 5)), partition=1)
    open_one = begin_transaction(broker, topics[0], rows(5, 2))
    send(producer, topics[0], as_json(rows(7, 11)), partition=1)

    def act():
        wait_until(lambda: any("open transaction" in text for text in told))
        open_one.commit_transaction(120)
        wait_until(lambda: committed(broker.address, group, topics[0])[1] == 18)
        stop_reading.set()

    assert run_while(stream_arguments(), act) == 0
    err = capsys.readouterr().err
    assert f"holds back the records of partition 1 of topic {topics[0]} from offset 5 to 18" in err
    assert len(scores_of(broker.address, topics[1])) == 18
