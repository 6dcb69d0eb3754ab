"""What a transaction on the scores table contains: its files, and what it records."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from deltalake import CommitProperties, Transaction
from deltalake.transaction import AddAction, RemoveAction

from scoreline.lake.table.log import Record, describe_records


def add_action(
    path: str, size_bytes: int, stats: str, values: Sequence[tuple[str, str]]
) -> AddAction:
    """Return the action that adds a data file of a partition to the table."""
    return AddAction(
        path=path,
        size=size_bytes,
        partition_values=dict(values),
        modification_time=_now_ms(),
        data_change=True,
        stats=stats,
    )


def remove_action(path: str, size_bytes: int, values: Sequence[tuple[str, str]]) -> RemoveAction:
    """Return the action that removes a data file of a partition from the table.

    The path is the file's own. The engine escapes it for the log.
    """
    return RemoveAction(path, True, _now_ms(), size_bytes, dict(values))


def _now_ms() -> int:
    return int(time.time() * 1000)


def commit_properties(
    records: Sequence[Record], facts: Mapping[str, object], *tokens: Transaction
) -> CommitProperties:
    """Return the properties of a transaction on partitions: what it records, and their runs.

    The engine makes it on the version that the table was read at, or not at all. By itself it would
    repeat a transaction on newer versions unless both write the same. Files that a compaction has
    rewritten meanwhile would then stay beside the new ones, and so would rows that were added.

    The application transactions tell which run a partition is from after a compaction.

    Args:
      records: the partitions.
      facts: what the transaction records for all of them.
      tokens: further application transactions.
    """
    runs = [Transaction(application_of(r.partition), int(r.run_id or "0", 16)) for r in records]
    return CommitProperties(
        custom_metadata=describe_records(records, facts),
        app_transactions=[*tokens, *runs],
        max_commit_retries=0,
    )


def application_of(partition: str) -> str:
    """Return the application id of a partition's commits."""
    return f"scoreline:{partition}"
