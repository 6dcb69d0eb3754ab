"""Records of a stream in every format, and bad ones, on a real Kafka broker."""

from __future__ import annotations

import io
import json
import os

import fastavro
import pyarrow as pa
import pytest
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from scoreline.pipelines import score_stream
from tests.kafka import (
    as_json,
    assert_scored,
    committed,
    make_producer,
    read_all,
    records_done,
    rows,
    scores_of,
    send,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


AVRO = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "a", "type": ["null", "float"]},
        {"name": "b", "type": "float"},
        {"name": "other", "type": {"type": "map", "values": "string"}},
    ],
}


def to_avro(row, header=b"\0\0\0\0\x07"):
    stream = io.BytesIO(header)
    stream.seek(0, os.SEEK_END)
    fastavro.schemaless_writer(stream, AVRO, {**row, "other": {"k": "v"}})
    return stream.getvalue()


def test_poison_costs_itself_and_the_rest_is_scored(broker, topics, stream_arguments, capsys):
    good = as_json(rows(0, 300))
    poison = {
        b"text": b"not JSON",
        b"half": b'{"id": 1, "a": ',
        b"two": b'{"id": 1, "a": 1, "b": 1}{"id": 2, "a": 1, "b": 1}',
        b"list": b"[1, 2]",
        b"blank": b"  ",
        b"type": b'{"id": 1, "a": "one", "b": 1}',
        b"absent": b'{"id": 1, "b": 1}',
        b"utf8": b'{"id": 1, "a": 1, "b": 1, "c": "\xff"}',
        b"large": b'{"id": 1, "a": 1e39, "b": 1}',
        b"tombstone": None,
    }
    producer = make_producer(broker.address)
    of_its_own = [("trace", b"\0\xff"), ("trace", None), ("scoreline.step", b"before")]
    for number, record in enumerate(poison.items()):
        key, value = record
        at = 1_600_000_000_000 + number
        producer.produce(topics[0], value, key, headers=of_its_own, timestamp=at)
        send(producer, topics[0], good[number * 25 : number * 25 + 25])
    send(producer, topics[0], good[len(poison) * 25 :])
    assert score_stream.main(stream_arguments("--until_end", "--exactly_once", fill="a=7")) == 3
    scores = scores_of(broker.address, topics[1])
    assert sorted(s["id"] for s in scores) == sorted(
        [*range(300), *([1] if len(scores) > 300 else [])]
    )
    letters = {m.key(): m for m in read_all(broker.address, topics[2])}
    # A column that is not needed may hold any JSON.
    assert set(poison) - set(letters) <= {b"utf8"}
    sent = {m.key(): m for m in read_all(broker.address, topics[0])}
    for key, letter in letters.items():
        assert letter.value() == poison[key]
        assert letter.timestamp() == sent[key].timestamp()
        assert letter.headers()[:2] == of_its_own[:2]
        assert [name for name, _ in letter.headers()].count("scoreline.step") == 1
        headers = {name: text.decode() for name, text in letter.headers()[2:]}
        assert headers["scoreline.topic"] == topics[0]
        at = (int(headers["scoreline.partition"]), int(headers["scoreline.offset"]))
        assert at == (sent[key].partition(), sent[key].offset())
        assert headers["scoreline.step"] == "Decode"
        assert headers["scoreline.reason"]


def test_a_topic_of_another_format_ends_the_job_before_it_becomes_dead_letters(
    broker, topics, stream_arguments, capsys
):
    values = [(None, to_avro(row)) for row in rows(0, 3000)]
    send(make_producer(broker.address), topics[0], values)
    assert score_stream.main(stream_arguments("--until_end", "--exactly_once")) == 2
    err = capsys.readouterr().err
    assert "Expected JSON objects (--format=json) in the topic, but none of the first" in err
    assert "begins with Confluent's header and schema id 7" in err
    # The first polls may be smaller than the 16 values that it takes to tell.
    done = records_done(broker, topics)
    assert done < 16
    assert len(read_all(broker.address, topics[2])) == done


def test_a_missing_key_and_a_null_are_told_apart(broker, topics, stream_arguments, capsys):
    some = [{"id": 1, "b": 0.5}, {"id": 2, "a": None, "b": 0.5}, {"id": 3, "a": 1.0, "b": 0.5}]
    send(make_producer(broker.address), topics[0], as_json(some), partition=0)
    assert score_stream.main(stream_arguments("--check", allow_missing="c=1")) == 2
    assert "--allow_missing c=1: no input, key or kept column reads 'c'" in capsys.readouterr().err
    strict = stream_arguments("--until_end", fill="a=7")
    assert score_stream.main(strict) == 3
    assert {score["id"] for score in scores_of(broker.address, topics[1])} == {2, 3}
    filled = stream_arguments("--until_end", fill="a=7", allow_missing="a=2", group=topics[1])
    assert score_stream.main(filled) == 0
    scores = scores_of(broker.address, topics[1])
    assert sorted(score["id"] for score in scores) == [1, 2, 2, 3, 3]
    assert {score["id"]: score["y"] for score in scores} == {1: 4.5, 2: 14.5, 3: 2.5}


def test_a_key_with_a_dot_is_kept_like_any_other(broker, topics, stream_arguments, tmp_path):
    schema = tmp_path / "dots.json"
    schema.write_text('{"id": "int64", "x.y": "string"}')
    some = [{**row, "x.y": f"of {row['id']}"} for row in rows(0, 9)]
    send(make_producer(broker.address), topics[0], as_json([*some, *rows(9, 1)]))
    assert score_stream.main(stream_arguments("--until_end", schema=schema, keep="x.y")) == 3
    scores = scores_of(broker.address, topics[1])
    assert {s["id"]: s["x.y"] for s in scores} == {i: f"of {i}" for i in range(9)}


def test_poison_without_a_topic_for_it_ends_the_job_and_is_named(
    broker, topics, stream_arguments, capsys
):
    send(make_producer(broker.address), topics[0], [(b"k", b"not JSON")], partition=2)
    assert score_stream.main(stream_arguments("--until_end", dead_letter_topic=None)) == 1
    err = capsys.readouterr().err
    assert f"offset 0 of partition 2 of topic {topics[0]}: Decode: " in err
    assert "--dead_letter_topic" in err
    assert committed(broker.address, f"group-of-{topics[0]}", topics[0])[2] < 0


def test_avro_with_confluents_header(broker, topics, stream_arguments, tmp_path):
    schema = tmp_path / "row.avsc"
    schema.write_text(json.dumps(AVRO))
    good = [(None, to_avro(row)) for row in rows(0, 200)]
    bad = [
        (b"id", to_avro(rows(7, 1)[0], b"\0\0\0\0\x08")),
        (b"rest", good[0][1] + b"\0"),
        (b"half", good[0][1][:-3]),
        (b"null", to_avro({"id": 1, "a": None, "b": 1.0})),
    ]
    send(make_producer(broker.address), topics[0], [*good, *bad])
    flags = {"format": "avro", "schema": schema, "avro_schema_id": 7}
    assert score_stream.main(stream_arguments("--until_end", **flags)) == 3
    assert_scored(scores_of(broker.address, topics[1]), 200, exactly_once=True)
    assert {m.key() for m in read_all(broker.address, topics[2])} == {key for key, _ in bad}


def test_tf_examples(broker, topics, stream_arguments, tmp_path):
    schema = tmp_path / "schema.pbtxt"
    schema.write_text('feature { name: "id" type: INT shape { dim { size: 1 } } }')
    some = rows(0, 200)
    columns = [
        pa.array([[r["id"]] for r in some], pa.large_list(pa.int64())),
        pa.array([[r["a"]] for r in some], pa.large_list(pa.float32())),
        pa.array([[r["b"]] for r in some], pa.large_list(pa.float32())),
    ]
    encoded = RecordBatchToExamplesEncoder().encode(
        pa.RecordBatch.from_arrays(columns, ["id", "a", "b"])
    )
    bad = [(b"other", b"no tf.Example"), (b"none", b"")]
    send(make_producer(broker.address), topics[0], [*((None, e) for e in encoded), *bad])
    flags = {"format": "example", "schema": schema}
    assert score_stream.main(stream_arguments("--until_end", **flags)) == 3
    assert_scored(scores_of(broker.address, topics[1]), 200, exactly_once=True)
    assert {m.key() for m in read_all(broker.address, topics[2])} == {key for key, _ in bad}
