from __future__ import annotations

import logging
import time

import pytest

from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.client_log import CLIENT_LOG, ClientLog

REFUSED = (
    "[thrd:127.0.0.1:1/bootstrap]: 127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: "
    "Connection refused (after {}ms in state CONNECT)"
)


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def log(now):
    """Return a function that logs like librdkafka, and returns the lines that pass."""
    only = ClientLog(clock=lambda: now[0])

    def send(level, facility, line):
        record = logging.LogRecord(
            "x", level, __file__, 1, "%s [%s] %s", (facility, "rdkafka#producer-1", line), None
        )
        return record.getMessage() if only.filter(record) else None

    return send


def test_an_attempt_that_librdkafka_repeats_is_not_shown(log):
    line = "[thrd:main]: Failed to acquire idempotence PID: Coordinator load in progress: retrying"
    assert log(logging.WARNING, "GETPID", line) is None


def test_a_broker_that_is_away_is_shown_once_a_minute_in_our_words(log, now):
    told = (
        "Kafka client: Connect to ipv4#127.0.0.1:1 failed: Connection refused; "
        "it retries until it succeeds"
    )
    assert log(logging.ERROR, "FAIL", REFUSED.format(0)) == told
    now[0] = 59.0
    assert log(logging.ERROR, "FAIL", REFUSED.format(3)) is None
    now[0] = 61.0
    assert log(logging.ERROR, "FAIL", REFUSED.format(1)) == told


def test_a_fatal_error_promises_no_attempt(log):
    assert log(logging.CRITICAL, "FATAL", "[thrd:main]: out of order") == (
        "Kafka client: out of order"
    )


def test_a_setting_that_is_deprecated_is_shown_and_one_for_other_clients_is_not(log):
    line = "[thrd:app]: Configuration property offset.store.path is deprecated: use another"
    assert "offset.store.path is deprecated" in log(logging.WARNING, "CONFWARN", line)
    line = (
        "[thrd:app]: Configuration property compression.codec is a producer property and will be "
        "ignored by this consumer instance"
    )
    assert log(logging.WARNING, "CONFWARN", line) is None


def test_every_client_of_a_connection_logs_through_it(caplog, capfd):
    """Without a broker, librdkafka itself writes nothing to stderr."""
    CLIENT_LOG.filters[0]._last.clear()
    connection = Connection(brokers="127.0.0.1:1")
    producer, consumer = connection.producer(), connection.consumer("g")
    admin = connection.admin()
    deadline = time.monotonic() + 30
    while "Connection refused" not in caplog.text and time.monotonic() < deadline:
        producer.poll(0.1)
        consumer.poll(0.1)
        admin.poll(0.1)
    consumer.close()
    (record,) = [r for r in caplog.records if r.name == CLIENT_LOG.name]
    assert record.getMessage().startswith("Kafka client: Connect to ")
    assert "rdkafka" not in capfd.readouterr().err
