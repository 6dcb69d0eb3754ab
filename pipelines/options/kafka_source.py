"""Flags of a stream's source: brokers, topic, group, and the format of records."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import time
from collections.abc import Mapping
from pathlib import Path

from scoreline.pipelines.options.command_parser import CommandParser
from scoreline.pipelines.options.reader import OptionReader, find_secret

# Formats of values.
VALUE_FORMATS = ("json", "avro", "example")
STARTS = ("group", "earliest", "latest", "timestamp")

# librdkafka takes them before a broker, as in ssl://kafka:9093.
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")

# A number of milliseconds before the year 2000 is a number of seconds, or a mistake.
_EARLIEST_MS = 946_684_800_000
_LATEST_MS = 253_402_300_799_000  # the end of the year 9999
_MAX_DIGITS = 30
_FIRST_YEAR = (
    1970  # Kafka's times begin there; negative ones stand for the first or the next record
)
# The clocks of producers and of this machine may differ.
_CLOCK_SECONDS = 300.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SourceSettings:
    """Checked settings of the source; fields have the names of the options.

    Attributes:
      config: the properties file of `--kafka_config`; "" for none.
      schema_registry: its URL; "" for none.
      allow_missing: by column, the value for JSON records that lack its key.
      start_ms: `--start_time` in milliseconds since 1970.
    """

    brokers: str
    config: str = ""
    topic: str
    group: str
    format: str = "json"
    schema: str | None = None
    avro_schema_id: int | None = None
    schema_registry: str = ""
    allow_missing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    start: str = "group"
    start_ms: int | None = None
    until_end: bool = False


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    source = parser.group("the stream")
    source.add_argument("--brokers", metavar="HOST:PORT,…", help="Kafka brokers to begin with")
    source.add_argument(
        "--kafka_config",
        metavar="FILE",
        help="properties file of librdkafka for further settings such as SASL and TLS; secrets "
        "belong there. Every worker reads it",
    )
    source.add_argument("--topic", metavar="T", help="topic of the records to score")
    source.add_argument("--group", metavar="G", help="consumer group with the offsets of the job")
    _add_schema_flags(source)
    _add_start_flags(source)


def _add_schema_flags(source: argparse._ArgumentGroup) -> None:
    source.add_argument(
        "--format",
        metavar="|".join(VALUE_FORMATS),
        default="json",
        help="format of values: json (default), avro, or example (a serialized tf.Example)",
    )
    source.add_argument(
        "--schema",
        metavar="FILE",
        help="types of the columns: an Avro schema, schema.pbtxt of tensorflow-metadata for "
        'tf.Examples, or JSON such as {"id": "int64"}, which may omit columns that feed inputs',
    )
    source.add_argument(
        "--avro_schema_id",
        metavar="N",
        help="values start with Confluent's header and this schema id, the id of --schema",
    )
    source.add_argument(
        "--schema_registry",
        metavar="URL",
        help="schema registry of Avro values: the id in a value's header names its writer "
        "schema, and --schema or the newest of T-value is the reader schema; the schema of "
        "scores is registered there",
    )
    source.add_argument(
        "--allow_missing",
        metavar="C=VALUE",
        action="append",
        help="value of column C for JSON records without its key, or C=null; repeatable. Without "
        "it such a record is a dead letter, also with --fill, which is for nulls",
    )


def _add_start_flags(source: argparse._ArgumentGroup) -> None:
    source.add_argument(
        "--start",
        metavar="|".join(STARTS),
        default="group",
        help="group: continue at the group's offsets, or at the first record if it has none "
        "(default). The others first set the group's offsets",
    )
    source.add_argument(
        "--start_time",
        metavar="TIME",
        help="for --start=timestamp: a time such as 2026-11-24T06:00:00Z, or ms since 1970",
    )
    source.add_argument(
        "--until_end",
        action="store_true",
        help="end after all records that are in the topic now: for backfills and tests",
    )


def read_source(given: argparse.Namespace, read: OptionReader) -> SourceSettings:
    """Return the settings, and add all problems."""
    schema_id = given.avro_schema_id
    config = _config(read, given.kafka_config)
    return SourceSettings(
        brokers=_brokers(read, given.brokers),
        config=config,
        topic=read.required("--topic", given.topic),
        group=read.required("--group", given.group),
        format=read.choice("--format", given.format, VALUE_FORMATS),
        schema=read.file("--schema", given.schema),
        avro_schema_id=None if schema_id is None else read.positive("--avro_schema_id", schema_id),
        schema_registry=_registry(read, given.schema_registry, config),
        allow_missing=read.values("--allow_missing", given.allow_missing, "C=VALUE"),
        start=read.choice("--start", given.start, STARTS),
        start_ms=_start_ms(read, given.start, given.start_time),
        until_end=given.until_end,
    )


def _brokers(read: OptionReader, text: str | None) -> str:
    """Return the brokers; a URL of another protocol would never answer."""
    for broker in (text or "").split(","):
        scheme, is_url, _ = broker.partition("://")
        if is_url and scheme.strip().upper() not in _PROTOCOLS:
            read.problems.add(f"--brokers: expected HOST:PORT,… of Kafka, got '{broker}'")
    return read.required("--brokers", text)


def _registry(read: OptionReader, url: str | None, config: str) -> str:
    if url is None:
        return ""
    if "@" in url or find_secret("", url):
        read.problems.add(
            "--schema_registry: expected a URL without credentials. Set them in --kafka_config as "
            "schema.registry.basic.auth.user.info=USER:PASSWORD, or as "
            "schema.registry.bearer.auth.… for OAuth"
        )
        return ""
    if not url.startswith(("http://", "https://")):
        read.problems.add(f"--schema_registry: expected http://… or https://…, got '{url}'")
        return ""
    if config:
        from scoreline.transforms.kafka.registry import Registry

        try:
            Registry(url=url, config=config).connect()
        except (ValueError, OSError) as e:
            read.problems.add(f"--kafka_config: {config}: {e}")
    return url


def _config(read: OptionReader, path: str | None) -> str:
    found = read.file("--kafka_config", path) or ""
    if found and Path(found).is_file():
        from scoreline.transforms.kafka.properties import parse_properties

        try:
            parse_properties(Path(found).read_text("utf-8"))
        except (ValueError, OSError) as e:
            read.problems.add_usage(f"--kafka_config: {path}: {e}")
            return ""
    return found


def _start_ms(read: OptionReader, start: str, text: str | None) -> int | None:
    if (start == "timestamp") != (text is not None):
        read.problems.add(
            "--start_time: expected a time with --start=timestamp, and none without, "
            f"got '{text}' with --start={start}"
        )
        return None
    if text is None:
        return None
    at_ms = _number_ms(read, text) if text.isdecimal() else _time_ms(read, text)
    latest_ms = int((time.time() + _CLOCK_SECONDS) * 1000)
    if at_ms is not None and at_ms > latest_ms:
        read.problems.add(
            f"--start_time: expected a time up to now, got '{text}', which is {_to_text(at_ms)}: "
            "the job would begin behind the newest record. Use --start=latest for that"
        )
        return None
    return at_ms


def _number_ms(read: OptionReader, text: str) -> int | None:
    """Return a number of milliseconds; None, with a problem, if it is in another unit."""
    number = int(text) if text.isascii() and len(text) <= _MAX_DIGITS else 10**_MAX_DIGITS
    latest_ms = (time.time() + _CLOCK_SECONDS) * 1000
    for unit, in_ms in (("seconds", 1000.0), ("microseconds", 1e-3), ("nanoseconds", 1e-6)):
        if _EARLIEST_MS <= number * in_ms <= latest_ms:
            meant = int(number * in_ms)
            read.problems.add(
                f"--start_time: expected milliseconds since 1970, got '{text}', which would be "
                f"{_to_text(number)}. In {unit} it is {_to_text(meant)}: for that, use {meant}"
            )
            return None
    if not _EARLIEST_MS <= number <= _LATEST_MS:
        read.problems.add(
            f"--start_time: expected milliseconds since 1970, got '{text}', which would be "
            f"{_to_text(number)}. For the first record, use --start=earliest; for another time "
            "before 2000, give it as 1999-11-24T06:00:00Z"
        )
        return None
    return number


def _time_ms(read: OptionReader, text: str) -> int | None:
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        at = dt.datetime(1970, 1, 1)  # noqa: DTZ001  refused below
    if at.tzinfo is None:
        read.problems.add(
            f"--start_time: expected a time with zone, as 2026-11-24T06:00:00Z, got '{text}'"
        )
        return None
    if at.year < _FIRST_YEAR:
        read.problems.add(
            f"--start_time: expected a time from {_FIRST_YEAR} on, got '{text}'. For the first "
            "record, use --start=earliest"
        )
        return None
    return max(0, int(at.timestamp() * 1000))


def _to_text(at_ms: float) -> str:
    """Return a time as a date, or as a year if it is far away."""
    if at_ms > _LATEST_MS:
        return "after the year 9999"
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).isoformat(timespec="seconds")
