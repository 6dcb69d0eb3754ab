"""Volumes of a dataset: the same files, several times, under partitions of their own."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path

from scoreline.lake.files.partitions import Partition, partition_path
from scoreline.pipelines.options.problems import BadOptions


def make_volume(root: str, partitions: Sequence[Partition], factor: int, into: Path) -> None:
    """Make a dataset with the files of partitions `factor` times, as links.

    The first copy keeps the names of its partitions. In each further copy the last column has other
    values: dates and integers go on after the last one, texts get a suffix.

    Args:
      root: the dataset: a folder of hive partitions on this machine.
      partitions: the partitions to copy.
      factor: number of copies.
      into: the folder of the new dataset.

    Raises:
      BadOptions: the dataset is not such a folder.
    """
    if "://" in root or not Path(root).is_dir() or (Path(root) / "_delta_log").exists():
        raise BadOptions(
            [
                f"volumes: expected a folder of hive partitions on this machine as input, got "
                f"{root}. Copy some partitions to a local folder, and test with them"
            ]
        )
    values = [partition.values[-1][1] for partition in partitions]
    for partition in partitions:
        *above, (column, value) = partition.values
        for copy in range(factor):
            path = partition_path([*above, (column, _shift(value, copy, values))])
            (into / path).mkdir(parents=True, exist_ok=True)
            for file in partition.files:
                source = Path(file.path).resolve()
                os.symlink(source, into / path / source.name)


def _shift(value: str, copy: int, values: Sequence[str]) -> str:
    """Return the value of a further copy, which no other copy has."""
    if copy == 0:
        return value
    days = [_to_date(v) for v in values]
    if all(day is not None for day in days):
        known = [day for day in days if day is not None]
        span = (max(known) - min(known)).days + 1
        return str(dt.date.fromisoformat(value) + dt.timedelta(days=span * copy))
    if all(v.isascii() and v.isdigit() and str(int(v)) == v for v in values):
        numbers = [int(v) for v in values]
        return str(int(value) + (max(numbers) - min(numbers) + 1) * copy)
    return f"{value}-copy-{copy}"


def _to_date(value: str) -> dt.date | None:
    try:
        day = dt.date.fromisoformat(value)
    except ValueError:
        return None
    return day if str(day) == value else None
