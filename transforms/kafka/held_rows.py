"""Scored rows of a stream that wait, over many bundles, for the next file of their table.

Waiting rows are in memory only. Their offsets are not committed, so they are read again after a
crash. Within a process, the reader must continue after them, and not at the group's offsets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

import numpy as np
import pyarrow as pa

from scoreline.transforms.kafka.append import TableSpec, append_scores
from scoreline.transforms.kafka.holding import Holding
from scoreline.transforms.kafka.watched_table import WatchedTable

# Rows are written when they take this much memory, even before their time.
_MAX_BYTES = 64 << 20


class LostRows(RuntimeError):
    """Rows were given up; offsets that were read after them must not be committed for them."""


class HeldRows:
    """The waiting rows of one slot. Different threads may end bundles and write rows.

    Only one thread writes at a time. If a later file came first, the table would treat the rows of
    the earlier file as rows that it already has.

    A row is written once its reader has confirmed that its record is of the planned topic. Others
    wait on: those of a topic that was created again would be in the table twice, since the next job
    begins at the first record of that topic.
    """

    def __init__(
        self,
        spec: TableSpec,
        slot: int,
        holding: Holding,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the table, which must exist."""
        self._spec, self._slot, self._holding, self._clock = spec, slot, holding, clock
        self._table = WatchedTable(spec.output, spec.schema)
        self._lock = threading.Lock()
        self._open: list[pa.RecordBatch] = []  # rows of the open bundle
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._behind: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._since = 0.0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows of the open bundle; they count after it has ended."""
        self._open.append(batch)

    def drop(self, refused: Collection[tuple[int, int]]) -> None:
        """Remove rows of the open bundle, by partition and offset: they became dead letters."""
        if refused:
            self._open = [
                rows for batch in self._open if (rows := _without(batch, refused)).num_rows
            ]

    def end_bundle(self, behind: Mapping[int, int]) -> None:
        """End the bundle: its rows are complete below these offsets, and now wait.

        Raises:
          LostRows: its reader continued after rows that were given up meanwhile.
        """
        with self._lock:
            if self._holding.seen != self._holding.losses:
                raise LostRows(
                    "Rows that waited for the table were given up after the start of this bundle. "
                    "A restart reads them again"
                )
            if not self._behind:
                self._since = self._clock()
            self._waiting += self._open
            self._waiting_bytes += sum(batch.nbytes for batch in self._open)
            self._open = []
            self._behind |= behind
            self._holding.offsets |= behind

    @property
    def is_due(self) -> bool:
        """Whether waiting rows must be written now."""
        if not self._behind:
            return False
        return (
            self._clock() - self._since >= self._spec.flush_seconds
            or self._waiting_bytes >= _MAX_BYTES
            or self._holding.ended
        )

    def write(self, commit: Callable[[Mapping[int, int]], None]) -> int:
        """Append confirmed rows to the table, then commit their offsets; return the bytes written.

        Raises:
          AppendConflict, DeltaError, OSError, ArrowException: the append failed; the rows still
            wait.
        """
        with self._lock:
            behind = self._find_confirmed()
            if not behind:
                return 0
            parts = [_split(batch, behind) for batch in self._waiting]
            ready = [rows for rows, _ in parts if rows.num_rows]
            staged = append_scores(ready, behind, self._spec, self._slot, self._table)
            self._waiting = [rows for _, rows in parts if rows.num_rows]
            self._waiting_bytes = sum(batch.nbytes for batch in self._waiting)
            self._behind = {p: o for p, o in self._behind.items() if o > behind.get(p, -1)}
            self._written |= behind
            self._since = self._clock()
            commit(behind)
            for partition in behind.keys() - self._behind.keys():
                self._holding.offsets.pop(partition, None)
        return sum(file.size_bytes for file in staged)

    def _find_confirmed(self) -> dict[int, int]:
        """Return the offsets to write up to; ask the reader to look if it has not confirmed all."""
        confirmed = self._holding.confirmed
        if confirmed is None:
            return dict(self._behind)
        found = {p: min(offset, confirmed.get(p, 0)) for p, offset in self._behind.items()}
        if found != self._behind:
            self._holding.is_awaited = True
        return {
            p: offset
            for p, offset in found.items()
            if offset == self._behind[p] or offset > self._written.get(p, 0)
        }

    def give_up(self) -> None:
        """Drop waiting rows; they are read again, from the group's offsets."""
        with self._lock:
            if self._behind or self._open:
                for partition in self._behind:
                    self._holding.offsets.pop(partition, None)
                self._holding.losses += 1
            self._open, self._waiting, self._behind = [], [], {}
            self._waiting_bytes = 0


def _without(rows: pa.RecordBatch, refused: Collection[tuple[int, int]]) -> pa.RecordBatch:
    at = zip(
        rows.column("source_partition").to_pylist(),
        rows.column("source_offset").to_pylist(),
        strict=True,
    )
    return rows.filter(pa.array([place not in refused for place in at], pa.bool_()))


def _split(
    rows: pa.RecordBatch, behind: Mapping[int, int]
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Return the rows of records below an offset, by partition, and the others."""
    partitions = rows.column("source_partition").to_numpy()
    offsets = rows.column("source_offset").to_numpy()
    is_below = np.zeros(rows.num_rows, bool)
    for partition, offset in behind.items():
        is_below |= (partitions == partition) & (offsets < offset)
    if is_below.all():
        return rows, rows.slice(0, 0)
    return rows.filter(pa.array(is_below)), rows.filter(pa.array(~is_below))
