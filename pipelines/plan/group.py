"""Checks of the consumer group before the first record: its members, and its offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from deltalake.exceptions import DeltaError

from scoreline.lake.table.scores import open_table
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.stream import StreamSettings
from scoreline.pipelines.plan.topics import Topics, as_kafka_problem
from scoreline.transforms.kafka.append import TableSpec, read_offsets
from scoreline.transforms.kafka.client import (
    list_partitions,
    read_first_offsets,
    read_high_watermarks,
    until_done,
)
from scoreline.transforms.kafka.group import (
    Committed,
    describe_members,
    find_stale,
    read_offsets_with_ids,
)
from scoreline.transforms.kafka.reader import describe_range
from scoreline.transforms.kafka.topic_watch import refuse_members

_QUICK_SECONDS = 10.0
_SHOWN = 3


def check_group(
    settings: StreamSettings, topics: Topics, table: TableSpec | None, problems: Problems
) -> None:
    """Add all problems of the group: others have joined it, or its offsets are not of this topic.

    Args:
      settings: the settings of the job.
      topics: the cluster and the topics.
      table: the table of scores; its offsets are a start, too.
      problems: the problems so far.
    """
    group, client = settings.source.group, topics.admin
    if client is None or not topics.planned:
        return  # no broker answers, or a topic or a right is missing: reported before
    try:
        problems.add_all(_find_members(client, group))
        if settings.source.start == "group":
            problems.add_all(_find_wrong_offsets(settings, client, topics, table))
    except KafkaException as e:
        problems.add(as_kafka_problem(e.args[0], f"--group: cannot read group {group}"))


def _find_members(client: AdminClient, group: str) -> list[str]:
    def ask() -> str:
        asked = client.describe_consumer_groups([group], request_timeout=_QUICK_SECONDS)
        return describe_members(asked[group].result())

    members = until_done(ask)  # for its first group, a broker creates a topic
    return [refuse_members(group, members)] if members else []


def _find_wrong_offsets(
    settings: StreamSettings, client: AdminClient, topics: Topics, table: TableSpec | None
) -> list[str]:
    topic, group = settings.source.topic, settings.source.group
    partitions = list_partitions(client, topic)
    committed = read_offsets_with_ids(client, group, topic, partitions)
    stale = find_stale(committed, topics.source_id)
    if stale and table is None:
        return [_describe_stale(topic, group, topics.source_id, stale)]
    starts = {p: at.offset for p, at in committed.items() if p not in stale}
    if table is not None:
        starts = _behind_table(starts, table, partitions)
    first = read_first_offsets(client, topic, starts)
    ends = read_high_watermarks(client, topic, starts)
    problems = [
        describe_range(f"partition {p} of topic {topic}", group, at, first[p], ends[p])
        for p, at in starts.items()
        if not first[p] <= at <= ends[p]
    ]
    more = len(problems) - _SHOWN
    return problems[:_SHOWN] + ([f"--group: {more} more partitions, likewise"] if more > 0 else [])


def _behind_table(
    starts: Mapping[int, int], spec: TableSpec, partitions: Sequence[int]
) -> dict[int, int]:
    """Return the offsets to start at, which are at least those of the table."""
    try:
        table = open_table(spec.output)
    except (DeltaError, OSError, ValueError):
        return dict(starts)  # reported before
    done = read_offsets(table, spec, partitions) if table is not None else {}
    return dict(starts) | {p: max(at, starts.get(p, 0)) for p, at in done.items()}


def _describe_stale(topic: str, group: str, topic_id: str, stale: Mapping[int, Committed]) -> str:
    partition, at = next(iter(stale.items()))
    return (
        f"--group: expected offsets of topic {topic} with id {topic_id}, got offset {at.offset} of "
        f"id {at.topic_id} for partition {partition} in group {group}: the topic was deleted and "
        "created again, and the offset would skip new records. Start with --start=earliest. If the "
        "offsets are right, as after a move to another cluster, keep them with "
        f"kafka-consumer-groups.sh --reset-offsets --to-current --group {group} --topic {topic} "
        "--execute"
    )
