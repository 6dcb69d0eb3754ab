"""The log of the table: its transactions, and what other programs did to its partitions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

from deltalake import DeltaTable
from pyarrow import fs

from scoreline.lake.files.partitions import NULL_PARTITION, partition_path
from scoreline.lake.storage import resolve

# Prefix of the fields that our transactions add to the table's history.
METADATA_PREFIX = "scoreline."
# The records of several partitions, as JSON. For one partition each fact has its own field.
_PARTITIONS = "partitions"


class Record(NamedTuple):
    """What a transaction records of a partition: its hive path, the run of its scores, and facts.

    The run is "" if its scores are of none, or of another program.
    """

    partition: str
    run_id: str
    details: Mapping[str, object]


class Change(NamedTuple):
    """What a transaction of another program did to a partition after our commit.

    Attributes:
      version: the version of the table that it made.
      operation: its name for what it did: UPDATE, DELETE, MERGE, WRITE, OPTIMIZE, …
      kind: `rewrote` the same rows into other files, `changed` or removed rows, or `added` rows.
    """

    version: int
    operation: str
    kind: Literal["rewrote", "changed", "added"]

    def __str__(self) -> str:
        """Return the operation and its version."""
        return f"{self.operation} in version {self.version}"


def describe_records(records: Sequence[Record], facts: Mapping[str, object]) -> dict[str, str]:
    """Return the fields of a transaction that records partitions, and facts about all of them."""
    each = [{"partition": record.partition, **record.details} for record in records]
    texts = [{name: str(value) for name, value in one.items()} for one in each]
    own = texts[0] if len(texts) == 1 else {_PARTITIONS: json.dumps(texts)}
    common = {name: str(value) for name, value in facts.items()}
    return {f"{METADATA_PREFIX}{name}": text for name, text in {**common, **own}.items()}


def read_commits(table: DeltaTable, limit: int | None = None) -> list[dict[str, Any]]:
    """Return what the table's transactions did, newest first; our own fields without their prefix.

    A transaction on several partitions is one entry for each of them.

    Args:
      table: the table.
      limit: the number of transactions to read; None for all.
    """
    return [entry for commit in table.history(limit) for entry in _entries_of(commit)]


def _entries_of(commit: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    fields = {name.removeprefix(METADATA_PREFIX): value for name, value in commit.items()}
    if f"{METADATA_PREFIX}{_PARTITIONS}" not in commit:
        yield fields
        return
    for record in json.loads(fields.pop(_PARTITIONS)):
        yield {**fields, **record}


def path_of(columns: Sequence[str], values: Mapping[str, Any]) -> str:
    """Return the hive path of partition values as a log has them; a null has its own folder."""
    texts = [(column, values[column]) for column in columns]
    return partition_path(
        (column, NULL_PARTITION if text is None else str(text)) for column, text in texts
    )


def find_changes(
    table: DeltaTable, commits: Sequence[Mapping[str, Any]], partitions: Iterable[str]
) -> dict[str, list[Change]]:
    """Return what other programs did to partitions since our last commits of them, newest first.

    Only transactions of other programs are read, and none that a rollback has undone. Partitions
    that no other program touched are left out. So is what is no longer in the log.

    Args:
      table: the table.
      commits: its transactions, as `read_commits` returns them.
      partitions: hive paths.
    """
    columns = table.metadata().partition_columns
    file_system, root = _locate(table)
    left = set(partitions)
    found: dict[str, list[Change]] = {}
    newest: float = table.version()  # what came later was undone for the whole table
    newest_of: dict[str, int] = {}  # … and for a partition
    for commit in commits:
        version, partition = commit["version"], commit.get("partition")
        if version > newest or not left:
            continue
        if commit.get("operation") == "RESTORE":
            newest = _restored(commit)
        elif partition is not None:
            if partition in left and version <= newest_of.get(partition, version):
                if "rolled_back_to" in commit:
                    newest_of[partition] = int(commit["rolled_back_to"])
                elif "replayed" not in commit:
                    left.discard(partition)
        elif "topic" not in commit:
            actions = _read_actions(file_system, f"{root}/_delta_log/{version:020d}.json")
            for path, kind in _sort_actions(columns, actions).items():
                if path in left and version <= newest_of.get(path, version):
                    change = Change(version, str(commit.get("operation", "a write")), kind)
                    found.setdefault(path, []).append(change)
    return found


def _locate(table: DeltaTable) -> tuple[fs.FileSystem, str]:
    uri = table.table_uri.rstrip("/")
    # Arrow would take `%23` and `%3F` in a path for themselves.
    return resolve(unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri)


def _restored(commit: Mapping[str, Any]) -> float:
    """Return the version that a whole table was restored to; that before it if it is unknown."""
    given = str((commit.get("operationParameters") or {}).get("version"))
    return int(given) if given.isdecimal() else commit["version"]


def _read_actions(file_system: fs.FileSystem, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the files that a transaction added or removed; none if it is no longer in the log."""
    try:
        with file_system.open_input_stream(path) as stream:
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        for name, action in json.loads(line).items():
            if name in ("add", "remove"):
                yield name, action


def _sort_actions(
    columns: Sequence[str], actions: Iterable[tuple[str, dict[str, Any]]]
) -> dict[str, Literal["rewrote", "changed", "added"]]:
    """Return what the actions of one transaction do to each partition."""
    names: dict[str, set[str]] = {}
    for name, action in actions:
        values = action.get("partitionValues") or _values_in(action["path"])
        if set(columns) <= set(values):
            done = name if action.get("dataChange", True) else "rewrote"
            # A file that is added with a deletion vector is removed in the same transaction.
            names.setdefault(path_of(columns, values), set()).add(done)
    return {
        path: "changed" if "remove" in done else "added" if "add" in done else "rewrote"
        for path, done in names.items()
    }


def _values_in(path: str) -> dict[str, str]:
    """Return the partition values in the path of a removed file whose values were not logged."""
    pairs = (unquote(name).partition("=") for name in path.split("/")[:-1])
    return {unquote(column): unquote(value) for column, _, value in pairs}
