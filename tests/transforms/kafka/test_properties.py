from __future__ import annotations

import pytest

from scoreline.transforms.kafka.properties import find_conflicts, parse_properties


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("acks=1", "expected acks=all, got 1"),
        ("acks=0", "expected acks=all, got 0"),
        ("request.required.acks=1", "expected request.required.acks=all, got 1"),
        ("enable.idempotence=false", "expected enable.idempotence=true, got false"),
        ("queuing.strategy=lifo", "expected queuing.strategy=fifo"),
        ("max.in.flight=6", "expected max.in.flight of 1 to 5, got 6"),
        ("max.in.flight.requests.per.connection=many", "of 1 to 5, got many"),
        ("retries=0", "expected retries of at least 1, got 0"),
        ("message.send.max.retries=0", "of at least 1, got 0"),
        ("enable.auto.commit=true", "enable.auto.commit cannot be set: the job commits"),
        ("auto.commit.enable=true", "auto.commit.enable cannot be set: the job commits"),
        ("enable.auto.offset.store=true", "the job commits offsets when"),
        ("enable.partition.eof=false", "enable.partition.eof cannot be set"),
        ("transactional.id=x", "transactional.id cannot be set"),
        ("transaction.timeout.ms=1", "transaction.timeout.ms cannot be set"),
        ("group.instance.id=x", "does not join its group"),
        ("group.protocol=consumer", "does not join its group"),
        ("group.id=x", "group.id is set by --group"),
        ("auto.offset.reset=latest", "auto.offset.reset is set by --start"),
        ("metadata.broker.list=h:1", "metadata.broker.list is set by --brokers"),
        ("error_cb=f", "error_cb cannot be set in a file"),
        ("default.topic.config=f", "default.topic.config cannot be set in a file"),
        ("test.mock.num.brokers=1", "test.mock.num.brokers cannot be set in a file"),
    ],
    ids=lambda value: value.partition("=")[0] if "=" in value else "",
)
def test_a_setting_that_cannot_work_is_refused_with_its_line_and_reason(line, told):
    with pytest.raises(ValueError, match=r"^line 2: ") as e:
        parse_properties(f"# first\n{line}\n")
    assert told in str(e.value)
    assert "eave it out" in str(e.value)


def test_settings_that_agree_with_the_job_are_taken():
    lines = ["acks=all", "acks=-1", "enable.idempotence=true", "enable.auto.commit=false"]
    lines += ["max.in.flight=5", "retries=3", "check.crcs=false", "group.protocol=classic"]
    lines += ["linger.ms=50", "client.id=a=b", "isolation.level=read_committed"]
    settings = parse_properties("\n".join(lines))
    assert settings["client.id"] == "a=b"
    assert (
        find_conflicts(settings, exactly_once=True, has_table=False, transaction_ms=120_000) == []
    )


@pytest.mark.parametrize(
    ("line", "exactly_once", "has_table", "told"),
    [
        ("isolation.level=read_uncommitted", True, False, "with --exactly_once, got read_uncom"),
        ("isolation.level=read_uncommitted", False, True, "with --output, got read_uncommitted"),
        ("isolation.level=read_uncommitted", False, False, None),
        ("message.timeout.ms=500000", True, False, "message.timeout.ms of 1 to 120000 with"),
        ("delivery.timeout.ms=0", True, False, "delivery.timeout.ms of 1 to 120000 with"),
        ("delivery.timeout.ms=500000", False, True, None),
    ],
)
def test_a_setting_that_breaks_the_guarantee_is_a_conflict(line, exactly_once, has_table, told):
    found = find_conflicts(
        parse_properties(line),
        exactly_once=exactly_once,
        has_table=has_table,
        transaction_ms=120_000,
    )
    assert [told in problem for problem in found] == ([True] if told else [])
