from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest

from scoreline.transforms.kafka.decode import DecodeSpec, decode_batch
from scoreline.transforms.kafka.ending import StreamRefused, find_ending
from scoreline.transforms.kafka.first_values import FirstValues
from tests.inputs import to_examples
from tests.transforms.kafka.test_decode import AVRO, SCHEMA, raw_batch, to_avro

ROWS = [{"id": n, "x": n / 2, "s": f"text {n}"} for n in range(200)]
JSON = [json.dumps(row).encode() for row in ROWS]
PLAIN_AVRO = [to_avro(row) for row in ROWS]
CONFLUENT = [b"\0\0\0\0\x07" + value for value in PLAIN_AVRO]
STORED = pa.schema([("id", pa.int64()), ("x", pa.float32()), ("s", pa.large_binary())])
EXAMPLES = to_examples(pa.Table.from_pylist(ROWS))
OTHER_EXAMPLES = to_examples(pa.table({"unlike": [1] * 200}))
SPECS = {
    "json": DecodeSpec(format="json", schema=SCHEMA, required=("id", "x")),
    "avro": DecodeSpec(format="avro", schema=SCHEMA, avro_schema=json.dumps(AVRO)),
    "confluent": DecodeSpec(
        format="avro", schema=SCHEMA, avro_schema=json.dumps(AVRO), avro_schema_id=8
    ),
    "example": DecodeSpec(format="example", schema=STORED),
}
# By name: the expected format, the values, and what the message shows of them.
WRONG = {
    "avro_as_json": ("json", PLAIN_AVRO, "expected a JSON object"),
    "confluent_as_json": ("json", CONFLUENT, "Confluent's header and schema id 7"),
    "confluent_as_avro": ("avro", CONFLUENT, "Confluent's header and schema id 7"),
    "another_schema_id": ("confluent", CONFLUENT, "header for schema id 8, got 00 00 00 00 07"),
    "avro_without_the_header": ("confluent", PLAIN_AVRO, "header for schema id 8"),
    "json_as_avro": ("avro", JSON, "looks like a JSON object"),
    "json_as_example": ("example", JSON, "looks like a JSON object"),
    "avro_as_example": ("example", PLAIN_AVRO, "is no tf.Example"),
    "example_as_json": ("json", EXAMPLES, "looks like a tf.Example"),
    "example_as_avro": ("avro", EXAMPLES, "looks like a tf.Example"),
    "other_examples": ("example", OTHER_EXAMPLES, "has none of the features id, x, s"),
    "gzip": ("json", [gzip.compress(value) for value in JSON], "looks like gzip"),
    "arrays": ("json", [b"[" + value + b"]" for value in JSON], "looks like a JSON array"),
    "other_keys": ("json", [b'{"no": 1, "x": 2}'] * 200, "expected the key 'id'"),
    "text": ("json", [b"hello"] * 200, "68 65 6c 6c 6f"),
}


def observe(spec, *polls):
    guard, decoder = FirstValues(spec.format), spec.make()
    for values in polls:
        raw = raw_batch(values)
        batch, dead = decode_batch(raw, decoder, spec.schema)
        reasons = dict(zip(dead.rows, dead.reasons, strict=True)) if dead else {}
        guard.observe(batch.num_rows, reasons, raw)


@pytest.mark.parametrize(("name", "values", "shown"), WRONG.values(), ids=WRONG)
def test_a_topic_of_another_format_ends_the_job(name, values, shown):
    with pytest.raises(StreamRefused) as error:
        observe(SPECS[name], values)
    message = str(error.value)
    assert shown in message
    assert "offset 0 of partition 0: " in message
    found = find_ending(f"StreamRefused: {message} [while running 'Decode']")
    assert str(found) == message


GOOD = {"json": JSON, "avro": PLAIN_AVRO, "example": EXAMPLES}
BAD = {"json": b"x", "avro": b"", "example": b"x"}


@pytest.mark.parametrize("name", GOOD)
def test_bad_records_among_good_ones_never_end_the_job(name):
    spec, good, bad = SPECS[name], GOOD[name], BAD[name]
    observe(spec, [bad] * 15)  # too few to judge
    observe(spec, [bad] * 100 + good[:1])
    observe(spec, [bad] * 15, good[:1], [bad] * 200)
    observe(spec, [None] * 200, [None] * 200, [bad] * 15)  # tombstones have no format


def test_single_polls_add_up_and_reasons_that_differ_need_more():
    with pytest.raises(StreamRefused, match="none of the first 16 values"):
        observe(SPECS["json"], *([b"%d" % n] for n in range(16)))
    mixed = [b"text" if n % 2 else b'{"id": "a", "x": 1}' for n in range(64)]
    observe(SPECS["json"], mixed[:63])
    with pytest.raises(StreamRefused, match="none of the first 64 values"):
        observe(SPECS["json"], mixed[:63], mixed[63:])
