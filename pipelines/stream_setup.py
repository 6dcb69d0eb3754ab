"""One-time requests of a stream to Kafka and the registry, before and after its records."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from confluent_kafka import KafkaException

from scoreline.pipelines.options.problems import BadOptions, Passing
from scoreline.pipelines.options.stream import StreamSettings
from scoreline.pipelines.plan.access import allow
from scoreline.pipelines.plan.stream import StreamPlan
from scoreline.pipelines.plan.topics import registry_of
from scoreline.transforms.kafka.append import prepare_table
from scoreline.transforms.kafka.client import is_refused, list_partitions
from scoreline.transforms.kafka.group import advance_group, begin_anew, reset_group
from scoreline.transforms.kafka.producer import end_old_transactions
from scoreline.transforms.kafka.registry import RegistryAway, RegistryFails
from scoreline.transforms.kafka.unread import find_unread


class RecordsLeft(RuntimeError):
    """The runner ended a job before all records were scored. The message names them."""


def check_all_read(plan: StreamPlan, ends: Mapping[int, int]) -> None:
    """Raise if the runner ended the job before all records were scored. Prism has done so.

    Raises:
      RecordsLeft: there are unread records.
    """
    unread = find_unread(plan.read.connection, plan.read.group, plan.read.topic, ends)
    if unread:
        where = ", ".join(f"{partition} from offset {at}" for partition, at in unread.items())
        raise RecordsLeft(
            f"expected all records of topic {plan.read.topic} to be scored, but the runner ended "
            f"the job before; unread are those of partition {where}"
        )


def end_earlier_transactions(plan: StreamPlan) -> None:
    """End open transactions of an earlier job of the group, if delivery is exactly once.

    Raises:
      BadOptions: the user lacks the right.
    """
    if not plan.write.exactly_once:
        return
    try:
        partitions = list_partitions(plan.read.connection.admin(), plan.read.topic)
        end_old_transactions(plan.write, plan.readers, len(partitions))
    except KafkaException as e:
        if not is_refused(e.args[0]):
            raise
        what = f"transactional-id {plan.write.transactional_id(0)}"
        problem = (
            f"--exactly_once: expected to be allowed to WRITE {what}, got: {e.args[0].str()}. "
        )
        raise BadOptions([problem + allow("Write", what)]) from e


def register_schema(settings: StreamSettings, plan: StreamPlan) -> StreamPlan:
    """Register the schema of the scores, and return a plan with its id.

    Raises:
      BadOptions: the registry rejects it.
    """
    registry = registry_of(settings.source)
    if registry is None or plan.write.avro is None:
        return plan
    subject = f"{settings.sink.output_topic}-value"
    try:
        schema_id = registry.connect().register(subject, plan.write.avro.schema)
    except RegistryAway as e:
        raise BadOptions([Passing(f"--schema_registry: {e}")]) from e
    except (ValueError, RegistryFails) as e:
        raise BadOptions(
            [
                f"--schema_registry: the scores' schema cannot be registered as {subject}: {e}. "
                "Use another --output_topic, the same outputs as before, or a weaker compatibility"
            ]
        ) from e
    avro = dataclasses.replace(plan.write.avro, schema_id=schema_id)
    return dataclasses.replace(plan, write=dataclasses.replace(plan.write, avro=avro))


def set_group(settings: StreamSettings, plan: StreamPlan) -> list[int]:
    """Set the group's offsets to `--start`, but not below the table's.

    With a table, offsets of an older topic of the same name are set to the first records.

    Returns:
      The partitions with such offsets.

    Raises:
      BadOptions: `--start` is below the table's offsets.
    """
    connection, group, topic = plan.read.connection, plan.read.group, plan.read.topic
    source, done = settings.source, {}
    topic_id = plan.read.topic_id
    begun: dict[int, int] = {}
    if plan.write.table is not None:
        admin = connection.admin()
        done = prepare_table(plan.write.table, list_partitions(admin, topic))
    if source.start != "group":
        try:
            reset_group(connection, group, topic, source.start, source.start_ms, done, topic_id)
        except ValueError as e:
            raise BadOptions(
                [
                    f"--start={source.start}: {settings.sink.output} has these records from "
                    f"group {group} already: {e}. It takes no record of a group twice: to add "
                    "what another model makes of them, take another --group"
                ]
            ) from e
    elif plan.write.table is not None:
        begun = begin_anew(connection, group, topic, topic_id)
    # A kill between the last file and its offsets leaves the group behind the table.
    advance_group(connection, group, topic, done, topic_id)
    return sorted(begun)
