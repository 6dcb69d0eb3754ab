"""The contents of the scores table by partition, and the commits that wrote them."""

from __future__ import annotations

from typing import Any, NamedTuple

from deltalake import DeltaTable

from scoreline.lake.table.layout import run_id_in
from scoreline.lake.table.log import Change, find_changes, read_commits
from scoreline.lake.table.scores import LiveFile, live_files, runs_of


class LivePartition(NamedTuple):
    """The state of a partition in one version of the table.

    Attributes:
      partition: its hive path.
      run_id: the run that wrote its scores; `foreign` if another program wrote them.
      files: its data files.
      commit: the record of the transaction that wrote it: `version`, `timestamp` in milliseconds,
        and the fields of `CommitPartitions` without their prefix. Empty if it is no longer in the
        history.
      changes: what other programs did to it since, newest first, as far as the log has it.
    """

    partition: str
    run_id: str
    files: tuple[LiveFile, ...]
    commit: dict[str, Any]
    changes: tuple[Change, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in its files."""
        return sum(file.rows for file in self.files)

    @property
    def foreign_files(self) -> int:
        """The number of its files that another program wrote."""
        return sum(not run_id_in(file.path) for file in self.files)

    @property
    def data_changes(self) -> tuple[Change, ...]:
        """The changes of its rows: not those that only moved them to other files."""
        return tuple(change for change in self.changes if change.kind != "rewrote")

    def number(self, name: str) -> int | None:
        """Return a count that the transaction recorded; None if it is unknown."""
        text = self.commit.get(name)
        return None if text is None else int(text)


def read_live_partitions(table: DeltaTable) -> list[LivePartition]:
    """Return the state of each partition, sorted by path. Reads the log, no data file."""
    commits = read_commits(table)
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for commit in commits:
        newest.setdefault((commit.get("partition", ""), commit.get("run_id", "")), commit)
    held = live_files(table)
    runs = runs_of(table, {path: [file.path for file in files] for path, files in held.items()})
    changes = find_changes(table, commits, held)
    return [
        LivePartition(
            path,
            runs[path],
            tuple(sorted(files)),
            newest.get((path, runs[path]), {}),
            tuple(changes.get(path, ())),
        )
        for path, files in sorted(held.items())
    ]
