"""What a stream scoring job will do, worked out before the first record, with all problems."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from confluent_kafka import KafkaException

from models.columns import find_field, top_columns
from models.examples import stored_type
from models.signature import InputColumn, Signature, TensorSpec
from models.tensors import output_type
from models.version_folder import choose_version
from pipelines.checks import choose_inputs, choose_outputs, choose_rules, find_schema_problems
from pipelines.plan import find_digest, make_score_spec
from pipelines.settings import BadOptions, BatchScoringSettings
from pipelines.stream_settings import StreamScoringSettings
from transforms.dead_letters import REASON_COLUMNS
from transforms.io.decode import DecodeSpec
from transforms.io.decode_avro import parse_avro_schema
from transforms.io.encode import CARRIED, VALUE_NAMES
from transforms.io.examples import RAW_COLUMN
from transforms.io.kafka import RAW_SCHEMA, ReadSpec
from transforms.io.kafka_client import list_partitions
from transforms.io.kafka_sink import WriteSpec
from transforms.io.schema_file import parse_features, parse_types
from transforms.score import ScoreSpec
from transforms.swap import SwapSpec

_QUICK_SECONDS = 10.0
_TAKEN = {*RAW_SCHEMA.names, *REASON_COLUMNS}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """What to read, how to decode it, what to score it with and where the scores go."""

    read: ReadSpec
    decode: DecodeSpec
    score: ScoreSpec
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
    given = _read_schema(settings, problems)
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
    wanted = top_columns(schema, (*scoring.carried, *(source.column for source in inputs)))
    decode = DecodeSpec(
        format=settings.format,
        schema=pa.schema([schema.field(name) for name in wanted]),
        avro_schema=_text(scoring) if settings.format == "avro" else "",
        avro_schema_id=settings.avro_schema_id,
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
            bundle_seconds=0.0 if settings.exactly_once else 0.1,
        ),
        decode=decode,
        score=dataclasses.replace(score, swap=make_swap_spec(settings, signature)),
        write=WriteSpec(
            connection=settings.connection,
            topic=settings.output_topic,
            dead_letter_topic=settings.dead_letter_topic,
            source_topic=settings.topic,
            group=settings.group,
            exactly_once=settings.exactly_once,
        ),
    )


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
    problems = []
    flags = {
        "--topic": settings.topic,
        "--output_topic": settings.output_topic,
        "--dead_letter_topic": settings.dead_letter_topic,
    }
    try:
        client = settings.connection.admin()
        for flag, topic in flags.items():
            if topic:
                try:
                    list_partitions(client, topic, _QUICK_SECONDS)
                except LookupError as e:
                    problems.append(f"{flag}: {e}. Make it first, with as many partitions as fit")
    except KafkaException as e:
        problems.append(
            f"--brokers: expected Kafka at {settings.connection.brokers}, got: {e.args[0].str()}"
        )
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


def _text(scoring: BatchScoringSettings) -> str:
    return Path(scoring.schema or "").read_text("utf-8")


def _read_schema(settings: StreamScoringSettings, problems: list[str]) -> pa.Schema:
    if settings.scoring.schema is None:
        return pa.schema([])
    parse = {"json": parse_types, "avro": parse_avro_schema, "example": parse_features}
    try:
        return parse[settings.format](_text(settings.scoring))
    except (ValueError, OSError) as e:
        problems.append(f"--schema: {settings.scoring.schema}: {e}")
        return pa.schema([])
