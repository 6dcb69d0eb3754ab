"""Flags about where the scores of a stream go: a topic, a table, and dead letters."""

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
    """Checked settings about where scores go; fields are named and explained as the options."""

    output: str = ""
    flush_interval_s: float = _FLUSH_SECONDS
    output_topic: str = ""
    output_format: str = "json"
    output_schema_id: int | None = None
    dead_letter_topic: str = ""
    exactly_once: bool = False

    @property
    def targets(self) -> str:
        """The topic, the table or both, for people."""
        return " and ".join(place for place in (self.output_topic, self.output) if place)


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    sink = parser.group(WHERE)
    sink.add_argument("--output_topic", metavar="T", help="topic of the scores")
    sink.add_argument(
        "--output_format",
        metavar="|".join(OUTPUT_FORMATS),
        default="json",
        help="what its values hold: json (default) or avro, of a schema that --check shows",
    )
    sink.add_argument(
        "--output_schema_id",
        metavar="N",
        help="Avro values begin with Confluent's header and this schema id",
    )
    add_output_flag(parser, "Delta table that scores are appended to, by the day they were scored")
    sink.add_argument(
        "--flush_interval_s",
        metavar="S",
        help="with --output: a file every so many seconds, which also has the offsets committed "
        "(default: 60)",
    )
    sink.add_argument(
        "--dead_letter_topic",
        metavar="T",
        help="topic of records that cannot be scored, as they came, the reason in their "
        "headers; without it such a record ends the job",
    )
    sink.add_argument(
        "--exactly_once",
        action="store_true",
        help="scores, dead letters and offsets in one transaction for each bundle; readers "
        "must ask for isolation.level=read_committed",
    )


def read_sink(given: argparse.Namespace, read: OptionReader) -> SinkSettings:
    """Return the settings; adds what is wrong with them to the problems."""
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
