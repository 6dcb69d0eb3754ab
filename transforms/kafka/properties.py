"""The properties file of `--kafka_config`: its lines, and settings that cannot work in a stream."""

from __future__ import annotations

from collections.abc import Mapping

# Prefix of registry settings, as in Confluent's documentation.
REGISTRY_PREFIX = "schema.registry."
_OF_REGISTRY = (
    "basic.auth.credentials.source",
    "basic.auth.user.info",
    "bearer.auth.client.id",
    "bearer.auth.client.secret",
    "bearer.auth.credentials.source",
    "bearer.auth.identity.pool.id",
    "bearer.auth.issuer.endpoint.url",
    "bearer.auth.logical.cluster",
    "bearer.auth.scope",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
)
# Settings that have an option, by name.
_OPTIONS = {
    "bootstrap.servers": "--brokers",
    "metadata.broker.list": "--brokers",
    "group.id": "--group",
    "auto.offset.reset": "--start",
    "schema.registry.url": "--schema_registry",
}
_COMMITS = "the job commits offsets when their scores are delivered"
_NO_MEMBER = "the job assigns partitions itself, and does not join its group"
# Settings that the job sets itself, because another value would lose or double records.
_FIXED = {
    "allow.auto.create.topics": "a topic that was deleted would come back empty",
    "topic.blacklist": "the job would not see its own topics",
    "transactional.id": "the job names its transactions by group, topic and reader",
    "transaction.timeout.ms": "the job sets it",
    "enable.auto.commit": _COMMITS,
    "auto.commit.enable": _COMMITS,
    "auto.commit.interval.ms": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "enable.partition.eof": "the job needs the ends of partitions for --until_end",
    "delivery.report.only.error": "the job needs the reports of failed deliveries",
    "group.instance.id": _NO_MEMBER,
    "group.protocol": _NO_MEMBER,
    "partition.assignment.strategy": _NO_MEMBER,
}
# The values of fixed settings that are the job's own.
_HARMLESS = {
    "allow.auto.create.topics": "false",
    "enable.auto.commit": "false",
    "auto.commit.enable": "false",
    "enable.partition.eof": "true",
    "group.protocol": "classic",
}
# Allowed values of settings of which an idempotent producer accepts no others.
_ALLOWED = {
    "acks": ("all", "-1"),
    "request.required.acks": ("all", "-1"),
    "enable.idempotence": ("true", "t", "1"),
    "queuing.strategy": ("fifo",),
}
# Settings of the client library that are functions in Python, or replace the brokers.
_OTHERS = ("logger", "on_delivery", "default.topic.config")
_MAX_IN_FLIGHT = 5
_IN_FLIGHT = ("max.in.flight", "max.in.flight.requests.per.connection")
_RETRIES = ("retries", "message.send.max.retries")


def parse_properties(text: str) -> dict[str, str]:
    """Return the settings of a properties file: `key=value` lines; `#` starts a comment line.

    Raises:
      ValueError: a line is invalid, or sets something that an option or the job sets. The message
        has the number of the line, never a secret.
    """
    settings: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(("#", "!")):
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ValueError(f"line {number}: expected KEY=VALUE of librdkafka")
        if name in _OPTIONS:
            raise ValueError(f"line {number}: {name} is set by {_OPTIONS[name]}; leave it out")
        if name.startswith(REGISTRY_PREFIX) and name[len(REGISTRY_PREFIX) :] not in _OF_REGISTRY:
            known = ", ".join(_OF_REGISTRY)
            raise ValueError(f"line {number}: expected {REGISTRY_PREFIX}… with one of {known}")
        settings[name] = value.strip()
        if problem := _find_problem(name, settings[name]):
            raise ValueError(f"line {number}: {problem}")
    return settings


def _find_problem(name: str, value: str) -> str | None:
    """Return why a setting cannot work in any stream."""
    if name in _FIXED and _HARMLESS.get(name) != value.lower():
        return f"{name} cannot be set: {_FIXED[name]}. Leave it out"
    if name.endswith("_cb") or name in _OTHERS or name.startswith("test."):
        return f"{name} cannot be set in a file. Leave it out"
    if name in _ALLOWED and value.lower() not in _ALLOWED[name]:
        return (
            f"expected {name}={_ALLOWED[name][0]}, got {value}. The producer is idempotent, so "
            "that a retry neither loses nor doubles a score. Leave it out"
        )
    if name in _IN_FLIGHT and not (value.isdecimal() and 1 <= int(value) <= _MAX_IN_FLIGHT):
        return (
            f"expected {name} of 1 to {_MAX_IN_FLIGHT}, got {value}. The producer is idempotent, "
            "and Kafka keeps the order of no more requests. Leave it out"
        )
    if name in _RETRIES and not (value.isdecimal() and int(value) >= 1):
        return (
            f"expected {name} of at least 1, got {value}. The producer is idempotent, and needs "
            "retries. Leave it out"
        )
    return None


def find_conflicts(
    settings: Mapping[str, str], *, exactly_once: bool, has_table: bool, transaction_ms: int
) -> list[str]:
    """Return why settings cannot work with the job's delivery guarantee.

    Args:
      settings: the settings of the file.
      exactly_once: whether each bundle is a transaction.
      has_table: whether scores go to a table, which has each record once.
      transaction_ms: the timeout of the job's transactions.
    """
    problems = []
    if settings.get("isolation.level") == "read_uncommitted" and (exactly_once or has_table):
        flag = "--exactly_once" if exactly_once else "--output"
        problems.append(
            f"expected isolation.level=read_committed with {flag}, got read_uncommitted. It reads "
            "records of aborted transactions, which their producer sends again. Leave it out"
        )
    for name in ("message.timeout.ms", "delivery.timeout.ms"):
        value = settings.get(name, "")
        if exactly_once and value.isdecimal() and not 0 < int(value) <= transaction_ms:
            problems.append(
                f"expected {name} of 1 to {transaction_ms} with --exactly_once, the timeout of its "
                f"transactions, got {value}. Leave it out"
            )
    return problems
