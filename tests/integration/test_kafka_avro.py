"""Scores as Avro values, with a schema of a given id or one that a registry has."""

from __future__ import annotations

import io
import json

import fastavro
import pytest

from scoreline.pipelines import score_stream
from scoreline.transforms.kafka.registry import Registry
from tests.kafka import (
    as_json,
    assert_scored,
    make_producer,
    make_topics,
    read_all,
    rows,
    send,
)
from tests.registry import run_registry

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


def values_of(broker, topic):
    return [message.value() for message in read_all(broker.address, topic)]


def test_avro_values_have_the_schema_that_check_shows(
    broker, topics, stream_arguments, capsys, model
):
    some = [{"id": i, "x": i / 2, "n": 1, "s": "a"} for i in range(300)]
    send(make_producer(broker.address), topics[0], as_json(some))
    options = {"model": model, "output_format": "avro", "output_schema_id": 77}
    assert score_stream.main(stream_arguments("--check", **options)) == 0
    shown = capsys.readouterr().out.replace("\n", "")
    schema = json.loads(shown[shown.index("{") : shown.rindex("}") + 1])
    assert score_stream.main(stream_arguments("--until_end", "--exactly_once", **options)) == 0
    scores = []
    for value in values_of(broker, topics[1]):
        assert value[:5] == b"\0\0\0\0\x4d"
        scores.append(fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None))
    assert {score["id"]: score["score"] for score in scores} == {i: i + 4.0 for i in range(300)}
    assert {score["id"]: score["pair"] for score in scores} == {
        i: [i + 4.0, i / 2] for i in range(300)
    }
    assert len(scores) == 300
    assert all(score["event_time"] <= score["scored_time"] for score in scores)

    assert score_stream.main(stream_arguments(**options, outputs="pair=a-b")) == 2
    assert "--output_format=avro: 'a-b' is not a name in Avro" in capsys.readouterr().err


WRITTEN = {
    "type": "record",
    "name": "Row",
    "fields": [{"name": "id", "type": "int"}, {"name": "a", "type": "float"}],
}
READ = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "a", "type": "float"},
        {"name": "b", "type": "float", "default": 0.0},
    ],
}


def to_avro(schema_id, schema, row):
    stream = io.BytesIO()
    stream.write(b"\0" + schema_id.to_bytes(4, "big"))
    fastavro.schemaless_writer(stream, schema, row)
    return stream.getvalue()


def test_values_of_two_schemas_are_scored_and_the_scores_schema_is_registered(
    broker, topics, stream_arguments, tmp_path, capsys
):
    config = tmp_path / "client.properties"
    config.write_text("schema.registry.basic.auth.user.info=me:secret\n")
    options = {"format": "avro", "schema": None, "output_format": "avro", "kafka_config": config}
    with run_registry("me:secret") as registry:
        options["schema_registry"] = registry.url
        assert score_stream.main(stream_arguments("--until_end", **options)) == 2
        assert f"expected a subject {topics[0]}-value" in capsys.readouterr().err
        ids = [registry.add(f"{topics[0]}-value", schema) for schema in (WRITTEN, READ)]
        values = [to_avro(ids[0], WRITTEN, row) for row in rows(0, 100)]
        values += [to_avro(ids[1], READ, row) for row in rows(100, 100)]
        sent = [*((None, value) for value in values), (b"poison", to_avro(5, READ, rows(1, 1)[0]))]
        send(make_producer(broker.address), topics[0], sent)
        assert score_stream.main(stream_arguments("--until_end", **options)) == 3
        (letter,) = read_all(broker.address, topics[2])
        assert letter.key() == b"poison"

        client = Registry(url=registry.url, config=str(config)).connect()
        registered = client.latest(f"{topics[1]}-value")
        header = b"\0" + registered.schema_id.to_bytes(4, "big")
        scores = []
        for value in values_of(broker, topics[1]):
            assert value[:5] == header
            schema = json.loads(registered.schema)
            scores.append(fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None))
        assert_scored(scores, 200, exactly_once=True)

        # Restarted with outputs that the registry rejects, the job ends before its first record.
        other = {"type": "record", "name": "Score", "fields": [{"name": "z", "type": "int"}]}
        registry.add("strict-value", other)
        make_topics(broker.address, 1, "strict")
        options["output_topic"] = "strict"
        assert score_stream.main(stream_arguments("--until_end", **options)) == 2
        told = capsys.readouterr()
        assert "cannot be registered as strict-value" in told.err
        assert "secret" not in told.err + told.out
