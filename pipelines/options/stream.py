"""The flags of `scoreline stream`, and their checked settings."""

from __future__ import annotations

import argparse
import dataclasses
import os

from scoreline.pipelines.options import kafka_sink, kafka_source, swap
from scoreline.pipelines.options import model as model_flags
from scoreline.pipelines.options.command_parser import CommandParser
from scoreline.pipelines.options.kafka_sink import SinkSettings, read_sink
from scoreline.pipelines.options.kafka_source import SourceSettings, read_source
from scoreline.pipelines.options.model import AUTO, ModelSettings, read_model
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
Score the records of a Kafka topic with a TensorFlow model, as they arrive.

Scores go to another topic, to a Delta table (--output), or to both.

SIGTERM or Ctrl-C stops the job cleanly: all records that were read are scored, sent and committed.
Exit codes: 0 stopped, or all records are scored (--until_end); 1 the job failed, and continues
after a restart; 2 options, topics or model are wrong, found before the first score; 3 like 0, and
some records are dead letters.
"""
_NEEDED = ("--brokers", "--topic", "--group", "--model", "--keys")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StreamSettings:
    """Checked settings of a stream scoring job.

    Attributes:
      source, sink: settings of the records and of the destinations of scores.
      model, keys, rules: settings of the model and the rows, as for a batch job.
      swap: settings of the watched model folder; None if it is not watched.
      latency_target_ms: target time to score a record; None for no target.
      readers: number of consumers that share the topic's partitions.
      heartbeat_file: the file to touch; "" for none.
      restart: whether a separate process runs the job, and is restarted after failures.
      check: whether to plan only.
      concurrent_calls: number of parallel model calls in a worker process.
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
    add_check_flag(parser, "check everything, print the plan, and score nothing")
    how = parser.group("how it runs")
    how.add_argument(
        "--latency_target_ms",
        metavar="MS",
        help="limit the records of a poll so that they are scored within this time",
    )
    how.add_argument(
        "--readers",
        metavar="N",
        default="1",
        help="consumers that share the topic's partitions (default: 1; more need a runner that "
        "runs them in parallel)",
    )
    how.add_argument(
        "--heartbeat_file",
        metavar="FILE",
        help="file to touch every second while the job polls, scores and delivers: an old file "
        "shows that the job hangs",
    )
    how.add_argument(
        "--restart",
        action="store_true",
        help="run in a separate process, which is restarted 1 s to 60 s after it fails",
    )


def read_stream(given: argparse.Namespace, problems: Problems) -> StreamSettings:
    """Return the settings, and add all problems."""
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
    """Return the absolute path of a writable file; "" if it is not given."""
    if path is None:
        return ""
    at = os.path.abspath(path)
    writable = at if os.path.exists(at) else os.path.dirname(at)
    if os.path.isdir(at) or not os.access(writable, os.W_OK):
        read.problems.add(f"--heartbeat_file: expected a writable file, got {path}")
    return at


def _check_outputs(settings: StreamSettings, given: argparse.Namespace, problems: Problems) -> None:
    """Check the combination of topics and table."""
    sink = settings.sink
    if not sink.output_topic and not sink.output:
        problems.add_usage(
            "--output_topic is required (a topic of scores), or --output (a Delta table), or both"
        )
    if sink.output_format == "avro" and not sink.output_topic:
        problems.add("--output_format needs --output_topic; leave it out")
    if given.flush_interval_s is not None and not sink.output:
        problems.add("--flush_interval_s needs --output; leave it out")
    if sink.exactly_once and sink.output:
        problems.add(
            "--exactly_once: expected no --output with it, because each bundle's transaction would "
            "commit offsets of rows that still wait for the table, and a kill would lose them. The "
            "table is exactly once without it. For a topic that is exactly once, run a second job "
            "with another --group"
        )
    topics = [settings.source.topic, sink.output_topic, sink.dead_letter_topic]
    named = [topic for topic in topics if topic]
    if len(set(named)) != len(named):
        problems.add(
            "--topic, --output_topic and --dead_letter_topic: expected different topics, got "
            + ", ".join(named)
        )


def _check_avro(settings: StreamSettings, given: argparse.Namespace, problems: Problems) -> None:
    """Check the combination of schema flags."""
    source, sink = settings.source, settings.sink
    if sink.output_format != "avro" and given.output_schema_id is not None:
        problems.add("--output_schema_id needs --output_format=avro; leave it out")
    if given.schema_registry and "avro" not in (source.format, sink.output_format):
        problems.add("--schema_registry needs --format=avro or --output_format=avro; leave it out")
    if given.schema_registry and (given.avro_schema_id or given.output_schema_id):
        problems.add(
            "--schema_registry provides the ids of schemas; leave out --avro_schema_id and "
            "--output_schema_id"
        )
    if source.format == "avro" and not given.schema and not given.schema_registry:
        problems.add("--schema is required: the Avro writer schema of values")
    if source.format != "avro" and given.avro_schema_id is not None:
        problems.add("--avro_schema_id needs --format=avro; leave it out")


def _check_run(settings: StreamSettings, given: argparse.Namespace, problems: Problems) -> None:
    """Check the flags of the run."""
    if given.json and given.restart and not given.check:
        problems.add_usage(
            "--json prints one object when the job ends, but --restart restarts it; leave out one "
            "of them"
        )
    if settings.source.until_end and settings.restart and settings.source.start != "group":
        problems.add(
            f"--restart: a failed backfill from --start={settings.source.start} --until_end needs "
            "a user's decision; leave out one of them"
        )
    if given.watch_model_s is not None and settings.model.path.startswith(AUTO):
        problems.add_usage(
            f"--model {AUTO}… chooses a variant once, but --watch_model_s swaps models; leave out "
            "one of them"
        )
    if given.watch_model_s is not None and settings.model.digest is not None:
        problems.add(
            "--model_digest allows only one model, but --watch_model_s swaps models; leave out one "
            "of them"
        )
