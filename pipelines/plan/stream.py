"""What a stream scoring job will do, worked out before the first record, with all problems."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation
from deltalake.exceptions import DeltaError

from scoreline.lake.files.columns import top_columns
from scoreline.lake.files.examples import RAW_COLUMN
from scoreline.lake.files.schema_file import parse_features, parse_types
from scoreline.lake.table.letters import LETTER_COLUMNS
from scoreline.lake.table.scores import find_table_problems, open_table
from scoreline.models.examples import stored_type
from scoreline.models.mapping import find_field
from scoreline.models.signature import InputColumn, Signature, TensorSpec
from scoreline.models.tensors import output_type
from scoreline.models.versions import choose_version
from scoreline.pipelines.options.batch import BatchScoringSettings
from scoreline.pipelines.options.problems import BadOptions, Passing, as_problem
from scoreline.pipelines.options.stream import StreamScoringSettings
from scoreline.pipelines.plan.access import allow, connect, find_access_problems
from scoreline.pipelines.plan.batch import find_digest, make_score_spec
from scoreline.pipelines.plan.fit import (
    choose_inputs,
    choose_outputs,
    choose_rules,
    find_schema_problems,
    find_write_problems,
    scores_schema,
)
from scoreline.transforms.kafka.append import SCORED_DATE, TableSpec
from scoreline.transforms.kafka.client import NotAllowed, is_passing, list_partitions, read_topic_id
from scoreline.transforms.kafka.decode import DecodeSpec
from scoreline.transforms.kafka.decode_avro import parse_avro_schema
from scoreline.transforms.kafka.encode import CARRIED, SOURCE_FIELDS, VALUE_NAMES
from scoreline.transforms.kafka.encode_avro import AvroSpec, to_avro_schema
from scoreline.transforms.kafka.producer import WriteSpec
from scoreline.transforms.kafka.reader import ReadSpec
from scoreline.transforms.kafka.records import RAW_SCHEMA
from scoreline.transforms.kafka.registry import RegistryAway
from scoreline.transforms.scoring import ScoreSpec
from scoreline.transforms.swap.watch import SwapSpec

_QUICK_SECONDS = 10.0
_TAKEN = {*RAW_SCHEMA.names, *LETTER_COLUMNS}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """What to read, how to decode it, what to score it with and where the scores go."""

    read: ReadSpec
    decode: DecodeSpec
    score: ScoreSpec
    swap: SwapSpec | None
    write: WriteSpec


def plan_stream(
    settings: StreamScoringSettings,
    read_signature: Callable[[BatchScoringSettings, str], Signature],
) -> StreamPlan:
    """Check all that can be checked before the first record: topics, model, columns and types.

    Raises:
      BadOptions: something is wrong; lists all of it.
    """
    problems = find_topic_problems(settings)
    scoring = choose_model(settings, problems)
    text = _schema_text(settings, problems)
    given = _parse_schema(settings, text, problems)
    digest = find_digest(scoring, problems) if scoring else ""
    if problems or scoring is None:
        raise BadOptions(problems)
    try:
        signature = read_signature(scoring, digest)
    except (ValueError, OSError) as e:
        raise BadOptions([str(e)]) from e
    data_format = "tfrecord" if settings.format == "example" else settings.format
    inputs = choose_inputs(scoring, signature, problems, data_format)
    outputs = choose_outputs(scoring, signature, (), problems)
    rules = choose_rules(scoring, outputs, problems)
    schema = complete_schema(settings, signature, inputs, given, problems)
    problems += find_schema_problems(
        scoring, signature, inputs, (), {schema: [f"topic {settings.topic}"]}
    )
    written = [*scoring.carried, *(column for _, column, _ in outputs)]
    problems += [
        f"--keys, --keep and --outputs: '{name}' is the name of something else in a scored "
        f"record ({', '.join(VALUE_NAMES)}). Rename an output with --outputs T=COLUMN"
        for name in written
        if name in VALUE_NAMES or name in _TAKEN
    ]
    if problems:
        raise BadOptions(problems)
    columns = choose_stored_columns(settings, outputs, schema, problems)
    avro = plan_avro(settings, outputs, columns, problems)
    table = plan_table(settings, columns, problems) if scoring.output else None
    if problems:
        raise BadOptions(problems)
    wanted = top_columns(schema, (*scoring.carried, *(source.column for source in inputs)))
    decode = DecodeSpec(
        format=settings.format,
        schema=pa.schema([schema.field(name) for name in wanted]),
        avro_schema=text if settings.format == "avro" else "",
        avro_schema_id=settings.avro_schema_id,
        registry=settings.registry if settings.format == "avro" else None,
    )
    try:
        decode.make()
    except (ValueError, NotImplementedError) as e:
        raise BadOptions([f"--schema: {settings.format} values cannot be read so: {e}"]) from e
    score = make_score_spec(scoring, digest, inputs, outputs, rules, (*scoring.carried, *CARRIED))
    return StreamPlan(
        read=ReadSpec(
            connection=settings.connection,
            topic=settings.topic,
            group=settings.group,
            until_end=settings.until_end,
            latency_target_ms=settings.latency_target_ms,
            bundle_seconds=0.0 if settings.exactly_once else ReadSpec.bundle_seconds,
            heartbeat_file=settings.heartbeat_file,
            is_held=table is not None,
        ),
        decode=decode,
        score=score,
        swap=make_swap_spec(settings, signature),
        write=WriteSpec(
            connection=settings.connection,
            topic=settings.output_topic,
            dead_letter_topic=settings.dead_letter_topic,
            source_topic=settings.topic,
            group=settings.group,
            exactly_once=settings.exactly_once,
            table=table,
            avro=avro,
        ),
    )


def choose_stored_columns(
    settings: StreamScoringSettings,
    outputs: Sequence[tuple[TensorSpec, str, str]],
    schema: pa.Schema,
    problems: list[str],
) -> pa.Schema:
    """Return columns and types of a scored row in a table or in Avro; empty for JSON.

    Adds what is wrong with them to the problems.
    """
    scoring = settings.scoring
    if not scoring.output and settings.output_format != "avro":
        return pa.schema([])
    names = {*(field.name for field in SOURCE_FIELDS), SCORED_DATE}
    problems += [
        f"--keys, --keep and --outputs: '{name}' is a column that scores have anyway. Rename an "
        "output with --outputs T=COLUMN"
        for name in (*scoring.carried, *(column for _, column, _ in outputs))
        if name in names
    ]
    try:
        return pa.schema([*scores_schema(scoring.carried, outputs, schema), *SOURCE_FIELDS])
    except ValueError as e:
        problems.append(f"--outputs: {e}, nor can Avro. Leave it out with --outputs")
        return pa.schema([])


def plan_avro(
    settings: StreamScoringSettings,
    outputs: Sequence[tuple[TensorSpec, str, str]],
    columns: pa.Schema,
    problems: list[str],
) -> AvroSpec | None:
    """Return how values are written in Avro, None when they are not; adds to the problems."""
    if settings.output_format != "avro":
        return None
    text = ""
    try:
        text = to_avro_schema(columns, {column for _, column, _ in outputs})
    except ValueError as e:
        problems.append(f"--output_format=avro: {e}. Rename an output with --outputs T=COLUMN")
    return AvroSpec(columns=columns, schema=text, schema_id=settings.output_schema_id)


def plan_table(
    settings: StreamScoringSettings, columns: pa.Schema, problems: list[str]
) -> TableSpec:
    """Return the table that scores are appended to; adds what is wrong with it to the problems."""
    output, topic_id = settings.scoring.output, ""
    try:
        table = open_table(output)
        problems += find_write_problems(output)
        if table is not None and not problems:
            problems += find_table_problems(table, columns, [SCORED_DATE])
        topic_id = read_topic_id(settings.connection.admin(), settings.topic)
    except ValueError as e:
        problems.append(str(e))
    except (OSError, DeltaError) as e:
        problems.append(as_problem(e, "--output"))
    except KafkaException as e:
        problems.append(_as_problem(e.args[0], f"--topic: {settings.topic} cannot be described"))
    return TableSpec(
        output=output,
        schema=columns,
        topic=settings.topic,
        topic_id=topic_id,
        group=settings.group,
        flush_seconds=settings.flush_interval_s,
    )


def _as_problem(error: KafkaError, told_of: str) -> str:
    """Return a sentence on an error of a client, as `as_problem` does on one of a store."""
    sentence = f"{told_of}: {error.str()}"
    return Passing(sentence) if is_passing(error) else sentence


def choose_model(
    settings: StreamScoringSettings, problems: list[str]
) -> BatchScoringSettings | None:
    """Return the settings with the model to begin with: in a folder that is watched, the version.

    None, with a problem more, when the folder holds none.
    """
    if settings.watch_model_s is None:
        return settings.scoring
    try:
        version = choose_version(os.path.abspath(settings.scoring.model))
    except OSError as e:
        problems.append(f"--model: with --watch_model_s it is a folder of versions. {e}")
        return None
    return dataclasses.replace(settings.scoring, model=version.path)


def make_swap_spec(settings: StreamScoringSettings, signature: Signature) -> SwapSpec | None:
    """Return what to watch for new versions; None when nothing is."""
    if settings.watch_model_s is None:
        return None
    return SwapSpec(
        folder=os.path.abspath(settings.scoring.model),
        poll_s=settings.watch_model_s,
        max_disagreement=settings.swap_max_disagreement,
        max_latency_ratio=settings.swap_max_latency_ratio,
        signature=signature,
    )


def find_topic_problems(settings: StreamScoringSettings) -> list[str]:
    """Return what is wrong with brokers and topics."""
    problems: list[str] = []
    topics = [
        ("--topic", settings.topic, AclOperation.READ),
        ("--output_topic", settings.output_topic, AclOperation.WRITE),
        ("--dead_letter_topic", settings.dead_letter_topic, AclOperation.WRITE),
    ]
    topics = [named for named in topics if named[1]]
    client = connect(settings.connection, problems)
    if client is None:
        return problems
    try:
        for flag, topic, _ in topics:
            try:
                list_partitions(client, topic, _QUICK_SECONDS)
            except NotAllowed as e:
                problems.append(f"{flag}: {e}. {allow('Describe', f'topic {topic}')}")
            except LookupError as e:
                problems.append(f"{flag}: {e}. Make it first, with as many partitions as fit")
        if not problems:
            problems += find_access_problems(client, topics, settings.group)
    except KafkaException as e:
        where = settings.connection.brokers
        problems.append(_as_problem(e.args[0], f"--brokers: expected Kafka at {where}, got"))
    return problems


def complete_schema(
    settings: StreamScoringSettings,
    signature: Signature,
    inputs: list[InputColumn],
    given: pa.Schema,
    problems: list[str],
) -> pa.Schema:
    """Return the types of a record's columns: those of `--schema`, and of the inputs they feed.

    Adds to the problems the columns whose types nothing says.
    """
    if settings.format == "avro":
        return given
    columns = {field.name: field.type for field in given}
    if settings.format == "example":
        columns[RAW_COLUMN] = pa.large_binary()
    features = [InputColumn(spec, spec.name) for spec in signature.inputs]
    for source in (*inputs, *(features if signature.example_input else ())):
        if not source.conversion and not find_field(
            pa.schema(list(columns.items())), source.column
        ):
            columns[source.column] = _type_of(source.tensor, settings.format)
    schema = pa.schema(list(columns.items()))
    wanted = (*settings.scoring.carried, *(source.column for source in inputs))
    untold = [name for name in dict.fromkeys(wanted) if not find_field(schema, name)]
    if untold:
        how = (
            "a tensorflow-metadata Schema in text format"
            if settings.format == "example"
            else 'JSON such as {"' + untold[0] + '": "int64"}'
        )
        problems.append(
            f"--schema: expected a file that says the types of {', '.join(untold)}, which the "
            f"model's signature does not say: {how}"
        )
        schema = pa.schema([*schema, *((name, pa.string()) for name in untold)])
    return schema


def _type_of(spec: TensorSpec, data_format: str) -> pa.DataType:
    if data_format == "example":
        return stored_type(spec)
    kind = output_type(spec._replace(shape=(None,)))
    for _ in () if spec.is_one_value else spec.row_shape:
        kind = pa.list_(kind)  # Arrow's JSON parser knows no lists of a fixed size
    return kind


def _schema_text(settings: StreamScoringSettings, problems: list[str]) -> str:
    """Return what says the types of a record's columns; "" when nothing does."""
    scoring, subject = settings.scoring, f"{settings.topic}-value"
    try:
        if scoring.schema is not None:
            return Path(scoring.schema).read_text("utf-8")
        if settings.registry is None or settings.format != "avro":
            return ""
        found = settings.registry.connect().latest(subject)
        if found is not None:
            return found.schema
        problems.append(
            f"--schema_registry: expected a subject {subject} at {settings.registry.url}, there is "
            "none. Give the Avro schema that values are to be read as with --schema"
        )
    except RegistryAway as e:
        problems.append(Passing(f"--schema_registry: {e}"))
    except (ValueError, OSError) as e:
        flag = "--schema_registry" if scoring.schema is None else f"--schema: {scoring.schema}"
        problems.append(f"{flag}: {e}")
    return ""


def _parse_schema(settings: StreamScoringSettings, text: str, problems: list[str]) -> pa.Schema:
    parse = {"json": parse_types, "avro": parse_avro_schema, "example": parse_features}
    try:
        return parse[settings.format](text) if text else pa.schema([])
    except ValueError as e:
        source = settings.scoring.schema or f"the newest schema of {settings.topic}-value"
        problems.append(f"--schema: {source}: {e}")
        return pa.schema([])
