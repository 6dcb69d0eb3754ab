"""What the scores table holds of each partition, and who put it there."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa
from deltalake import DeltaTable

from transforms.io.delta import FOREIGN_RUN
from transforms.io.layout import run_id_in
from transforms.io.partitions import partition_path

_PREFIX = "scoreline."


class LiveFile(NamedTuple):
    """A data file of the table: its path below the root, size in bytes, and rows."""

    path: str
    size_bytes: int
    rows: int


class LivePartition(NamedTuple):
    """What the table holds of a partition, at one version.

    Attributes:
      partition: its hive path.
      run_id: the work its scores come from; `foreign` when something else wrote them.
      files: its data files.
      commit: what the transaction that made it so recorded: `version`, `timestamp` in
        milliseconds, and by name without prefix what `CommitPartitions` wrote. Empty when that is
        no longer in the history.
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
        """Return a count that the transaction recorded; None when it is not known."""
        text = self.commit.get(name)
        return None if text is None else int(text)


def read_live_partitions(table: DeltaTable) -> list[LivePartition]:
    """Return what the table holds, sorted by partition; reads the log, no data file."""
    columns = table.metadata().partition_columns
    files: dict[str, list[LiveFile]] = {}
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        path = partition_path((column, action[f"partition.{column}"]) for column in columns)
        file = LiveFile(action["path"], action["size_bytes"], action["num_records"] or 0)
        files.setdefault(path, []).append(file)
    commits = read_commits(table)
    return [
        _live(partition, tuple(sorted(held)), commits) for partition, held in sorted(files.items())
    ]


def _live(
    partition: str, files: tuple[LiveFile, ...], commits: list[dict[str, Any]]
) -> LivePartition:
    run_ids = {run_id_in(file.path) for file in files}
    run_id = run_ids.pop() if len(run_ids) == 1 else ""
    made_it = (c for c in commits if c.get("partition") == partition and c["run_id"] == run_id)
    return LivePartition(partition, run_id or FOREIGN_RUN, files, next(made_it, {}))


def read_commits(table: DeltaTable, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the table's transactions, newest first; our own fields without their prefix."""
    return [
        {name.removeprefix(_PREFIX): value for name, value in commit.items()}
        for commit in table.history(limit)
    ]
