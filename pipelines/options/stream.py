"""The flags of `scoreline stream`, and the checked settings they become."""

from __future__ import annotations

import argparse
import dataclasses
import os

from scoreline.pipelines.options import kafka_sink, kafka_source, swap
from scoreline.pipelines.options import model as model_flags
from scoreline.pipelines.options.command_parser import CommandParser
from scoreline.pipelines.options.kafka_sink import SinkSettings, read_sink
from scoreline.pipelines.options.kafka_source import SourceSettings, read_source
from scoreline.pipelines.options.model import ModelSettings, read_model
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import OptionReader
from scoreline.pipelines.options.rows import (
    KeySettings,
    RuleSettings,
    add_key_flags,
    add_rule_flags,
    check_column_names,
    read_keys,
    read_rules,
)
from scoreline.pipelines.options.run import add_check_flag
from scoreline.pipelines.options.swap import SwapSettings, read_swap

USAGE = (
    "scoreline stream --brokers HOST:PORT --topic T --group G --model PATH "
    "--keys C,… --output_topic T [options]"
)
DESCRIPTION = """\
Score the records of a Kafka topic with a TensorFlow model, as they come.

Scores go into another topic, into a Delta table (--output), or both.

SIGTERM or Ctrl-C ends the job in order: what is read is scored, sent and committed. Exit codes: 0
stopped, or all is scored (--until_end); 1 the job failed, and run again it goes on; 2 options,
topics or model are wrong, found before the first record; 3 as 0, and some records are dead letters.
"""
_NEEDED = ("--brokers", "--topic", "--group", "--model", "--keys")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StreamSettings:
    """Checked settings of a stream scoring job.

    Attributes:
      source, sink: where records come from, and where scores go.
      model, keys, rules: what is scored with, as for a batch job.
      swap: how new versions are taken; None when nothing is watched.
      latency_target_ms: how long scoring a poll may take; None for no target.
      readers: consumers that share the topic's partitions.
      heartbeat_file: the file to touch; "" for none.
      restart: whether a process of its own runs the job, and is started again.
      check: whether to plan only.
      concurrent_calls: how many calls of the model a worker process makes at once.
    """

    source: SourceSettings
    sink: SinkSettings
    model: ModelSettings
    keys: KeySettings
    rules: RuleSettings
    swap: SwapSettings | None = None
    latency_target_ms: float | None = None
    readers: int = 1
    heartbeat_file: str = ""
    restart: bool = False
    check: bool = False
    concurrent_calls: int = 1


def add_flags(parser: CommandParser) -> None:
    """Declare the flags."""
    kafka_source.add_flags(parser)
    add_key_flags(parser)
    model_flags.add_flags(parser)
    kafka_sink.add_flags(parser)
    add_rule_flags(parser)
    _add_run_flags(parser)
    swap.add_flags(parser)


def _add_run_flags(parser: CommandParser) -> None:
    add_check_flag(parser, "do everything up to the first record, print the plan, score nothing")
    how = parser.group("how it runs")
    how.add_argument(
        "--latency_target_ms",
        metavar="MS",
        help="take only as many records at once as are scored within this time",
    )
    how.add_argument(
        "--readers",
        metavar="N",
        default="1",
        help="consumers that share the topic's partitions (default: 1; more need a runner "
        "that runs them side by side)",
    )
    how.add_argument(
        "--heartbeat_file",
        metavar="FILE",
        help="is touched each second, as long as the job polls, scores and delivers: a file "
        "that grows old tells of a job that hangs",
    )
    how.add_argument(
        "--restart",
        action="store_true",
        help="run in a process of its own, started again 1 s to 60 s after it fails",
    )


def read_stream(given: argparse.Namespace, problems: Problems) -> StreamSettings:
    """Return the settings; adds everything that is wrong with them to the problems."""
    read = OptionReader(problems, _NEEDED)
    readers = read.positive("--readers", given.readers)
    target = given.latency_target_ms
    settings = StreamSettings(
        source=read_source(given, read),
        sink=read_sink(given, read),
        model=read_model(given, read),
        keys=read_keys(given, read),
        rules=read_rules(given, read),
        swap=read_swap(given, read),
        latency_target_ms=(
            None if target is None else float(read.positive("--latency_target_ms", target))
        ),
        readers=readers,
        heartbeat_file=_writable(read, given.heartbeat_file),
        restart=given.restart,
        check=given.check,
        concurrent_calls=readers,
    )
    check_column_names(settings.keys, settings.model.fit, problems)
    _check_outputs(settings, given, problems)
    _check_avro(settings, given, problems)
    _check_run(settings, given, problems)
    return settings


def _writable(read: OptionReader, path: str | None) -> str:
    """Return the absolute path of a file that can be written; "" when none is given."""
    if path is None:
        return ""
    at = os.path.abspath(path)
    writable = at if os.path.exists(at) else os.path.dirname(at)
    if os.path.isdir(at) or not os.access(writable, os.W_OK):
        read.problems.add(f"--heartbeat_file: expected a file that can be written, got {path}")
    return at


def _check_outputs(settings: StreamSettings, given: argparse.Namespace, problems: Problems) -> None:
    """Check what topics and table are asked for together."""
    sink = settings.sink
    if not sink.output_topic and not sink.output:
        problems.add_usage(
            "--output_topic is required, a topic for scores; or --output, a Delta table; or both"
        )
    if sink.output_format == "avro" and not sink.output_topic:
        problems.add("--output_format is for --output_topic; leave it out")
    if given.flush_interval_s is not None and not sink.output:
        problems.add("--flush_interval_s is for --output; leave it out")
    if sink.exactly_once and sink.output:
        problems.add(
            "--exactly_once: each bundle's transaction would commit offsets of rows that wait for "
            "--output, and a kill would lose them. The table has each record once without it; for "
            "a topic with each record once, run a second job of another --group"
        )
    topics = [settings.source.topic, sink.output_topic, sink.dead_letter_topic]
    named = [topic for topic in topics if topic]
    if len(set(named)) != len(named):
        problems.add(
            "--topic, --output_topic and --dead_letter_topic: expected different topics, got "
            + ", ".join(named)
        )


def _check_avro(settings: StreamSettings, given: argparse.Namespace, problems: Problems) -> None:
    """Check what schemas are asked for together."""
    source, sink = settings.source, settings.sink
    if sink.output_format != "avro" and given.output_schema_id is not None:
        problems.add("--output_schema_id is for --output_format=avro; leave it out")
    if given.schema_registry and "avro" not in (source.format, sink.output_format):
        problems.add(
            "--schema_registry is for --format=avro and --output_format=avro; leave it out"
        )
    if given.schema_registry and (given.avro_schema_id or given.output_schema_id):
        problems.add(
            "--schema_registry tells the ids of schemas; leave --avro_schema_id and "
            "--output_schema_id out"
        )
    if source.format == "avro" and not given.schema and not given.schema_registry:
        problems.add("--schema is required: the Avro schema that values were written with")
    if source.format != "avro" and given.avro_schema_id is not None:
        problems.add("--avro_schema_id is for --format=avro; leave it out")


def _check_run(settings: StreamSettings, given: argparse.Namespace, problems: Problems) -> None:
    """Check how the job is to run."""
    if given.json and given.restart and not given.check:
        problems.add_usage(
            "--json prints one object when the job ends, and --restart starts it again; leave one "
            "of them out"
        )
    if settings.source.until_end and settings.restart and settings.source.start != "group":
        problems.add(
            f"--restart: a backfill from --start={settings.source.start} --until_end that failed "
            "is to be looked at; leave one of them out"
        )
    if given.watch_model_s is not None and settings.model.digest is not None:
        problems.add(
            "--model_digest pins the one model that may score, --watch_model_s is for new ones; "
            "leave one of them out"
        )
