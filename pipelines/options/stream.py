"""The options of a stream scoring job, declared once, and the settings they make once checked."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import math
import os
from collections.abc import Sequence
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions

from scoreline.lake.files.data_file import MAX_BATCH_BYTES, MAX_VALUE_BYTES
from scoreline.pipelines.options.batch import BatchScoringOptions, BatchScoringSettings
from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.options.reader import OptionReader, find_secret
from scoreline.transforms.kafka.client import REGISTRY_PREFIX, Connection, parse_properties
from scoreline.transforms.kafka.decode import FORMATS
from scoreline.transforms.kafka.registry import Registry

OUTPUT_FORMATS = ("json", "avro")
STARTS = ("group", "earliest", "latest", "timestamp")
# Options of a batch job that mean nothing here, and their defaults.
_BATCH_ONLY = {
    "input": None,
    "partitions": None,
    "last": None,
    "allow_missing": None,
    "workers": None,
    "reprocess": "none",
    "max_dead_letter_ratio": "0.01",
    "max_value_bytes": str(MAX_VALUE_BYTES),
    "max_batch_bytes": str(MAX_BATCH_BYTES),
}
_NEEDED = ("brokers", "topic", "group")
_FLUSH_SECONDS = 60.0
_MAX_DISAGREEMENT, _MAX_LATENCY_RATIO = 0.2, 2.0


class StreamScoringOptions(PipelineOptions):
    """The flags that `scoreline stream` has beside those about the model."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        cls.add_to(parser)

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser) -> None:
        """Declare the flags, in groups."""
        source = parser.add_argument_group("the stream")
        source.add_argument("--brokers", metavar="HOST:PORT,…", help="Kafka brokers to begin with")
        source.add_argument(
            "--kafka_config",
            metavar="FILE",
            help="properties file of librdkafka for what else a client needs, as SASL and TLS; "
            "secrets belong there. Every worker reads it",
        )
        source.add_argument("--topic", metavar="T", help="topic of the records to score")
        source.add_argument(
            "--group", metavar="G", help="consumer group that keeps how far is scored; one per job"
        )
        source.add_argument(
            "--format",
            choices=FORMATS,
            default="json",
            help="what values hold: json (default), avro or example, a serialized tf.Example",
        )
        source.add_argument(
            "--avro_schema_id",
            metavar="N",
            help="values begin with Confluent's header and this schema id, that of --schema",
        )
        source.add_argument(
            "--schema_registry",
            metavar="URL",
            help="schema registry of Avro values: each is read by the schema whose id is in its "
            "header, as --schema or the newest of T-value; scores' schema is registered there",
        )
        source.add_argument(
            "--start",
            choices=STARTS,
            default="group",
            help="group: go on where the group is, from the first record if it is nowhere "
            "(default). The others set the group there first",
        )
        source.add_argument(
            "--start_time",
            metavar="TIME",
            help="for --start=timestamp, as 2026-11-24T06:00:00Z or in ms since 1970",
        )
        source.add_argument(
            "--until_end",
            action="store_true",
            help="end when all is scored that the topic holds now: for backfills and tests",
        )

        sink = parser.add_argument_group("where scores go")
        sink.add_argument("--output_topic", metavar="T", help="topic of the scores")
        sink.add_argument(
            "--output_format",
            choices=OUTPUT_FORMATS,
            default="json",
            help="what its values hold: json (default) or avro, of a schema that --check shows",
        )
        sink.add_argument(
            "--output_schema_id",
            metavar="N",
            help="Avro values begin with Confluent's header and this schema id",
        )
        sink.add_argument(
            "--flush_interval_s",
            metavar="S",
            help="with --output, the Delta table that scores are appended to: a file every so many "
            "seconds, which also has the offsets committed (default: 60)",
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

        how = parser.add_argument_group("how the stream runs")
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

        swap = parser.add_argument_group("new model versions while it runs")
        swap.add_argument(
            "--watch_model_s",
            metavar="S",
            help="look every S seconds for a new version in the directory --model, which then "
            "holds numbered versions 1, 2.keras, 3.tflite, …; the highest one serves, or the one "
            "that a file SERVING in it names. Scoring goes on meanwhile",
        )
        swap.add_argument(
            "--swap_max_disagreement",
            metavar="D",
            help="keep a new version out whose scores of a sample differ by more: for numbers with "
            "a point the mean absolute difference in standard deviations of the old scores, else "
            f"the share of rows that differ (default: {_MAX_DISAGREEMENT}). Not asked of one that "
            "SERVING names, as the next is not",
        )
        swap.add_argument(
            "--swap_max_latency_ratio",
            metavar="R",
            help="keep a new version out that takes more than R times as long for the sample "
            f"(default: {_MAX_LATENCY_RATIO})",
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StreamScoringSettings:
    """Checked settings of a stream scoring job; fields are named and explained as the options.

    `scoring` holds those about model, inputs and outputs.
    """

    scoring: BatchScoringSettings
    connection: Connection
    topic: str
    group: str
    format: str = "json"
    avro_schema_id: int | None = None
    registry: Registry | None = None
    start: str = "group"
    start_ms: int | None = None
    until_end: bool = False
    output_topic: str = ""
    output_format: str = "json"
    output_schema_id: int | None = None
    flush_interval_s: float = _FLUSH_SECONDS
    dead_letter_topic: str = ""
    exactly_once: bool = False
    latency_target_ms: float | None = None
    readers: int = 1
    heartbeat_file: str = ""
    watch_model_s: float | None = None
    swap_max_disagreement: float = _MAX_DISAGREEMENT
    swap_max_latency_ratio: float = _MAX_LATENCY_RATIO

    @classmethod
    def from_options(
        cls, options: PipelineOptions, problems: Sequence[str] = ()
    ) -> StreamScoringSettings:
        """Parse and check options.

        Raises:
          BadOptions: some are missing or wrong; lists all of them.
        """
        given = options.view_as(StreamScoringOptions)
        read = OptionReader(problems, [f"--{name}" for name in _NEEDED])
        readers = read.positive("--readers", given.readers, "")
        config = _config(read, given.kafka_config)
        settings = {
            "connection": Connection(
                brokers=read.required("--brokers", given.brokers),
                config=config,
            ),
            "topic": read.required("--topic", given.topic),
            "group": read.required("--group", given.group),
            "format": given.format,
            "avro_schema_id": _schema_id(read, "--avro_schema_id", given.avro_schema_id),
            "registry": _registry(read, given.schema_registry, config),
            "start": given.start,
            "start_ms": _start_ms(read, given.start, given.start_time),
            "until_end": given.until_end,
            "output_topic": given.output_topic or "",
            "output_format": given.output_format,
            "output_schema_id": _schema_id(read, "--output_schema_id", given.output_schema_id),
            "flush_interval_s": (
                read.seconds("--flush_interval_s", given.flush_interval_s) or _FLUSH_SECONDS
            ),
            "dead_letter_topic": given.dead_letter_topic or "",
            "exactly_once": given.exactly_once,
            "latency_target_ms": (
                None
                if given.latency_target_ms is None
                else float(read.positive("--latency_target_ms", given.latency_target_ms, ""))
            ),
            "readers": readers,
            "heartbeat_file": _writable(read, given.heartbeat_file),
            "watch_model_s": read.seconds("--watch_model_s", given.watch_model_s),
            "swap_max_disagreement": _bound(
                read, "--swap_max_disagreement", given.swap_max_disagreement, _MAX_DISAGREEMENT
            ),
            "swap_max_latency_ratio": _bound(
                read, "--swap_max_latency_ratio", given.swap_max_latency_ratio, _MAX_LATENCY_RATIO
            ),
        }
        _check_together(read, options)
        try:
            scoring = BatchScoringSettings.from_options(
                options, read.problems, needs=("--model", "--keys")
            )
        except BadOptions as e:
            read.problems = e.problems
        if read.problems:
            raise BadOptions(read.problems)
        scoring = dataclasses.replace(scoring, workers=readers)
        return cls(scoring=scoring, **settings)


def _schema_id(read: OptionReader, flag: str, text: str | None) -> int | None:
    return None if text is None else read.positive(flag, text, "")


def _registry(read: OptionReader, url: str | None, config: str) -> Registry | None:
    if url is None:
        return None
    if "@" in url or find_secret("", url):
        read.problems.append(
            "--schema_registry: expected a URL without credentials. Give them in --kafka_config as "
            f"{REGISTRY_PREFIX}basic.auth.user.info=USER:PASSWORD, or as "
            f"{REGISTRY_PREFIX}bearer.auth.… for OAuth"
        )
    elif not url.startswith(("http://", "https://")):
        read.problems.append(f"--schema_registry: expected http://… or https://…, got '{url}'")
    elif config and Path(config).is_file():
        try:
            Registry(url=url, config=config).connect()
        except (ValueError, OSError) as e:
            read.problems.append(f"--kafka_config: {config}: {e}")
    return Registry(url=url, config=config)


def _config(read: OptionReader, path: str | None) -> str:
    found = next(iter(read.files("--kafka_config", [path] if path else [])), "")
    if found and Path(found).is_file():
        try:
            parse_properties(Path(found).read_text("utf-8"))
        except (ValueError, OSError) as e:
            read.problems.append(f"--kafka_config: {path}: {e}")
            return ""
    return found


def _writable(read: OptionReader, path: str | None) -> str:
    """Return the absolute path of a file that can be written; "" when none is given."""
    if path is None:
        return ""
    at = os.path.abspath(path)
    writable = at if os.path.exists(at) else os.path.dirname(at)
    if os.path.isdir(at) or not os.access(writable, os.W_OK):
        read.problems.append(f"--heartbeat_file: expected a file that can be written, got {path}")
    return at


def _start_ms(read: OptionReader, start: str, text: str | None) -> int | None:
    if (start == "timestamp") != (text is not None):
        read.problems.append(
            "--start_time: expected a time with --start=timestamp, and none without, "
            f"got '{text}' with --start={start}"
        )
    if text is None or text.isdigit():
        return None if text is None else int(text)
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        at = dt.datetime(1970, 1, 1)  # noqa: DTZ001  refused just below
    if at.tzinfo is None:
        read.problems.append(
            f"--start_time: expected a time with its zone, as 2026-11-24T06:00:00Z, got '{text}'"
        )
    return int(at.timestamp() * 1000)


def _bound(read: OptionReader, flag: str, text: str | None, default: float) -> float:
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        read.problems.append(f"{flag}: expected a number of at least 0, got '{text}'")
    return value


def _check_together(read: OptionReader, options: PipelineOptions) -> None:
    given = options.view_as(StreamScoringOptions)
    batch = options.view_as(BatchScoringOptions)
    for name, default in _BATCH_ONLY.items():
        if getattr(batch, name) != default:
            read.problems.append(f"--{name} is an option of score_batch; leave it out")
    if not given.output_topic and not batch.output:
        read.problems.append(
            "--output_topic is required, a topic for scores; or --output, a Delta table; or both"
        )
    if given.output_format == "avro" and not given.output_topic:
        read.problems.append("--output_format is for --output_topic; leave it out")
    if given.output_format != "avro" and given.output_schema_id is not None:
        read.problems.append("--output_schema_id is for --output_format=avro; leave it out")
    if given.flush_interval_s is not None and not batch.output:
        read.problems.append("--flush_interval_s is for --output; leave it out")
    if given.exactly_once and batch.output:
        read.problems.append(
            "--exactly_once: each bundle's transaction would commit offsets of rows that wait for "
            "--output, and a kill would lose them. The table has each record once without it; for "
            "a topic with each record once, run a second job of another --group"
        )
    if given.schema_registry and "avro" not in (given.format, given.output_format):
        read.problems.append(
            "--schema_registry is for --format=avro and --output_format=avro; leave it out"
        )
    if given.schema_registry and (given.avro_schema_id or given.output_schema_id):
        read.problems.append(
            "--schema_registry tells the ids of schemas; leave --avro_schema_id and "
            "--output_schema_id out"
        )
    if given.format == "avro" and not batch.schema and not given.schema_registry:
        read.problems.append("--schema is required: the Avro schema that values were written with")
    if given.format != "avro" and given.avro_schema_id is not None:
        read.problems.append("--avro_schema_id is for --format=avro; leave it out")
    topics = [given.topic, given.output_topic, given.dead_letter_topic]
    named = [topic for topic in topics if topic]
    if len(set(named)) != len(named):
        read.problems.append(
            "--topic, --output_topic and --dead_letter_topic: expected different topics, got "
            + ", ".join(named)
        )
    if given.until_end and given.restart and given.start != "group":
        read.problems.append(
            f"--restart: a backfill from --start={given.start} --until_end that failed is to be "
            "looked at; leave one of them out"
        )
    watched = given.watch_model_s is not None
    if watched and batch.model_digest is not None:
        read.problems.append(
            "--model_digest pins the one model that may score, --watch_model_s is for new ones; "
            "leave one of them out"
        )
    for name in ("swap_max_disagreement", "swap_max_latency_ratio"):
        if getattr(given, name) is not None and not watched:
            read.problems.append(f"--{name} is for --watch_model_s; leave it out, or give both")
