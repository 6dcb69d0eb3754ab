"""Which partitions of a Delta table have other rows than in an earlier version.

OPTIMIZE and REORG write the same rows to other files. Their transactions say so: `dataChange` is
false in each of their actions.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs

from scoreline.lake.files.delta import LOG_FOLDER, ForeignFile, find_partitions, is_delta_table
from scoreline.lake.files.partitions import NULL_PARTITION, partition_path
from scoreline.lake.storage import resolve, table_uri

_READING_THREADS = 16


class Seen(NamedTuple):
    """A partition as it was read: the version of the table, and the fingerprint of its files."""

    version: int
    fingerprint: str


def find_rewritten(path: str, seen: Mapping[str, Seen]) -> set[str]:
    """Return the partitions, by hive path, that have the rows that they had when they were seen.

    A partition is left out if that is unknown: the table is no Delta table, it is another one than
    it was, or the log has been cleaned up since.
    """
    if not seen or not is_delta_table(path):
        return set()
    try:
        newest = DeltaTable(table_uri(path)).version()
        known = _find_known(path, seen)
        first = min((seen[partition].version for partition in known), default=newest)
        changes = _Changes(path, first, newest)
        return {p for p in known if changes.are_none(p, seen[p].version)}
    except (DeltaError, ForeignFile, OSError, ValueError, KeyError):
        return set()  # then they count as changed, and are scored again


def find_known(path: str, seen: Mapping[str, Seen]) -> set[str]:
    """Return the partitions that this Delta table had when they were seen, with those files.

    Another table may have the same path since; then none are.
    """
    if not seen or not is_delta_table(path):
        return set()
    return _find_known(path, seen)


def _find_known(path: str, seen: Mapping[str, Seen]) -> set[str]:
    found = set()
    for version in {held.version for held in seen.values()}:
        with contextlib.suppress(DeltaError, ForeignFile, OSError, ValueError):
            then = DeltaTable(table_uri(path), version=version)
            for partition in find_partitions(then, path):
                held = seen.get(partition.path)
                if held == (version, partition.fingerprint):
                    found.add(partition.path)
    return found


class _Changes:
    """The partitions that the transactions after a version have changed."""

    def __init__(self, path: str, first: int, newest: int) -> None:
        """Read the transactions.

        Raises:
          OSError: one is not there, or cannot be read.
        """
        self._file_system, root = resolve(path)
        self._columns = DeltaTable(table_uri(path)).metadata().partition_columns
        versions = range(first + 1, newest + 1)
        paths = [f"{root}/{LOG_FOLDER}/{version:020d}.json" for version in versions]
        with ThreadPoolExecutor(_READING_THREADS) as pool:
            self._changed = dict(zip(versions, pool.map(self._read, paths), strict=True))

    def are_none(self, partition: str, version: int) -> bool:
        """Return whether no transaction after a version has changed a partition."""
        return not any(
            changed is None or partition in changed
            for after, changed in self._changed.items()
            if after > version
        )

    def _read(self, path: str) -> set[str] | None:
        """Return the partitions that a transaction has changed; None for any of them."""
        changed = set()
        for action in _read_actions(self._file_system, path):
            if not action.get("dataChange", True):
                continue
            values = action.get("partitionValues")
            if values is None:  # optional where a file is removed
                return None
            changed.add(
                partition_path((name, values[name] or NULL_PARTITION) for name in self._columns)
            )
        return changed


def _read_actions(file_system: fs.FileSystem, path: str) -> Iterator[dict[str, Any]]:
    """Yield the actions on files of a transaction."""
    with file_system.open_input_stream(path) as stream:
        for line in stream.readall().splitlines():
            entry = json.loads(line) if line.strip() else {}
            yield from (entry[kind] for kind in ("add", "remove") if kind in entry)
