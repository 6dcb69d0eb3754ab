"""Streams on a real Kafka broker: every record is scored, also after kills."""

from __future__ import annotations

import json
import signal

import apache_beam as beam
import psutil
import pyarrow as pa
import pytest
from confluent_kafka.admin import AdminClient

from scoreline.models.process import ModelProcess
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.pipelines import score_batch, score_stream
from tests.fakes import read_scores, write_file
from tests.inputs import to_examples
from tests.kafka import (
    Feed,
    add_partitions,
    as_json,
    assert_scored,
    committed,
    count_of,
    make_producer,
    read_all,
    records_done,
    rows,
    scores_of,
    send,
    stop,
    wait_until,
)
from tests.model_zoo import save_function

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
RECORDS = 20_000


def test_every_record_is_scored_once_and_as_by_the_batch_job(
    broker, topics, stream_arguments, tmp_path, zoo, capsys
):
    some = rows(0, RECORDS)
    send(make_producer(broker.address), topics[0], as_json(some))
    table = pa.Table.from_pylist(some, pa.schema({"id": "int64", "a": "float32", "b": "float32"}))
    write_file(tmp_path / "lake", "date=2024-01-01", "0.parquet", table)
    options = {"input": tmp_path / "lake", "model": zoo("model.tflite"), "keys": "id"}
    options["output"] = tmp_path / "scores"
    assert score_batch.main([f"--{k}={v}" for k, v in options.items()]) == 0
    batch = {
        row["id"]: (row["y"], row["model_digest"])
        for row in read_scores(tmp_path / "scores").to_pylist()
    }

    assert score_stream.main(stream_arguments("--until_end")) == 0
    assert "scored 20,000, dead letters 0" in capsys.readouterr().out
    messages = read_all(broker.address, topics[1])
    scores = [json.loads(message.value()) for message in messages]
    assert len(scores) == RECORDS
    assert {s["id"]: (s["y"], s["model_digest"]) for s in scores} == batch
    assert all(m.key() == str(s["id"]).encode() for m, s in zip(messages, scores, strict=True))
    assert {(s["source_partition"], s["source_offset"]) for s in scores} == {
        (m.partition(), m.offset()) for m in read_all(broker.address, topics[0])
    }
    assert all(s["source_topic"] == topics[0] for s in scores)
    assert all(s["event_time_ms"] <= s["scored_time_ms"] for s in scores)
    assert records_done(broker, topics) == RECORDS

    assert score_stream.main(stream_arguments("--until_end")) == 0  # nothing is left
    assert count_of(broker.address, topics[1]) == RECORDS


@pytest.mark.parametrize("flags", [(), ("--exactly_once",)], ids=["at_least_once", "exactly_once"])
def test_killed_in_mid_stream_and_run_again_nothing_is_lost(
    broker, topics, stream_arguments, start_stream, flags
):
    feed = Feed(broker.address, topics[0], topics[1:2])
    killed = start_stream(stream_arguments(*flags))
    wait_until(lambda: count_of(broker.address, topics[1]) > RECORDS // 4)
    killed.kill()
    killed.wait()
    assert records_done(broker, topics) < RECORDS
    feed.finish()
    assert score_stream.main(stream_arguments("--until_end", *flags)) == 0
    assert_scored(scores_of(broker.address, topics[1]), RECORDS, exactly_once=bool(flags))


def test_a_worker_that_dies_is_started_again(broker, topics, stream_arguments, start_stream):
    feed = Feed(broker.address, topics[0], topics[1:2])
    supervisor = start_stream(stream_arguments("--restart", "--exactly_once", start="earliest"))
    wait_until(lambda: count_of(broker.address, topics[1]) > RECORDS // 4)
    (worker,) = psutil.Process(supervisor.pid).children()
    worker.send_signal(signal.SIGKILL)
    feed.finish()
    wait_until(lambda: records_done(broker, topics) == RECORDS)
    assert "ended with signal 9; restarting in 1 s" in stop(supervisor)
    assert_scored(scores_of(broker.address, topics[1]), RECORDS, exactly_once=True)


def test_of_two_jobs_of_a_group_the_older_one_ends(
    broker, topics, stream_arguments, start_stream, tmp_path
):
    """Also if the first job has delivered nothing yet: both have the same offsets of the group."""
    jobs = []
    for number in range(2):
        beats = tmp_path / f"beats-{number}"
        jobs.append(start_stream(stream_arguments("--exactly_once", heartbeat_file=beats)))
        wait_until(beats.exists)
    jobs[1].send_signal(signal.SIGSTOP)  # otherwise it could be faster
    send(make_producer(broker.address), topics[0], as_json(rows(0, 1000)))
    assert jobs[0].wait(150) == 1
    jobs[1].send_signal(signal.SIGCONT)
    wait_until(lambda: records_done(broker, topics) == 1000)
    stop(jobs[1])
    assert_scored(scores_of(broker.address, topics[1]), 1000, exactly_once=True)


@pytest.mark.parametrize("flags", [(), ("--exactly_once",)], ids=["at_least_once", "exactly_once"])
def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
    broker, topics, stream_arguments, start_stream, flags
):
    feed = Feed(broker.address, topics[0], topics[1:2])
    process = start_stream(stream_arguments("--restart", *flags))
    wait_until(lambda: count_of(broker.address, topics[1]) > RECORDS // 4)
    broker.kill()
    broker.start()
    feed.finish()
    wait_until(lambda: records_done(broker, topics) == RECORDS)
    stop(process)
    assert_scored(scores_of(broker.address, topics[1]), RECORDS, exactly_once=bool(flags))


@pytest.mark.parametrize("flags", [(), ("--exactly_once",)], ids=["at_least_once", "exactly_once"])
def test_an_impure_model_ends_the_stream_before_a_score_is_sent_unless_it_is_allowed(
    broker, topics, stream_arguments, tmp_path, capsys, flags
):
    tf = import_tensorflow()
    specs = [tf.TensorSpec([None], tf.float32, name=name) for name in ("a", "b")]
    path = tmp_path / "impure"
    model = save_function(path, lambda a, b: {"y": a + b - tf.reduce_mean(a)}, *specs)
    send(make_producer(broker.address), topics[0], as_json(rows(0, 500)))
    argv = stream_arguments("--until_end", *flags, model=model)
    assert score_stream.main(argv) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "rows of a call influence each other: output 'y' of the row id=" in told
    assert count_of(broker.address, topics[1]) == 0
    assert records_done(broker, topics) == 0
    assert score_stream.main([*argv, "--allow_impure=a demo"]) == 0
    assert len(scores_of(broker.address, topics[1])) == 500


def test_a_partition_that_is_added_is_read_and_a_stop_is_in_order(
    broker, topics, stream_arguments, start_stream
):
    producer = make_producer(broker.address)
    send(producer, topics[0], as_json(rows(0, 100)))
    process = start_stream(stream_arguments())
    wait_until(lambda: count_of(broker.address, topics[1]) == 100)
    add_partitions(broker.address, topics[0], 6)
    send(make_producer(broker.address), topics[0], as_json(rows(100, 100)), partition=5)
    wait_until(lambda: count_of(broker.address, topics[1]) == 200)
    assert "read 200 records, scored 200, dead letters 0" in stop(process)
    offsets = committed(broker.address, f"group-of-{topics[0]}", topics[0])
    assert offsets[5] == 100
    assert sum(o for o in offsets.values() if o > 0) == 200


def test_empty_topic_ends_at_once(stream_arguments, capsys):
    assert score_stream.main(stream_arguments("--until_end")) == 0
    assert "read 0 records, scored 0, dead letters 0" in capsys.readouterr().out


def test_a_runner_that_ends_before_the_end_fails_the_job(
    broker, topics, stream_arguments, monkeypatch, capsys
):
    send(make_producer(broker.address), topics[0], as_json(rows(0, 10)), partition=2)
    with monkeypatch.context() as patched:
        patched.setattr(score_stream, "build", lambda pipeline, *_: pipeline | beam.Create([1]))
        assert score_stream.main(stream_arguments("--until_end")) == 1
    err = capsys.readouterr().err
    assert "unread are those of partition 2 from offset 0" in err
    assert score_stream.main(stream_arguments("--until_end")) == 0
    assert_scored(scores_of(broker.address, topics[1]), 10, exactly_once=True)


def test_markers_of_transactions_behind_the_last_record_are_no_records(
    broker, topics, stream_arguments
):
    producer = make_producer(broker.address, transactional_id=f"of-{topics[0]}")
    producer.init_transactions(120)
    for first, end in ((0, producer.commit_transaction), (10, producer.abort_transaction)):
        producer.begin_transaction()
        send(producer, topics[0], as_json(rows(first, 10)), partition=1)
        end(120)
    assert score_stream.main(stream_arguments("--until_end")) == 0
    assert_scored(scores_of(broker.address, topics[1]), 10, exactly_once=True)


def test_records_of_a_megabyte(broker, topics, stream_arguments):
    padding = "x" * 1_000_000
    some = [{**row, "padding": padding} for row in rows(0, 40)]
    records = [*as_json(some), (b"bad", b"?" * 1_000_000)]
    send(make_producer(broker.address), topics[0], records)
    assert score_stream.main(stream_arguments("--until_end")) == 3
    assert_scored(scores_of(broker.address, topics[1]), 40, exactly_once=True)
    (letter,) = read_all(broker.address, topics[2])
    assert letter.value() == records[-1][1]


def test_group_is_set_to_the_first_record_to_the_last_and_to_a_time(
    broker, topics, stream_arguments
):
    producer = make_producer(broker.address)
    send(producer, topics[0], as_json(rows(0, 50)), timestamp=1_000_000)
    send(producer, topics[0], as_json(rows(50, 50)), timestamp=2_000_000)

    def scored(*flags, **options):
        before = count_of(broker.address, topics[1])
        assert score_stream.main(stream_arguments("--until_end", *flags, **options)) == 0
        return count_of(broker.address, topics[1]) - before

    assert scored(start="latest") == 0
    assert scored() == 0
    assert scored(start="timestamp", start_time="1970-01-01T00:33:20Z") == 50
    assert scored(start="timestamp", start_time="1970-01-01T00:16:40Z") == 100
    assert scored() == 0
    assert scored(start="earliest") == 100
    assert scored(start="timestamp", start_time="1970-01-01T00:50:00Z") == 0


def test_late_and_out_of_order_records_are_scored_like_any_other(broker, topics, stream_arguments):
    producer = make_producer(broker.address)
    for first, at in ((0, 3_000_000), (10, 1_000_000), (20, 9_000_000), (30, 2_000_000)):
        send(producer, topics[0], as_json(rows(first, 10)), timestamp=at)
    assert score_stream.main(stream_arguments("--until_end")) == 0
    scores = scores_of(broker.address, topics[1])
    assert_scored(scores, 40, exactly_once=True)
    assert {s["event_time_ms"] for s in scores if s["id"] < 10} == {3_000_000}


def test_wrong_topics_schema_and_brokers_are_reported_before_the_first_record(
    broker, topics, stream_arguments, capsys, tmp_path
):
    broken = tmp_path / "broken.json"
    broken.write_text('{"id": "integer"}')
    wrong = {"topic": "none", "output_topic": "nowhere", "schema": broken, "model": "no/model"}
    assert score_stream.main(stream_arguments(**wrong)) == 2
    err = capsys.readouterr().err
    for told in (
        "4 things are wrong",
        "--topic: expected a topic",
        "--output_topic: expected a topic",
    ):
        assert told in err
    assert "--schema: " in err
    assert "no/model" in err
    there = AdminClient({"bootstrap.servers": broker.address}).list_topics(timeout=30).topics
    assert not {"none", "nowhere"} & there.keys()  # nor would the next start find them

    internal = stream_arguments(topic="__consumer_offsets", output_topic="__consumer_offsets")
    assert score_stream.main([*internal, "--check"]) == 2
    assert "--topic: expected a topic of your own, got __consumer" in capsys.readouterr().err

    assert score_stream.main(stream_arguments(schema=None)) == 2
    assert "--schema: expected a file with the types of id" in capsys.readouterr().err

    assert score_stream.main(stream_arguments(brokers="127.0.0.1:1", model="no/model")) == 2
    err = capsys.readouterr().err
    assert "--brokers: expected Kafka at 127.0.0.1:1" in err
    assert "no/model" in err


def test_a_stream_that_is_started_before_its_broker_waits_for_it(
    broker, topics, stream_arguments, start_stream, capsys
):
    send(make_producer(broker.address), topics[0], as_json(rows(0, 100)))
    broker.kill()
    assert score_stream.main(stream_arguments()) == 1  # systemd and Kubernetes restart it
    assert f"--brokers: expected Kafka at {broker.address}" in capsys.readouterr().err
    process = start_stream(stream_arguments("--restart", start="latest"))
    wait_until(lambda: "restarting in 1 s" in process.printed.read_text())
    broker.start()
    wait_until(lambda: records_done(broker, topics) == 100)  # it starts after these
    send(make_producer(broker.address), topics[0], as_json(rows(100, 50)))
    wait_until(lambda: count_of(broker.address, topics[1]) == 50)
    stop(process)
    assert {score["id"] for score in scores_of(broker.address, topics[1])} == set(range(100, 150))


@pytest.fixture
def hearing_terminal():
    """Restore SIGHUP in processes, because the tests may run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
@pytest.mark.usefixtures("hearing_terminal")
def test_a_supervisor_takes_its_job_along(broker, topics, stream_arguments, start_stream, number):
    """Otherwise the next start would be a second job of the group, and duplicate all records."""
    send(make_producer(broker.address), topics[0], as_json(rows(0, 100)))
    supervisor = start_stream(stream_arguments("--restart"))
    wait_until(lambda: count_of(broker.address, topics[1]) == 100)
    (job,) = psutil.Process(supervisor.pid).children()
    supervisor.send_signal(number)
    job.wait(150)
    assert supervisor.wait(150) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    assert "scored 100, dead letters 0" in supervisor.printed.read_text()
    assert records_done(broker, topics) == 100


def test_latency_target_changes_no_score(broker, topics, stream_arguments):
    send(make_producer(broker.address), topics[0], as_json(rows(0, 5000)))
    assert score_stream.main(stream_arguments("--until_end", latency_target_ms=20)) == 0
    assert_scored(scores_of(broker.address, topics[1]), 5000, exactly_once=True)


def test_batch_timeout_gives_the_model_its_own_process_and_changes_no_score(
    broker, topics, stream_arguments, monkeypatch
):
    started = []

    def start(*args, **options):
        started.append(options["batch_timeout_s"])
        return ModelProcess(*args, **options)

    monkeypatch.setattr("scoreline.models.model_spec.ModelProcess", start)
    send(make_producer(broker.address), topics[0], as_json(rows(0, 500)))
    assert score_stream.main(stream_arguments("--until_end", batch_timeout_s=60)) == 0
    assert started == [60.0, 60.0]  # the launcher reads the signature, then the worker scores
    assert_scored(scores_of(broker.address, topics[1]), 500, exactly_once=True)


@pytest.mark.prism
@pytest.mark.parametrize("flags", [(), ("--exactly_once",)], ids=["at_least_once", "exactly_once"])
def test_prism_with_two_readers_gives_the_same_and_poison_costs_itself(
    broker, topics, stream_arguments, prism, flags, tmp_path
):
    """Exactly once also with tf.Examples, whose decoder breaks at a bad one."""
    some, options = rows(0, 5000), {"runner": "PrismRunner", "prism_location": prism, "readers": 2}
    if flags:
        kinds = {"id": pa.int64(), "a": pa.float32(), "b": pa.float32()}
        values = to_examples(pa.Table.from_pylist(some, pa.schema(kinds.items())))
        (bad,) = to_examples(pa.table({"id": [1], "a": [1], "b": [0.5]}))
        schema = tmp_path / "schema.pbtxt"
        schema.write_text('feature { name: "id" type: INT shape { dim { size: 1 } } }')
        options |= {"format": "example", "schema": schema}
    else:
        values, bad = [value for _, value in as_json(some)], b'{"id": 1, "a": 1e39, "b": 1}'
    producer = make_producer(broker.address)
    for partition in range(4):  # in each reader, with good records behind it
        part = values[partition::4]
        send(producer, topics[0], ((None, v) for v in part[:500]), partition=partition)
        at = {"partition": partition, "timestamp": 1_600_000_000_000, "headers": [("own", b"1")]}
        producer.produce(topics[0], bad, b"bad", **at)
        send(producer, topics[0], ((None, v) for v in part[500:]), partition=partition)
    assert score_stream.main(stream_arguments("--until_end", *flags, **options)) == 3
    assert_scored(scores_of(broker.address, topics[1]), 5000, exactly_once=True)
    letters = read_all(broker.address, topics[2])
    assert {letter.value() for letter in letters} == {bad}
    headers = [dict(letter.headers()) for letter in letters]
    assert sorted(h["scoreline.partition"] for h in headers) == [b"0", b"1", b"2", b"3"]
    assert {h["scoreline.offset"] for h in headers} == {b"500"}
    assert {h["own"] for h in headers} == {b"1"}
    reason = "'a': expected float values, got int64" if flags else "column 'a': expected"
    assert all(reason in h["scoreline.reason"].decode() for h in headers)
    assert {letter.timestamp()[1] for letter in letters} == {1_600_000_000_000}
