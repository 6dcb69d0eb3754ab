"""Flags of a stream's sinks: a topic, a table, and dead letters."""

from __future__ import annotations

import argparse
import dataclasses

from scoreline.pipelines.options.command_parser import WHERE, CommandParser
from scoreline.pipelines.options.reader import OptionReader
from scoreline.pipelines.options.table import add_output_flag

OUTPUT_FORMATS = ("json", "avro")
_FLUSH_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SinkSettings:
    """Checked settings of the sinks; fields have the names of the options."""

    output: str = ""
    flush_interval_s: float = _FLUSH_SECONDS
    output_topic: str = ""
    output_format: str = "json"
    output_schema_id: int | None = None
    dead_letter_topic: str = ""
    exactly_once: bool = False

    @property
    def targets(self) -> str:
        """The topic, the table or both, as text."""
        return " and ".join(place for place in (self.output_topic, self.output) if place)


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    sink = parser.group(WHERE)
    sink.add_argument("--output_topic", metavar="T", help="topic of the scores")
    sink.add_argument(
        "--output_format",
        metavar="|".join(OUTPUT_FORMATS),
        default="json",
        help="format of its values: json (default) or avro, whose schema --check prints",
    )
    sink.add_argument(
        "--output_schema_id",
        metavar="N",
        help="Avro values start with Confluent's header and this schema id",
    )
    add_output_flag(parser, "Delta table to append scores to, partitioned by scoring date")
    sink.add_argument(
        "--flush_interval_s",
        metavar="S",
        help="with --output: seconds between two files; each file also commits offsets "
        "(default: 60)",
    )
    sink.add_argument(
        "--dead_letter_topic",
        metavar="T",
        help="topic of records that cannot be scored, unchanged, with the reason in their "
        "headers; without it such a record fails the job",
    )
    sink.add_argument(
        "--exactly_once",
        action="store_true",
        help="scores, dead letters and offsets in one transaction per bundle; readers need "
        "isolation.level=read_committed",
    )


def read_sink(given: argparse.Namespace, read: OptionReader) -> SinkSettings:
    """Return the settings, and add all problems."""
    schema_id = given.output_schema_id
    seconds = read.seconds("--flush_interval_s", given.flush_interval_s)
    return SinkSettings(
        output=read.place("--output", given.output),
        flush_interval_s=seconds or _FLUSH_SECONDS,
        output_topic=given.output_topic or "",
        output_format=read.choice("--output_format", given.output_format, OUTPUT_FORMATS),
        output_schema_id=(
            None if schema_id is None else read.positive("--output_schema_id", schema_id)
        ),
        dead_letter_topic=given.dead_letter_topic or "",
        exactly_once=given.exactly_once,
    )
