"""Restore an earlier version of the whole table, or of one partition."""

from __future__ import annotations

from collections.abc import Sequence

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from pyarrow import fs

from scoreline.lake.files.partitions import parse_partition_path
from scoreline.lake.storage import resolve, table_uri
from scoreline.lake.table.actions import add_action, commit_properties
from scoreline.lake.table.history import LivePartition, read_live_partitions
from scoreline.lake.table.letters import bring_back_letters, put_away_letters
from scoreline.lake.table.log import Record
from scoreline.lake.table.scores import FOREIGN_RUN

_MAX_ATTEMPTS = 20
# Fields that a rollback copies from the commit that it restores.
_KEPT = (
    "run_id",
    "model_digest",
    "signature",
    "tool_version",
    "input_fingerprint",
    "rows_in",
    "rows_scored",
    "rows_dead",
    "duplicate_keys",
)


class RollbackError(ValueError):
    """The version cannot be restored; the message says why."""


def rollback_table(output: str, version: int) -> int:
    """Restore the whole table to a version, in one transaction; return the new version.

    Raises:
      RollbackError: there is no such version, or some of its files are gone.
    """
    then = {live.partition: live for live in read_live_partitions(_open(output, version))}
    _check_files(output, list(then.values()))
    table = DeltaTable(table_uri(output))
    now = {live.partition: live for live in read_live_partitions(table)}
    table.restore(version)
    for partition in {*then, *now}:
        if _run_of(then, partition) != _run_of(now, partition):
            _swap_dead_letters(output, partition, _run_of(now, partition), _run_of(then, partition))
    return int(DeltaTable(table_uri(output)).version())


def rollback_partition(output: str, partition: str, version: int) -> int:
    """Restore one partition to a version, in one transaction; return the new version.

    Other partitions are not touched. If the version did not have the partition, its rows are
    removed.

    Raises:
      RollbackError: there is no such version or partition, files are gone, or other runs kept
        committing in between.
    """
    then = {live.partition: live for live in read_live_partitions(_open(output, version))}
    wanted = then.get(partition)
    _check_files(output, [wanted] if wanted else [])
    table = DeltaTable(table_uri(output))
    for _ in range(_MAX_ATTEMPTS):
        now = {live.partition: live for live in read_live_partitions(table)}
        if partition not in now and wanted is None:
            raise RollbackError(
                f"expected a partition of the table, got {partition}, which it holds neither now "
                f"nor at version {version}"
            )
        try:
            _write(table, partition, wanted, version)
        except CommitFailedError:
            table.update_incremental()
            continue
        _swap_dead_letters(output, partition, _run_of(now, partition), _run_of(then, partition))
        table.update_incremental()
        return int(table.version())
    raise RollbackError(f"other runs committed {_MAX_ATTEMPTS} times in between. Run it again")


def _open(output: str, version: int) -> DeltaTable:
    try:
        return DeltaTable(table_uri(output), version=version)
    except Exception as e:  # deltalake raises several classes for a missing version
        newest = DeltaTable(table_uri(output)).version()
        raise RollbackError(
            f"expected a version from 0 to {newest} that is still in the log, got {version}"
        ) from e


def _run_of(partitions: dict[str, LivePartition], partition: str) -> str:
    return partitions[partition].run_id if partition in partitions else ""


def _check_files(output: str, partitions: Sequence[LivePartition]) -> None:
    file_system, root = resolve(output)
    paths = [f"{root}/{file.path}" for live in partitions for file in live.files]
    infos = file_system.get_file_info(paths) if paths else []
    gone = [info.path for info in infos if info.type != fs.FileType.File]
    if gone:
        raise RollbackError(
            f"{len(gone)} files of that version are gone, for example {gone[0]}: vacuum removes "
            "what is older than its grace period. Score the partitions again"
        )


def _write(table: DeltaTable, partition: str, wanted: LivePartition | None, version: int) -> None:
    values = parse_partition_path(partition)
    commit = wanted.commit if wanted else {}
    details = {name: commit[name] for name in _KEPT if name in commit}
    run_id = wanted.run_id if wanted and wanted.run_id != FOREIGN_RUN else ""
    record = Record(partition, run_id, {**details, "rolled_back_to": version})
    table.create_write_transaction(
        [
            add_action(file.path, file.size_bytes, f'{{"numRecords":{file.rows}}}', values)
            for file in (wanted.files if wanted else ())
        ],
        mode="overwrite",
        schema=table.schema(),
        partition_by=table.metadata().partition_columns,
        partition_filters=[(column, "=", value) for column, value in values],
        commit_properties=commit_properties([record], {}),
    )


def _swap_dead_letters(output: str, partition: str, leaving: str, coming: str) -> None:
    """Put away the dead letters of one run, and restore those of another."""
    put_away_letters(output, partition, leaving)
    bring_back_letters(output, partition, coming)
