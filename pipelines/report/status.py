"""The status of each partition: committed, stale, changed, failed, missing, or foreign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from deltalake import DeltaTable

from scoreline.lake.files.partitions import Partition, PartitionSpec, parse_partition_path
from scoreline.lake.table.history import LivePartition, read_live_partitions
from scoreline.lake.table.inputs import find_changed, is_empty
from scoreline.lake.table.log import Change, find_changes, read_commits
from scoreline.lake.table.outcomes import read_failures
from scoreline.lake.table.scores import FOREIGN_RUN
from scoreline.pipelines.options.problems import BadOptions

COMMITTED, STALE, FAILED, MISSING = "committed", "stale", "failed", "missing"
GONE, FOREIGN, CHANGED = "input gone", "foreign", "changed"


class PartitionStatus(NamedTuple):
    """The status of one partition.

    Attributes:
      partition: its hive path.
      state: `committed`; `stale` if the input has changed since; `failed` if the last attempt
        failed; `missing` if it was never scored; `input gone`; `foreign` if another program wrote
        it; `changed` if another program changed its rows since.
      rows_scored, rows_dead, version, committed_ms: facts of the table's version, if known.
      model_digest: digest of the model that scored it.
      note: the reason of a failure, or another remark.
    """

    partition: str
    state: str
    rows_scored: int | None = None
    rows_dead: int | None = None
    model_digest: str = ""
    version: int | None = None
    committed_ms: int | None = None
    note: str = ""


def read_status(
    output: str, table: DeltaTable, dataset: str | None, specs: Sequence[PartitionSpec]
) -> list[PartitionStatus]:
    """Return the status of each partition of the table, and of the dataset if one is given.

    Raises:
      BadOptions: the dataset cannot be listed.
    """
    live = {held.partition: held for held in read_live_partitions(table)}
    there = _list(dataset, specs) if dataset else {}
    gone = [path for path in there if path not in live]
    removed = find_changes(table, read_commits(table), gone) if gone else {}
    stale = find_changed(dataset, there.values(), live) if dataset else set()
    failures = read_failures(output)
    paths = [
        path
        for path in sorted({*live, *there, *failures})
        if not specs or any(spec.matches(parse_partition_path(path)) for spec in specs)
    ]
    return [
        _stand(
            path,
            live.get(path),
            there.get(path),
            failures.get(path, ""),
            has_input=bool(dataset),
            is_stale=path in stale,
            removed=removed.get(path, ()),
        )
        for path in paths
    ]


def _list(dataset: str, specs: Sequence[PartitionSpec]) -> dict[str, Partition]:
    from scoreline.lake.files.dataset import list_dataset  # only --input needs it

    listing = list_dataset(dataset, specs)
    if listing.problems:
        raise BadOptions(listing.problems)
    return {partition.path: partition for partition in listing.partitions}


def _stand(
    path: str,
    live: LivePartition | None,
    there: Partition | None,
    failure: str,
    *,
    has_input: bool,
    is_stale: bool,
    removed: Sequence[Change],
) -> PartitionStatus:
    if live is None:
        by = ", ".join(map(str, removed))
        note = failure or "; ".join(there.problems if there else ())
        note = note or (f"another program removed it: {by}" if by else "")
        return PartitionStatus(path, FAILED if failure else MISSING, note=note)
    status = PartitionStatus(
        path,
        COMMITTED,
        live.number("rows_scored"),
        live.number("rows_dead"),
        live.commit.get("model_digest", ""),
        live.commit.get("version"),
        live.commit.get("timestamp"),
    )
    if live.commit.get("allow_impure"):
        status = status._replace(note=f"impure model allowed: {live.commit['allow_impure']}")
    if live.run_id == FOREIGN_RUN:
        return status._replace(state=FOREIGN, rows_scored=live.rows)
    if failure:
        return status._replace(state=FAILED, note=f"an earlier commit stays; {failure}")
    if has_input and there is None and not is_empty(live):
        return status._replace(state=GONE)
    if is_stale:
        return status._replace(state=STALE, note="the input changed since")
    if live.data_changes:
        by = ", ".join(map(str, live.data_changes))
        return status._replace(state=CHANGED, note=f"another program changed its rows: {by}")
    return status
