"""Throughput of a job, from the times at which its shards were staged."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq


class Staged(NamedTuple):
    """Staging times of the shards of a table, in seconds since 1970, sorted; and their rows."""

    at: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]


def read_staged(output: Path) -> Staged:
    """Return the shards of a table. The move of a file to its partition keeps its time."""
    files = [file for file in output.rglob("*.parquet") if not file.name.startswith(".")]
    at = np.array([file.stat().st_mtime for file in files])
    rows = np.array([pq.ParquetFile(file).metadata.num_rows for file in files], np.int64)
    order = np.argsort(at)
    return Staged(at[order], rows[order])


def rows_per_s(staged: Staged, since: float, until: float) -> float:
    """Return the rows per second between the first and last shard of a period."""
    within = (staged.at >= since) & (staged.at <= until)
    at, rows = staged.at[within], staged.rows[within]
    if at.size < 2 or at[-1] == at[0]:
        raise ValueError(f"expected two or more shards in {until - since:.0f} s, got {at.size}")
    return float(rows[1:].sum() / (at[-1] - at[0]))
