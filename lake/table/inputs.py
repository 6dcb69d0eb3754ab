"""What the table recorded about the input of its partitions, compared with the input of today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scoreline.lake.files.delta_changes import Seen, find_known, find_rewritten
from scoreline.lake.files.partitions import Partition, PartitionSpec, parse_partition_path
from scoreline.lake.table.history import LivePartition
from scoreline.lake.table.scores import FOREIGN_RUN


def find_changed(
    path: str, partitions: Iterable[Partition], held: Mapping[str, LivePartition]
) -> set[str]:
    """Return the partitions, by hive path, whose input has other rows than those scored.

    Files of a Delta table that were only rewritten (OPTIMIZE) hold the same rows.

    Args:
      path: the dataset.
      partitions: its partitions.
      held: the partitions of the table of scores, by hive path.
    """
    differ = {
        p.path
        for p in partitions
        if p.path in held and _fingerprint(held[p.path]) not in (None, p.fingerprint)
    }
    return differ - find_rewritten(path, _seen(held[name] for name in differ))


def find_withdrawn(
    path: str,
    partitions: Iterable[Partition],
    held: Mapping[str, LivePartition],
    specs: Iterable[PartitionSpec],
) -> list[Partition]:
    """Return the partitions of the table whose input is gone, as partitions without files.

    The log of a Delta table says that rows were deleted. A folder that is gone may have been moved
    or archived: it counts only if a spec names exactly this partition.
    """
    there = {partition.path for partition in partitions}
    wanted = list(specs)
    gone = []
    for name, live in held.items():
        values = parse_partition_path(name)
        empty = Partition(name, values)
        is_ours = name not in there and live.run_id != FOREIGN_RUN
        is_meant = not wanted or any(spec.matches(values) for spec in wanted)
        if is_ours and is_meant and _fingerprint(live) not in (None, empty.fingerprint):
            gone.append(empty)
    deleted = find_known(path, _seen(held[partition.path] for partition in gone))
    return [
        partition
        for partition in gone
        if partition.path in deleted
        or any(spec.is_exact and spec.matches(partition.values) for spec in wanted)
    ]


def is_empty(live: LivePartition) -> bool:
    """Return whether a partition was published empty, because its input had no files."""
    empty = Partition(live.partition, parse_partition_path(live.partition))
    return _fingerprint(live) == empty.fingerprint


def _fingerprint(live: LivePartition) -> str | None:
    return live.commit.get("input_fingerprint")


def _seen(partitions: Iterable[LivePartition]) -> dict[str, Seen]:
    return {
        live.partition: Seen(int(version), _fingerprint(live) or "")
        for live in partitions
        if (version := live.commit.get("input_version")) is not None
    }
