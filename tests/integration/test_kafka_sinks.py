"""Tables as sinks of a stream, on a real broker, with kills."""

from __future__ import annotations

import datetime as dt
import signal

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from scoreline.lake.elements import Reading, RecordKey
from scoreline.pipelines import score_stream
from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.group import commit
from scoreline.transforms.kafka.holding import holding_of
from scoreline.transforms.kafka.positions import Positions
from scoreline.transforms.kafka.producer import WriteSpec
from scoreline.transforms.kafka.reader import Reader, TopicSpec
from scoreline.transforms.kafka.records import KEY, OFFSET, PARTITION, TIME_MS, TOPIC
from scoreline.transforms.kafka.write import _WriteDoFn
from tests.fakes import read_scores, store_that_is_away
from tests.kafka import (
    Feed,
    as_json,
    assert_scored,
    committed,
    count_of,
    make_producer,
    make_topics,
    read_all,
    records_done,
    rows,
    scores_of,
    send,
    stop,
    wait_until,
)
from tests.processes import run_to_death

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
RECORDS = 20_000


def table_of(output):
    """Return the rows of a table that may not exist yet."""
    there = DeltaTable.is_deltatable(str(output))
    return read_scores(output).to_pylist() if there else []


def test_the_table_holds_what_the_topic_does_with_types(
    broker, topics, stream_arguments, tmp_path, capsys
):
    output = tmp_path / "scores"
    producer = make_producer(broker.address)
    send(producer, topics[0], [*as_json(rows(0, 2000)), (b"k", b"not JSON")], timestamp=1_000)
    assert score_stream.main(stream_arguments("--until_end", output=output)) == 3
    table = read_scores(output)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "id": "int64",
        "y": "float",
        "model_digest": "string",
        "source_topic": "string",
        "source_partition": "int32",
        "source_offset": "int64",
        "event_time": "timestamp[us, tz=UTC]",
        "scored_time": "timestamp[us, tz=UTC]",
        "scored_date": "string",
    }
    found = table.to_pylist()
    assert_scored(found, 2000, exactly_once=True)
    assert {row["event_time"] for row in found} == {dt.datetime(1970, 1, 1, 0, 0, 1, 0, dt.UTC)}
    assert {row["scored_date"] for row in found} == {
        row["scored_time"].date().isoformat() for row in found
    }
    same = ("id", "y", "model_digest", "source_topic", "source_partition", "source_offset")
    in_topic = {tuple(row[name] for name in same) for row in scores_of(broker.address, topics[1])}
    assert {tuple(row[name] for name in same) for row in found} == in_topic
    assert records_done(broker, topics) == 2001
    assert len(read_all(broker.address, topics[2])) == 1

    # The same group takes no record twice, and a reset of the group is refused before the start.
    assert score_stream.main(stream_arguments("--until_end", output=output, start="earliest")) == 2
    assert "has these records from group" in capsys.readouterr().err
    assert records_done(broker, topics) == 2001
    arguments = stream_arguments("--until_end", output=output, start="latest")
    assert score_stream.main(arguments) == 0
    assert len(table_of(output)) == 2000

    capsys.readouterr()
    assert score_stream.main(stream_arguments("--check", output=output)) == 0
    assert "event_time timestamp[us, tz=UTC], scored_time" in capsys.readouterr().out
    changed = stream_arguments("--until_end", output=output, outputs="y=other")
    assert score_stream.main(changed) == 2
    assert "--output: expected column 'other' as" in capsys.readouterr().err


def test_killed_between_table_and_offsets_each_record_is_in_the_table_once(
    broker, topics, stream_arguments, tmp_path, monkeypatch
):
    output = tmp_path / "scores"
    producer = make_producer(broker.address)
    send(producer, topics[0], as_json(rows(0, 5000)))
    arguments = stream_arguments("--until_end", output=output)
    ended = run_to_death("delivered", "stream", *arguments)
    assert ended.code == -signal.SIGKILL
    assert_scored(table_of(output), 5000, exactly_once=True)
    assert records_done(broker, topics) == 0

    send(producer, topics[0], as_json(rows(5000, 1000)))
    assert score_stream.main(arguments) == 0
    assert_scored(table_of(output), 6000, exactly_once=True)
    assert_scored(scores_of(broker.address, topics[1]), 6000, exactly_once=True)
    assert records_done(broker, topics) == 6000

    # If a runner restarts a worker, nothing is planned again: the sink itself must detect it.
    consumer = Connection(brokers=broker.address).consumer(f"group-of-{topics[0]}")
    commit(consumer, topics[0], dict.fromkeys(range(4), 100))
    consumer.close()
    monkeypatch.setattr("scoreline.pipelines.stream_setup.advance_group", lambda *args: {})
    send(producer, topics[0], as_json(rows(6000, 500)))
    assert score_stream.main(arguments) == 0
    assert_scored(table_of(output), 6500, exactly_once=True)
    assert len(scores_of(broker.address, topics[1])) == 6000 + 6500 - 400
    assert records_done(broker, topics) == 6500


def test_killed_in_mid_stream_the_table_has_each_record_once(
    broker, topics, stream_arguments, start_stream, tmp_path
):
    output = tmp_path / "scores"
    feed = Feed(broker.address, topics[0], topics[1:2])
    options = {"output": output, "flush_interval_s": 0.3}
    killed = start_stream(stream_arguments(**options))
    wait_until(lambda: len(table_of(output)) > RECORDS // 8)
    killed.kill()
    killed.wait()
    assert len(table_of(output)) < RECORDS
    feed.finish()
    assert score_stream.main(stream_arguments("--until_end", **options)) == 0
    assert_scored(table_of(output), RECORDS, exactly_once=True)
    assert_scored(scores_of(broker.address, topics[1]), RECORDS, exactly_once=False)
    assert records_done(broker, topics) == RECORDS


def test_the_last_rows_of_a_stream_that_is_silent_come_by_themselves(
    broker, topics, stream_arguments, start_stream, tmp_path
):
    output = tmp_path / "scores"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 100)))
    process = start_stream(stream_arguments(output=output, output_topic=None, flush_interval_s=1))
    wait_until(lambda: len(table_of(output)) == 100)
    wait_until(lambda: records_done(broker, topics) == 100)
    assert "scored 100, dead letters 0" in stop(process)
    assert read_all(broker.address, topics[1]) == []


def test_a_clean_stop_writes_waiting_rows(broker, topics, stream_arguments, start_stream, tmp_path):
    output = tmp_path / "scores"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 100)))
    process = start_stream(stream_arguments(output=output, flush_interval_s=3600))
    wait_until(lambda: len(read_all(broker.address, topics[1])) == 100)
    assert table_of(output) == []
    assert records_done(broker, topics) == 0
    stop(process)
    assert_scored(table_of(output), 100, exactly_once=True)
    assert DeltaTable(str(output)).version() == 1
    assert records_done(broker, topics) == 100


def test_a_table_that_cannot_be_written_ends_the_job_and_nothing_is_lost(
    broker, topics, stream_arguments, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "scores"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 100)))
    arguments = stream_arguments("--until_end", output=output)

    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("scoreline.transforms.kafka.append.StagedFile", fail)
    assert score_stream.main(arguments) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert records_done(broker, topics) == 0
    monkeypatch.undo()
    assert score_stream.main(arguments) == 0
    assert_scored(table_of(output), 100, exactly_once=True)


def test_a_record_whose_time_is_in_nanoseconds_costs_its_time_only(
    broker, topics, stream_arguments, tmp_path
):
    source = f"{topics[0]}-ns"  # brokers before Kafka 3.6 accept any timestamp
    make_topics(broker.address, 1, source, settings={"message.timestamp.after.max.ms": str(2**62)})
    at_ns = 1_700_000_000_000_000_000
    send(make_producer(broker.address), source, as_json(rows(0, 100)))
    send(make_producer(broker.address), source, as_json(rows(100, 1)), timestamp=at_ns)
    output = tmp_path / "scores"
    options = {"topic": source, "output": output}
    assert score_stream.main(stream_arguments("--until_end", **options)) == 0
    times = {row["id"]: row["event_time"] for row in table_of(output)}
    assert set(times) == set(range(101))
    assert [i for i, time in times.items() if time is None] == [100]
    sent = {score["id"]: score["event_time_ms"] for score in scores_of(broker.address, topics[1])}
    assert sent[100] == at_ns


def test_a_table_that_cannot_be_read_needs_a_person_and_a_store_that_is_away_does_not(
    broker, topics, stream_arguments, tmp_path, capsys
):
    (tmp_path / "scores" / "_delta_log").mkdir(parents=True)
    (tmp_path / "scores" / "_delta_log" / f"{0:020}.json").write_text("{")
    assert score_stream.main(stream_arguments("--until_end", output=tmp_path / "scores")) == 2
    assert "--output: " in capsys.readouterr().err
    away = store_that_is_away()
    assert score_stream.main(stream_arguments("--until_end", output=away)) == 1
    assert "--output: google::cloud::Status(UNAVAILABLE" in capsys.readouterr().err


def test_a_reader_begins_where_the_group_is_and_not_where_the_runner_was(broker, topics):
    """A runner restores the reader's offsets from its state, but rows in memory are lost."""
    send(make_producer(broker.address), topics[0], as_json(rows(0, 10)), partition=0)
    spec = TopicSpec(
        connection=Connection(brokers=broker.address), topic=topics[0], group="g", is_held=True
    )
    consumer = spec.connection.consumer("g")
    commit(consumer, topics[0], {0: 4})
    consumer.close()
    reading, restored = Reading(topics[0], 0, 1), Positions({0: 9, 1: 0})
    holding = holding_of(broker.address, "g", topics[0], 0)
    reader, second = Reader(spec, reading, restored), None
    try:
        assert reader.go_to(restored) == {0: 4, 1: 0}
        assert reader.go_to(restored) == {0: 9, 1: 0}, "what it is told from then on is true"
        holding.offsets = {0: 6}  # the sink of this process holds the rows
        second = Reader(spec, reading, restored)
        assert second.go_to(restored) == {0: 6, 1: 0}
        holding.offsets = {}
        holding.losses += 1  # and now it has lost them
        assert reader.go_to(restored) == {0: 4, 1: 0}
    finally:
        for each in (reader, second):
            if each is not None:
                each.close()


def test_offsets_of_silent_partitions_are_committed_again(broker, topics, monkeypatch):
    """Otherwise Kafka expires them after days. Its own topic shows the new commit."""
    monkeypatch.setattr("scoreline.transforms.kafka.reader._KEEP_SECONDS", 0.0)
    send(make_producer(broker.address), topics[0], as_json(rows(0, 10)), partition=0)
    group = f"group-of-{topics[0]}"
    spec = TopicSpec(connection=Connection(brokers=broker.address), topic=topics[0], group=group)
    consumer = spec.connection.consumer(group)
    commit(consumer, topics[0], {0: 4, 1: 0})
    consumer.close()
    reader = Reader(spec, Reading(topics[0], 0, 1), Positions({0: 4, 1: 0, 2: 0}))
    try:
        assert reader.go_to(Positions({0: 4, 1: 0, 2: 0})) == {0: 4, 1: 0, 2: 0}
        commits = count_of(broker.address, "__consumer_offsets")
        reader.keep_offsets()
        assert count_of(broker.address, "__consumer_offsets") == commits + 2
        reader.go_to(Positions({0: 9, 1: 0, 2: 0}))  # five are in flight to the sink
        reader.keep_offsets()
        assert count_of(broker.address, "__consumer_offsets") == commits + 3
        assert records_of(broker, topics) == {0: 4, 1: 0}
        monkeypatch.setattr("scoreline.transforms.kafka.reader._KEEP_SECONDS", 3600.0)
        reader.keep_offsets()
        reader.keep_offsets()  # not again within the hour
        assert count_of(broker.address, "__consumer_offsets") == commits + 4
    finally:
        reader.close()


def scored_batch(topic, slot, offsets):
    """Return the input of a sink: rows of the partition with the slot's number."""
    count = len(offsets)
    batch = pa.RecordBatch.from_pydict(
        {
            "id": list(offsets),
            TOPIC: pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), [topic]),
            PARTITION: pa.array([slot] * count, pa.int32()),
            OFFSET: pa.array(offsets, pa.int64()),
            TIME_MS: pa.array([0] * count, pa.int64()),
            KEY: pa.array([b"k"] * count, pa.binary()),
        }
    )
    return RecordKey(topic, slot), batch


@pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])
def test_bundles_of_two_slots_side_by_side_end_each_for_itself(broker, topics, exactly_once):
    """With several readers, sink instances get bundles of any slot and run in parallel."""
    spec = WriteSpec(
        connection=Connection(brokers=broker.address),
        topic=topics[1],
        dead_letter_topic="",
        source_topic=topics[0],
        group=f"group-of-{topics[0]}",
        exactly_once=exactly_once,
    )
    one, two = sinks = [_WriteDoFn(spec), _WriteDoFn(spec)]
    for sink in sinks:
        sink.setup()
    try:
        for sink in sinks:  # each got bundles of both slots
            for slot in (0, 1):
                sink.start_bundle()
                at = records_of(broker, topics).get(slot, 0)
                sink.process(scored_batch(topics[0], slot, [at]))
                sink.finish_bundle()
        assert records_of(broker, topics) == {0: 2, 1: 2}
        one.start_bundle()
        one.process(scored_batch(topics[0], 0, [2, 3]))
        two.start_bundle()
        two.process(scored_batch(topics[0], 1, [2, 3]))
        one.finish_bundle()
        assert records_of(broker, topics) == {0: 4, 1: 2}
        one.teardown()  # a runner tears down an idle instance
        two.process(scored_batch(topics[0], 1, [4]))
        two.finish_bundle()
        assert records_of(broker, topics) == {0: 4, 1: 5}
    finally:
        for sink in sinks:
            sink.teardown()
    assert len(read_all(broker.address, topics[1])) == 4 + 5


def records_of(broker, topics):
    """Return the committed offsets of a test's group."""
    found = committed(broker.address, f"group-of-{topics[0]}", topics[0])
    return {partition: offset for partition, offset in found.items() if offset >= 0}


@pytest.mark.prism
def test_prism_with_two_readers_appends_each_record_once(
    broker, topics, stream_arguments, prism, tmp_path
):
    output = tmp_path / "scores"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 5000)))
    options = {"runner": "PrismRunner", "prism_location": prism, "readers": 2}
    options |= {"output": output, "output_topic": None}
    assert score_stream.main(stream_arguments("--until_end", **options)) == 0
    assert_scored(table_of(output), 5000, exactly_once=True)
    assert records_done(broker, topics) == 5000
    partitions = pa.table(DeltaTable(str(output)).get_add_actions(flatten=True)).num_rows
    assert partitions >= 2  # one file per reader


@pytest.mark.prism
def test_prism_does_not_cut_a_reader_in_two_while_the_model_is_slow(
    broker, topics, stream_arguments, prism, zoo, tmp_path
):
    output = tmp_path / "scores"
    send(make_producer(broker.address), topics[0], as_json(rows(0, 20_000)), partition=0)
    options = {"runner": "PrismRunner", "prism_location": prism, "model": zoo("slow")}
    options |= {"output": output, "flush_interval_s": 0.001}
    assert score_stream.main(stream_arguments("--until_end", **options)) == 0
    assert_scored(table_of(output), 20_000, exactly_once=True)
    assert_scored(scores_of(broker.address, topics[1]), 20_000, exactly_once=True)
    assert records_done(broker, topics) == 20_000
