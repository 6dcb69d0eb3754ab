"""Flags of a stream's source: brokers, topic, group, and the format of records."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
from pathlib import Path

from scoreline.pipelines.options.command_parser import CommandParser
from scoreline.pipelines.options.reader import OptionReader, find_secret

# Formats of values.
VALUE_FORMATS = ("json", "avro", "example")
STARTS = ("group", "earliest", "latest", "timestamp")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SourceSettings:
    """Checked settings of the source; fields have the names of the options.

    Attributes:
      config: the properties file of `--kafka_config`; "" for none.
      schema_registry: its URL; "" for none.
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
        brokers=read.required("--brokers", given.brokers),
        config=config,
        topic=read.required("--topic", given.topic),
        group=read.required("--group", given.group),
        format=read.choice("--format", given.format, VALUE_FORMATS),
        schema=read.file("--schema", given.schema),
        avro_schema_id=None if schema_id is None else read.positive("--avro_schema_id", schema_id),
        schema_registry=_registry(read, given.schema_registry, config),
        start=read.choice("--start", given.start, STARTS),
        start_ms=_start_ms(read, given.start, given.start_time),
        until_end=given.until_end,
    )


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
    if text is None or text.isdigit():
        return None if text is None else int(text)
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        at = dt.datetime(1970, 1, 1)  # noqa: DTZ001  refused below
    if at.tzinfo is None:
        read.problems.add(
            f"--start_time: expected a time with zone, as 2026-11-24T06:00:00Z, got '{text}'"
        )
        return None
    return int(at.timestamp() * 1000)
