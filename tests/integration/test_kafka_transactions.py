"""Open transactions in the source topic, which hold back the records behind them."""

from __future__ import annotations

import contextlib

import pytest

from scoreline.pipelines import score_stream
from scoreline.transforms.kafka.reader import stop_reading
from tests.fakes import read_scores
from tests.kafka import (
    SINKS,
    arguments_of,
    as_json,
    committed,
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


def begin_transaction(broker, topic, some):
    """Send rows to partition 1 in a transaction that stays open; return its producer."""
    producer = make_producer(broker.address, transactional_id=f"of-{topic}")
    producer.init_transactions(120)
    producer.begin_transaction()
    send(producer, topic, as_json(some), partition=1)
    return producer


@pytest.mark.parametrize("sink", SINKS.values(), ids=SINKS)
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
