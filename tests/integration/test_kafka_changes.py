"""Topics, groups and records that change while a stream runs, or while it is down."""

from __future__ import annotations

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from scoreline.pipelines import score_stream
from tests.fakes import read_scores
from tests.kafka import (
    SINKS,
    arguments_of,
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


@pytest.mark.parametrize("sink", SINKS.values(), ids=SINKS)
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
