"""The contents of the scores table by partition, and the commits that wrote them."""

from __future__ import annotations

from typing import Any, NamedTuple

from deltalake import DeltaTable

from scoreline.lake.table.scores import METADATA_PREFIX, LiveFile, live_files, run_of


class LivePartition(NamedTuple):
    """The state of a partition in one version of the table.

    Attributes:
      partition: its hive path.
      run_id: the run that wrote its scores; `foreign` if another program wrote them.
      files: its data files.
      commit: the record of the transaction that wrote it: `version`, `timestamp` in milliseconds,
        and the fields of `CommitPartitions` without their prefix. Empty if it is no longer in the
        history.
    """

    partition: str
    run_id: str
    files: tuple[LiveFile, ...]
    commit: dict[str, Any]

    @property
    def rows(self) -> int:
        """Rows in its files."""
        return sum(file.rows for file in self.files)

    def number(self, name: str) -> int | None:
        """Return a count that the transaction recorded; None if it is unknown."""
        text = self.commit.get(name)
        return None if text is None else int(text)


def read_live_partitions(table: DeltaTable) -> list[LivePartition]:
    """Return the state of each partition, sorted by path. Reads the log, no data file."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for commit in read_commits(table):
        newest.setdefault((commit.get("partition", ""), commit.get("run_id", "")), commit)
    partitions = []
    for partition, files in sorted(live_files(table).items()):
        run_id = run_of(table, partition, [file.path for file in files])
        commit = newest.get((partition, run_id), {})
        partitions.append(LivePartition(partition, run_id, tuple(sorted(files)), commit))
    return partitions


def read_commits(table: DeltaTable, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the table's transactions, newest first; our own fields without their prefix."""
    return [
        {name.removeprefix(METADATA_PREFIX): value for name, value in commit.items()}
        for commit in table.history(limit)
    ]
