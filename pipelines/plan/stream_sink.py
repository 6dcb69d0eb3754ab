"""The storage of a stream's scored rows: columns of a table, and of Avro values."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa
from confluent_kafka import KafkaException

from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.stream import StreamSettings
from scoreline.pipelines.plan.fit import Fit
from scoreline.pipelines.plan.table import check_writable, find_table
from scoreline.pipelines.plan.topics import Topics, as_kafka_problem
from scoreline.transforms.kafka.append import TableSpec
from scoreline.transforms.kafka.avro import AvroSpec, to_avro_schema
from scoreline.transforms.kafka.client import read_topic_id
from scoreline.transforms.kafka.encode import SOURCE_FIELDS
from scoreline.transforms.kafka.watched_table import SCORED_DATE, find_append_problems

SOURCE_NAMES = tuple(field.name for field in SOURCE_FIELDS)


class StoredRows(NamedTuple):
    """The storage of scored rows.

    Attributes:
      avro: the encoding of Avro values; None for JSON.
      table: the table to which rows are appended, or None.
    """

    avro: AvroSpec | None
    table: TableSpec | None


def store_rows(
    settings: StreamSettings, fit: Fit, schema: pa.Schema, problems: Problems
) -> pa.Schema | None:
    """Return columns and types of a scored row in a table or in Avro; empty for JSON.

    None, with a problem, if they cannot be stored.
    """
    sink = settings.sink
    if not sink.output and sink.output_format != "avro":
        return pa.schema([])
    names = {*SOURCE_NAMES, SCORED_DATE}
    problems.add_all(
        f"--keys, --keep and --outputs: '{name}' is a reserved column of scores. Rename an output "
        "with --outputs T=COLUMN"
        for name in (*fit.carried, *(output.column for output in fit.outputs))
        if name in names
    )
    if sink.output:
        others = [*(field.name for field in SOURCE_FIELDS), SCORED_DATE]
        problems.add_all(
            fit.find_name_problems([name for name in others if name not in fit.stored])
        )
    try:
        return pa.schema([*fit.scores_schema(schema), *SOURCE_FIELDS])
    except ValueError as e:
        problems.add(f"--outputs: {e}, nor can Avro. Leave it out with --outputs")
        return None


def plan_avro(
    settings: StreamSettings, fit: Fit, columns: pa.Schema, problems: Problems
) -> AvroSpec | None:
    """Return the encoding of Avro values; None for JSON, or if it is not possible."""
    if settings.sink.output_format != "avro":
        return None
    try:
        text = to_avro_schema(columns, {output.column for output in fit.outputs})
    except ValueError as e:
        problems.add(f"--output_format=avro: {e}. Rename an output with --outputs T=COLUMN")
        return None
    return AvroSpec(columns=columns, schema=text, schema_id=settings.sink.output_schema_id)


def plan_table(
    settings: StreamSettings, columns: pa.Schema, topics: Topics, problems: Problems
) -> TableSpec | None:
    """Return the table to which scores are appended; None, with a problem, if it cannot be used."""
    output = settings.sink.output
    table = find_table(output, problems)
    check_writable(output, problems)
    if table is not None:
        problems.add_all(find_append_problems(table, columns))
    topic = settings.source.topic
    if topics.admin is None:
        return None  # no broker answers, or a topic is missing: reported before
    try:
        topic_id = read_topic_id(topics.admin, topic)
    except KafkaException as e:
        problems.add(as_kafka_problem(e.args[0], f"--topic: cannot describe {topic}"))
        return None
    return TableSpec(
        output=output,
        schema=columns,
        topic=topic,
        topic_id=topic_id,
        group=settings.source.group,
        flush_seconds=settings.sink.flush_interval_s,
        allow_impure=settings.model.allow_impure,
    )
