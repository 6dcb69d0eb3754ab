"""The plan of a stream scoring job, checked before the first record."""

from __future__ import annotations

import dataclasses
import os

import pyarrow as pa

from scoreline.lake.files.columns import top_columns
from scoreline.lake.table.letters import LETTER_COLUMNS
from scoreline.models.mapping import find_field
from scoreline.models.signature import Signature
from scoreline.models.versions import choose_version
from scoreline.pipelines.doing import doing
from scoreline.pipelines.options.model import ModelSettings
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.options.stream import StreamSettings
from scoreline.pipelines.plan.fit import Fit, check_schemas, fit_model
from scoreline.pipelines.plan.group import check_group
from scoreline.pipelines.plan.missing_keys import find_required, plan_missing
from scoreline.pipelines.plan.model import SignatureReader, find_model, load_signature
from scoreline.pipelines.plan.record_schema import RecordSchema, complete_schema, find_schema
from scoreline.pipelines.plan.stream_sink import StoredRows, plan_avro, plan_table, store_rows
from scoreline.pipelines.plan.topics import Topics, find_topics
from scoreline.transforms.kafka.decode import DecodeSpec
from scoreline.transforms.kafka.encode import CARRIED, VALUE_NAMES
from scoreline.transforms.kafka.producer import WriteSpec
from scoreline.transforms.kafka.reader import TopicSpec
from scoreline.transforms.kafka.records import RAW_SCHEMA
from scoreline.transforms.scoring import ScoreSpec
from scoreline.transforms.swap.watch import SwapSpec

_TAKEN = {*RAW_SCHEMA.names, *LETTER_COLUMNS}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """The parts of a stream's graph: one finished object per step.

    Attributes:
      read: the topic and the group.
      decode: the format of values and their columns.
      score: the model and its inputs.
      swap: the folder of model versions to watch, or None.
      write: the destinations of scores and dead letters.
      readers: number of consumers that share the topic's partitions.
    """

    read: TopicSpec
    decode: DecodeSpec
    score: ScoreSpec
    swap: SwapSpec | None
    write: WriteSpec
    readers: int = 1


def plan_stream(
    settings: StreamSettings, read_signature: SignatureReader, problems: Problems
) -> StreamPlan:
    """Plan a stream, and check topics, model, columns and types before the first record.

    Args:
      settings: the settings of the job.
      read_signature: loads the model and calls it once.
      problems: the problems so far; further ones are added.

    Raises:
      BadOptions: lists all problems.
    """
    with doing(f"asking Kafka for topic {settings.source.topic}"):
        topics = find_topics(settings, problems)
    chosen = choose_model(settings, problems)
    model = find_model(chosen, problems, settings.concurrent_calls) if chosen else None
    signature = load_signature(model, read_signature, problems)
    with doing(f"reading the schema of topic {settings.source.topic}"):
        given = find_schema(settings, topics, problems)
    fit = _fit(settings, signature, problems) if signature else None
    schema = complete_schema(settings, fit, given, problems) if fit and given else None
    rows = _store(settings, fit, schema, topics, problems) if fit and schema is not None else None
    decode = _decode(settings, fit, schema, given, problems) if fit and given else None
    check_group(settings, topics, rows.table if rows else None, problems)
    if problems or not (model and fit and rows and decode and signature):
        raise BadOptions(problems)
    return StreamPlan(
        read=_read_spec(settings, topics, has_table=rows.table is not None),
        decode=decode,
        score=dataclasses.replace(
            fit.score_spec(model, CARRIED),
            checks_purity=True,
            allow_impure=settings.model.allow_impure,
            has_few_sizes=not settings.model.allow_impure,
        ),
        swap=make_swap_spec(settings, signature),
        write=_write_spec(settings, topics, rows),
        readers=settings.readers,
    )


def choose_model(settings: StreamSettings, problems: Problems) -> ModelSettings | None:
    """Return the settings with the first model: in a watched folder, the version to start with.

    None, with a problem, if the folder has no version.
    """
    model = settings.model
    if settings.swap is None or not model.path:
        return model
    try:
        version = choose_version(os.path.abspath(model.path))
    except OSError as e:
        problems.add(f"--model: expected a folder of versions with --watch_model_s. {e}")
        return None
    return dataclasses.replace(model, path=version.path)


def make_swap_spec(settings: StreamSettings, signature: Signature) -> SwapSpec | None:
    """Return the spec of the watched folder, or None."""
    if settings.swap is None:
        return None
    return SwapSpec(
        folder=os.path.abspath(settings.model.path),
        poll_s=settings.swap.watch_model_s,
        max_disagreement=settings.swap.max_disagreement,
        max_latency_ratio=settings.swap.max_latency_ratio,
        signature=signature,
    )


def _fit(settings: StreamSettings, signature: Signature, problems: Problems) -> Fit:
    fit = fit_model(
        signature,
        settings.model,
        problems,
        keys=settings.keys,
        rules=settings.rules,
        has_records=settings.source.format == "example",
    )
    written = [*fit.carried, *(output.column for output in fit.outputs)]
    problems.add_all(
        f"--keys, --keep and --outputs: '{name}' is a reserved name in a scored record "
        f"({', '.join(VALUE_NAMES)}). Rename an output with --outputs T=COLUMN"
        for name in written
        if name in VALUE_NAMES or name in _TAKEN
    )
    return fit


def _store(
    settings: StreamSettings,
    fit: Fit,
    schema: pa.Schema,
    topics: Topics,
    problems: Problems,
) -> StoredRows | None:
    """Return the storage of scored rows; None if it is not possible."""
    if check_schemas(fit, {schema: [f"topic {settings.source.topic}"]}, problems) is None:
        return None
    columns = store_rows(settings, fit, schema, problems)
    if columns is None:
        return None
    return StoredRows(
        avro=plan_avro(settings, fit, columns, problems),
        table=plan_table(settings, columns, topics, problems) if settings.sink.output else None,
    )


def _decode(
    settings: StreamSettings,
    fit: Fit,
    schema: pa.Schema | None,
    given: RecordSchema,
    problems: Problems,
) -> DecodeSpec | None:
    """Return the decoding of values; None if it is not possible."""
    if schema is None or not all(find_field(schema, name) for name in fit.columns):
        return None
    source = settings.source
    is_avro = source.format == "avro"
    decode = DecodeSpec(
        format=source.format,
        schema=pa.schema([schema.field(name) for name in top_columns(schema, fit.columns)]),
        avro_schema=given.text if is_avro else "",
        avro_schema_id=source.avro_schema_id,
        registry=given.registry if is_avro else None,
        missing=plan_missing(source, fit, schema, problems),
        required=find_required(source, fit),
    )
    try:
        decode.make()
    except (ValueError, NotImplementedError) as e:
        problems.add(f"--schema: {source.format} values cannot be read with it: {e}")
        return None
    return decode


def _read_spec(settings: StreamSettings, topics: Topics, *, has_table: bool) -> TopicSpec:
    source = settings.source
    return TopicSpec(
        connection=topics.connection,
        topic=source.topic,
        group=source.group,
        until_end=source.until_end,
        latency_target_ms=settings.latency_target_ms,
        bundle_seconds=0.0 if settings.sink.exactly_once else TopicSpec.bundle_seconds,
        heartbeat_file=settings.heartbeat_file,
        is_held=has_table,
        topics=topics.planned,
    )


def _write_spec(settings: StreamSettings, topics: Topics, rows: StoredRows) -> WriteSpec:
    return WriteSpec(
        connection=topics.connection,
        topic=settings.sink.output_topic,
        dead_letter_topic=settings.sink.dead_letter_topic,
        source_topic=settings.source.topic,
        group=settings.source.group,
        exactly_once=settings.sink.exactly_once,
        table=rows.table,
        avro=rows.avro,
        source_topic_id=topics.source_id,
    )
