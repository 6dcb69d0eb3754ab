"""Records whose scores or dead letters Kafka refuses: each costs itself, and no other."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pytest

from scoreline.lake.elements import RecordKey
from scoreline.models.fit import DIGEST_COLUMN
from scoreline.transforms.kafka.append import TableSpec, prepare_table
from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.encode import SOURCE_FIELDS
from scoreline.transforms.kafka.ending import StreamRefused
from scoreline.transforms.kafka.holding import holding_of
from scoreline.transforms.kafka.producer import WriteSpec
from scoreline.transforms.kafka.records import HEADERS, RAW_SCHEMA
from scoreline.transforms.kafka.write import _WriteDoFn
from tests.fakes import read_scores
from tests.kafka import committed, make_topics, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
LARGE = 100_000  # bytes that no compression makes smaller


def large(size=LARGE):
    return os.urandom(size // 2).hex()


def scored(topic, records, first=0):
    """Return the input of a sink: (key, note) of records of partition 0, one row each."""
    count = len(records)
    keys, notes = zip(*records, strict=True)
    raw = [
        pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), [topic]),
        pa.array([0] * count, pa.int32()),
        pa.array(range(first, first + count), pa.int64()),
        pa.array([1_700_000_000_000] * count, pa.int64()),
        pa.array(keys, pa.binary()),
        pa.array([b"value %d" % (first + row) for row in range(count)], pa.binary()),
        pa.array([[("own", b"%d" % row)] for row in range(count)], RAW_SCHEMA.field(HEADERS).type),
    ]
    digest = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), ["d"])
    batch = pa.RecordBatch.from_arrays(
        [pa.array(range(first, first + count)), pa.array(notes), *raw, digest],
        ["id", "note", *RAW_SCHEMA.names, DIGEST_COLUMN],
    )
    return RecordKey(topic, 0), batch


MODES = ("at_least_once", "exactly_once")


@pytest.fixture(params=MODES)
def sink(request, broker, topics, tmp_path):
    """Return a function that makes the spec of a sink with topics of some settings."""

    def make(settings, letter_settings=None):
        out, dead = f"{topics[1]}-narrow", f"{topics[2]}-narrow"
        base = {"retention.ms": "-1", "max.message.bytes": "4000000"}
        make_topics(broker.address, 1, out, settings=base | settings)
        make_topics(broker.address, 1, dead, settings=base | (letter_settings or {}))
        table = None
        if request.param == "table":
            fields = [("id", pa.int64()), ("note", pa.string()), (DIGEST_COLUMN, pa.string())]
            table = TableSpec(
                output=str(tmp_path / "scores"),
                schema=pa.schema([*fields, *SOURCE_FIELDS]),
                topic=topics[0],
                topic_id=topics[0],
                group=f"group-of-{topics[0]}",
                flush_seconds=0.0,
            )
            prepare_table(table, [0])
        return WriteSpec(
            connection=Connection(brokers=broker.address),
            topic=out,
            dead_letter_topic=dead,
            source_topic=topics[0],
            group=f"group-of-{topics[0]}",
            exactly_once=request.param == "exactly_once",
            table=table,
        )

    return make


def deliver(spec, *batches):
    """Pass batches through a sink, one bundle for each batch."""
    holding = holding_of(spec.connection.brokers, spec.group, spec.source_topic, 0)
    holding.seen = holding.losses  # a reader has begun at the group's offsets
    sink = _WriteDoFn(spec)
    sink.setup()
    try:
        for batch in batches:
            sink.process(batch)
            sink.finish_bundle()
    finally:
        sink.teardown()


def ids_in(broker, topic):
    return [json.loads(message.value())["id"] for message in read_all(broker.address, topic)]


def assert_delivered(broker, spec, good, dead):
    """Check that each record is a score or a dead letter, in each sink."""
    ids = ids_in(broker, spec.topic)
    if spec.exactly_once:
        assert ids == good
    else:
        assert sorted(set(ids)) == good
    letters = read_all(broker.address, spec.dead_letter_topic)
    assert sorted({dict(m.headers())["scoreline.offset"] for m in letters}, key=int) == [
        str(offset).encode() for offset in dead
    ]
    if spec.table:
        assert sorted(read_scores(spec.table.output)["id"].to_pylist()) == good
    offsets = committed(broker.address, spec.group, spec.source_topic)
    assert offsets[0] == len(good) + len(dead)
    return letters


REFUSED = {
    "no_key_for_a_compacted_topic": (
        {"cleanup.policy": "compact"},
        lambda n: (None, "x"),
        b"it has no key, which a compacted topic requires (INVALID_RECORD)",
    ),
    "larger_than_the_topic_allows": (
        {"max.message.bytes": str(LARGE)},
        lambda n: (b"k%d" % n, large(2 * LARGE)),
        b"it is larger than the topic's max.message.bytes (MSG_SIZE_TOO_LARGE)",
    ),
    "larger_than_the_client_allows": (
        {},
        lambda n: (b"k%d" % n, "x" * 10_500_000),
        b"it is larger than the topic's max.message.bytes (MSG_SIZE_TOO_LARGE)",
    ),
}


@pytest.mark.parametrize(("settings", "bad", "reason"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("sink", [*MODES, "table"], indirect=True)
def test_a_score_that_kafka_refuses_is_a_dead_letter_of_its_record(
    broker, sink, settings, bad, reason
):
    spec = sink(settings)
    records = [(b"k%d" % (n % 7), f"note {n}") for n in range(300)]
    at = [0, 137, 299]
    for n in at:
        records[n] = bad(n)
    key, batch = scored(spec.source_topic, records)
    more = scored(spec.source_topic, [(b"k1", "later")] * 20, first=300)
    deliver(spec, (key, batch), more)
    letters = assert_delivered(broker, spec, [n for n in range(320) if n not in at], at)
    assert [m.value() for m in letters] == [b"value %d" % n for n in at]
    assert [m.key() for m in letters] == [records[n][0] for n in at]
    for letter, n in zip(letters, at, strict=True):
        headers = dict(letter.headers())
        assert headers["own"] == b"%d" % n
        assert reason in headers["scoreline.reason"]
        assert headers["scoreline.step"] == b"Send"
        assert headers["scoreline.model_digest"] == b"d"
        assert letter.timestamp()[1] == 1_700_000_000_000


def test_scores_that_are_refused_only_together_are_delivered(broker, sink):
    """The producer makes batches of up to 1 MB; a topic may take less."""
    spec = sink({"max.message.bytes": "3000"})
    first = scored(spec.source_topic, [(b"k", large(800)) for _ in range(100)])
    second = scored(spec.source_topic, [(b"k", large(800)) for _ in range(50)], first=100)
    deliver(spec, first, second)
    assert assert_delivered(broker, spec, list(range(150)), []) == []


def test_a_topic_that_takes_no_score_fails_the_job_before_an_offset_is_committed(broker, sink):
    spec = sink({"cleanup.policy": "compact"})
    batch = scored(spec.source_topic, [(None, "x")] * 200)
    with pytest.raises(StreamRefused, match=r"takes none of 200 scores: .* has no key"):
        deliver(spec, batch)
    assert committed(broker.address, spec.group, spec.source_topic)[0] < 0
    assert read_all(broker.address, spec.dead_letter_topic) == []
    few = scored(spec.source_topic, [(None, "x")] * 3 + [(b"k", "y")])
    deliver(spec, few)  # a few bad records at the beginning are not the topic's fault
    assert_delivered(broker, spec, [3], [0, 1, 2])


LETTERS = {
    "too_large": ({"max.message.bytes": "1500"}, b"value of 5000 bytes, headers"),
    "time_out_of_range": (
        {"message.timestamp.before.max.ms": "1000000"},
        b"time 1700000000000",
    ),
}


@pytest.mark.parametrize(("settings", "left_out"), LETTERS.values(), ids=LETTERS)
def test_a_dead_letter_that_kafka_refuses_goes_without_what_it_refuses(
    broker, sink, settings, left_out
):
    spec = sink({"cleanup.policy": "compact"}, settings)
    key, batch = scored(spec.source_topic, [(b"k", "x")] * 100 + [(None, "y")] + [(b"k", "z")])
    values = batch.column("_value").to_pylist()
    values[100] = large(5000).encode()
    at = batch.schema.get_field_index("_value")
    batch = batch.set_column(at, "_value", pa.array(values, pa.binary()))
    deliver(spec, (key, batch))
    good = [n for n in range(102) if n != 100]
    (letter,) = assert_delivered(broker, spec, good, [100])
    headers = dict(letter.headers())
    assert headers["scoreline.left_out"] == left_out
    assert (letter.value() is None) == left_out.startswith(b"value")
    assert b"has no key" in headers["scoreline.reason"]


def test_a_dead_letter_that_cannot_be_sent_at_all_is_named(broker, sink):
    spec = sink({"cleanup.policy": "compact"}, {"cleanup.policy": "compact"})
    batch = scored(spec.source_topic, [(b"k", "x")] * 100 + [(None, "y")])
    place = f"offset 100 of partition 0 of topic {spec.source_topic}"
    with pytest.raises(StreamRefused, match=f"Cannot deliver the dead letter .* {place}: "):
        deliver(spec, batch)
    assert committed(broker.address, spec.group, spec.source_topic)[0] < 0
