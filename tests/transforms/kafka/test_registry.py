"""Values whose schemas are in a registry; the one here speaks Confluent's documented REST API."""

from __future__ import annotations

import io
import json

import fastavro
import pyarrow as pa
import pytest
from urllib3.util import Retry

from scoreline.transforms.kafka import registry as schema_registry
from scoreline.transforms.kafka.client import Connection, parse_properties
from scoreline.transforms.kafka.decode import DecodeSpec, decode_batch
from scoreline.transforms.kafka.registry import Registry, RegistryAway, RegistryFails
from tests.registry import run_registry


def record(*fields, name="Row"):
    return {"type": "record", "name": name, "fields": list(fields)}


ID = {"name": "id", "type": "long"}
OLD = record(ID, {"name": "a", "type": "float"})
NEW = record(ID, {"name": "a", "type": "double"}, {"name": "b", "type": "int", "default": 7})
COLUMNS = pa.schema([("id", pa.int64()), ("a", pa.float64()), ("b", pa.int32())])


@pytest.fixture
def registry():
    with run_registry() as registry:
        yield registry


def to_value(schema_id, schema, row):
    stream = io.BytesIO()
    stream.write(b"\0" + schema_id.to_bytes(4, "big"))
    fastavro.schemaless_writer(stream, schema, row)
    return stream.getvalue()


def decode(registry, values, schema=NEW):
    spec = DecodeSpec(
        format="avro",
        schema=COLUMNS,
        avro_schema=json.dumps(schema),
        registry=Registry(url=registry.url),
    )
    raw = pa.RecordBatch.from_pydict({"_value": values})
    return decode_batch(raw, spec.make(), COLUMNS)


def test_each_value_is_read_by_the_schema_it_was_written_with(registry):
    old, new = registry.add("t-value", OLD), registry.add("t-value", NEW)
    values = [to_value(old, OLD, {"id": i, "a": i / 2}) for i in range(3)]
    values += [to_value(new, NEW, {"id": i, "a": i / 2, "b": i}) for i in range(3, 6)]
    decoded = decode(registry, values)
    assert decoded.dead is None
    assert decoded.batch.drop_columns(["_value"]).to_pylist() == [
        {"id": i, "a": i / 2, "b": 7 if i < 3 else i} for i in range(6)
    ]
    assert registry.asked == [f"GET /schemas/ids/{old}", f"GET /schemas/ids/{new}"]


def test_a_value_whose_schema_is_unknown_or_does_not_fit_costs_itself(registry):
    new = registry.add("t-value", NEW)
    other = registry.add("other-value", record({"name": "id", "type": "string"}))
    no_avro = registry.add("json-value", {"type": "object"}, schemaType="JSON")
    good = [to_value(new, NEW, {"id": i, "a": 0.0, "b": 0}) for i in range(8)]
    bad = [
        to_value(9999, NEW, {"id": 1, "a": 0.0, "b": 0}),
        b"\0\0",
        b"{}....",
        to_value(other, record({"name": "id", "type": "string"}), {"id": "x"}),
        to_value(no_avro, NEW, {"id": 1, "a": 0.0, "b": 0}),
        good[0] + b"\0",
    ]
    decoded = decode(registry, [*good[:4], *bad, *good[4:]])
    assert decoded.batch["id"].to_pylist() == list(range(8))
    assert list(decoded.dead.rows) == list(range(4, 10))
    for reason, told in zip(
        decoded.dead.reasons,
        (
            "has no schemas/ids/9999",
            "Confluent's header",
            "got 7b 7d 2e 2e 2e",
            f"schema {other}, which it was written with",
            "got one of JSON",
            "1 bytes behind it",
        ),
        strict=True,
    ):
        assert told in reason, reason
    assert len(registry.asked) == len(set(registry.asked)), "the registry is asked once for an id"


def test_schemas_that_refer_to_others_are_put_together(registry):
    registry.add("point", record({"name": "x", "type": "double"}, name="Point"))
    written = record(ID, {"name": "a", "type": "double"}, {"name": "at", "type": "Point"})
    reference = {"name": "Point", "subject": "point", "version": 1}
    writer = registry.add("t-value", written, references=[reference])
    whole = json.loads(
        json.dumps(written).replace(
            '"Point"', json.dumps(record({"name": "x", "type": "double"}, name="Point"))
        )
    )
    value = to_value(writer, whole, {"id": 5, "a": 0.5, "at": {"x": 1.0}})
    decoded = decode(registry, [value])
    assert decoded.dead is None
    assert decoded.batch["id"].to_pylist() == [5]
    with pytest.raises(ValueError, match="refers to others"):
        Registry(url=registry.url).connect().latest("t-value")


def test_a_registry_that_is_away_is_no_dead_letter(registry, monkeypatch):
    value = to_value(registry.add("t-value", NEW), NEW, {"id": 1, "a": 0.0, "b": 0})
    monkeypatch.setattr(
        schema_registry, "_RETRY", Retry(2, status_forcelist=[503], raise_on_status=False)
    )
    registry.fails = 503
    with pytest.raises(RegistryAway, match="got 503: the backend is away"):
        decode(registry, [value])
    assert len(registry.asked) == 3, "it is asked again before that"


def test_latest_and_registered_schemas(registry):
    client = Registry(url=registry.url + "/").connect()
    assert client.latest("scores/1-value") is None
    schema_id = client.register("scores/1-value", json.dumps(OLD))
    assert client.register("scores/1-value", json.dumps(OLD)) == schema_id
    newer = client.register("scores/1-value", json.dumps(NEW))
    found = client.latest("scores/1-value")
    assert (found.schema_id, json.loads(found.schema)) == (newer, NEW)
    incompatible = record(ID, {"name": "z", "type": "long"})
    with pytest.raises(ValueError, match="Schema being registered is incompatible"):
        client.register("scores/1-value", json.dumps(incompatible))


def test_credentials_come_from_the_file_and_go_to_the_registry_only(tmp_path):
    config = tmp_path / "client.properties"
    config.write_text("schema.registry.basic.auth.user.info=me:pass:word\nclient.id=c\n")
    with run_registry("me:pass:word") as registry:
        registry.add("t-value", NEW)
        spec = Registry(url=registry.url, config=str(config))
        assert spec.connect().latest("t-value")
        with pytest.raises(RegistryFails, match=r"401.*schema\.registry\.basic\.auth") as e:
            Registry(url=registry.url).connect().latest("t-value")
    assert "pass" not in repr(spec) + str(e.value)
    settings = Connection(brokers="h:1", config=str(config)).settings()
    assert settings["client.id"] == "c"
    assert not any("registry" in name for name in settings)
    with pytest.raises(ValueError, match=r"line 1: of schema\.registry") as e:
        parse_properties("schema.registry.basic.auth.user=me:secret")
    assert "secret" not in str(e.value)


def test_what_is_no_registry_is_told(monkeypatch):
    monkeypatch.setattr(schema_registry, "_RETRY", Retry(0))
    with pytest.raises(RegistryAway, match="expected a schema registry"):
        Registry(url="http://127.0.0.1:1").connect().latest("s")
