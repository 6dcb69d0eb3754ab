"""Scores of a stream → a Delta table: exactly once, also after kills, without Kafka transactions.

Every transaction adds one file. It also records the offset up to which each partition of the topic
is in the table, as Delta application transactions
(https://github.com/delta-io/delta/blob/master/PROTOCOL.md, "Transaction Identifiers"). A writer
drops records below that offset. If two writers append records of one partition concurrently, one
of them fails, reads the offset again and retries.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from scoreline.lake.files.partitions import partition_path
from scoreline.lake.storage import resolve, table_uri
from scoreline.lake.table.actions import add_action
from scoreline.lake.table.layout import partition_folder
from scoreline.lake.table.log import METADATA_PREFIX
from scoreline.lake.table.scores import create_table
from scoreline.lake.table.staged_file import Staged, StagedFile
from scoreline.transforms.kafka.encode import SOURCE_FIELDS
from scoreline.transforms.kafka.watched_table import SCORED_DATE, WatchedTable

_MAX_ATTEMPTS = 100
_STATISTICS = tuple(field.name for field in SOURCE_FIELDS if field.name != "source_topic")


class AppendConflict(RuntimeError):
    """Other writers changed the table again and again, so the append failed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec:
    """The table of a stream's scores, and the source of its records.

    Attributes:
      output: the table's path or URI.
      schema: columns and types of its files.
      topic: the topic of the records.
      topic_id: the unique id of the topic; a topic with the same name elsewhere has another.
      group: the consumer group.
      flush_seconds: maximum time that rows wait for others to share a file with.
      allow_impure: the reason to score with a model that fails the purity check; "" for none.
    """

    output: str
    schema: pa.Schema
    topic: str
    topic_id: str
    group: str
    flush_seconds: float
    allow_impure: str = ""

    def application_of(self, partition: int) -> str:
        """Return the application id of transactions that record the offset of a topic partition."""
        return f"scoreline:{self.topic_id}:{partition}:{self.group}"


def read_offsets(table: DeltaTable, spec: TableSpec, partitions: Iterable[int]) -> dict[int, int]:
    """Return the offset below which records are in the table, for partitions with records."""
    found = {p: table.transaction_version(spec.application_of(p)) for p in partitions}
    return {partition: offset for partition, offset in found.items() if offset is not None}


def prepare_table(spec: TableSpec, partitions: Iterable[int]) -> dict[int, int]:
    """Create the table if it does not exist, and return the offsets below which it has records.

    The result has only partitions with records in the table.

    Raises:
      OSError, ValueError: the table cannot be created, or has another schema.
    """
    create_table(spec.output, spec.schema, [SCORED_DATE], log_retention=None)
    return read_offsets(DeltaTable(table_uri(spec.output)), spec, partitions)


def append_scores(
    batches: Sequence[pa.RecordBatch],
    behind: Mapping[int, int],
    spec: TableSpec,
    slot: int,
    table: WatchedTable,
) -> Sequence[Staged]:
    """Append the rows of records that the table does not have yet, in one transaction. Idempotent.

    Args:
      batches: rows with the columns of `spec.schema`, for all scored records from the offset of the
        table or the group up to `behind`.
      behind: the offset after the last of those records, by partition.
      spec: the table.
      slot: the slot of the rows; a number in the name of their file.
      table: the table; it is updated to the newest version.

    Returns:
      The files: one, two around midnight (UTC), or none if there is no new row.

    Raises:
      StreamRefused: the table is not the one that the job began with.
      AppendConflict: other writers committed first a hundred times.
      DeltaError, OSError, ArrowException: the table or its file cannot be written.
    """
    staged: dict[str, Staged] = {}
    staged_for: dict[int, int] | None = None
    for attempt in range(_MAX_ATTEMPTS):
        table.refuse_changes()
        # The table may be stale: a newer commit of these partitions makes the transaction fail.
        known = read_offsets(table.delta, spec, behind)
        if known != staged_for:
            fresh = [part for b in batches if (part := drop_known(b, known)).num_rows]
            table.refuse_nulls(fresh)
            staged, staged_for = _stage(fresh, behind, known, spec, slot), known
        if not staged:
            return ()
        try:
            table.delta.create_write_transaction(
                [
                    add_action(file.path, file.size_bytes, file.stats, [(SCORED_DATE, date)])
                    for date, file in staged.items()
                ],
                mode="append",
                schema=table.delta.schema(),
                partition_by=[SCORED_DATE],
                commit_properties=_commit_properties(staged, behind, known, spec),
            )
        except CommitFailedError:
            time.sleep(random.uniform(0, 0.02 * min(attempt, 10)))  # noqa: S311  not a secret
            continue
        return tuple(staged.values())
    raise AppendConflict(
        f"Expected to append to {spec.output}, but other writers committed first in all "
        f"{_MAX_ATTEMPTS} attempts. Check for a second job of the same group"
    )


def drop_known(batch: pa.RecordBatch, known: Mapping[int, int]) -> pa.RecordBatch:
    """Return the rows of records at or after an offset, by partition."""
    partitions = batch.column("source_partition").to_numpy()
    offsets = batch.column("source_offset").to_numpy()
    keep = np.ones(batch.num_rows, bool)
    for partition, offset in known.items():
        keep &= (partitions != partition) | (offsets >= offset)
    return batch if keep.all() else batch.filter(pa.array(keep))


def _stage(
    batches: Sequence[pa.RecordBatch],
    behind: Mapping[int, int],
    known: Mapping[int, int],
    spec: TableSpec,
    slot: int,
) -> dict[str, Staged]:
    """Write rows to one file per scoring date; readers do not see the files yet."""
    by_date: dict[str, list[pa.RecordBatch]] = {}
    for batch in batches:  # all rows of a batch have one scoring time
        first: dt.datetime = batch.column("scored_time")[0].as_py()
        by_date.setdefault(first.date().isoformat(), []).append(batch)
    file_system, root = resolve(spec.output)
    work = [spec.topic_id, spec.group, sorted(known.items()), sorted(behind.items())]
    run_id = hashlib.sha256(json.dumps(work).encode()).hexdigest()[:15]
    staged = {}
    for date, rows in by_date.items():
        folder = partition_folder(partition_path([(SCORED_DATE, date)]))
        file = StagedFile(
            file_system, root, folder, slot, run_id, spec.schema, statistics=_STATISTICS
        )
        try:
            for batch in rows:
                file.write(batch)
            staged[date] = file.close()
        except BaseException:
            file.abandon()
            raise
    return staged


def _commit_properties(
    staged: Mapping[str, Staged],
    behind: Mapping[int, int],
    known: Mapping[int, int],
    spec: TableSpec,
) -> CommitProperties:
    moved = {p: offset for p, offset in behind.items() if offset > known.get(p, -1)}
    details = {
        "topic": spec.topic,
        "group": spec.group,
        # By partition, the table's offset before and after this transaction.
        "offsets": json.dumps({p: [known.get(p), moved[p]] for p in sorted(moved)}),
        "rows": sum(file.rows for file in staged.values()),
    }
    if spec.allow_impure:
        details["allow_impure"] = spec.allow_impure
    return CommitProperties(
        custom_metadata={f"{METADATA_PREFIX}{n}": str(value) for n, value in details.items()},
        app_transactions=[Transaction(spec.application_of(p), moved[p]) for p in sorted(moved)],
    )
