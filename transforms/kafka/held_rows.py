"""Scored rows of a stream that wait, over many bundles, for the next file of their table.

What waits is in memory only: its offsets are not committed, so that whoever dies reads it again.
Within a process, though, the reader must go on behind it, and not where the group is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import pyarrow as pa
from deltalake import DeltaTable

from scoreline.lake.storage import table_uri
from scoreline.transforms.kafka.append import TableSpec, append_scores
from scoreline.transforms.kafka.holding import Holding

# What waits is written when it takes this much memory, even before its time.
_MAX_BYTES = 64 << 20


class LostRows(RuntimeError):
    """Rows were given up, and what was read behind them since must not stand for them."""


class HeldRows:
    """The rows of one slot that wait. Bundles may end, and rows be written, in different threads.

    One thread at a time writes: a later file that came first would have the table take the rows of
    the earlier one for rows it has.
    """

    def __init__(
        self,
        spec: TableSpec,
        slot: int,
        holding: Holding,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the table, which must be there."""
        self._spec, self._slot, self._holding, self._clock = spec, slot, holding, clock
        self._table = DeltaTable(table_uri(spec.output))
        self._lock = threading.Lock()
        self._open: list[pa.RecordBatch] = []  # of the bundle that has not ended
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._behind: dict[int, int] = {}
        self._since = 0.0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows of the bundle that is open; they count when it has ended."""
        self._open.append(batch)

    def end_bundle(self, behind: Mapping[int, int]) -> None:
        """Have the rows of the bundle wait: all of its records below these offsets are there.

        Raises:
          LostRows: its reader went on from rows that were given up since.
        """
        with self._lock:
            if self._holding.seen != self._holding.losses:
                raise LostRows(
                    "Rows that waited for the table were given up since this bundle began. "
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
        """Whether what waits is to be written now."""
        if not self._behind:
            return False
        return (
            self._clock() - self._since >= self._spec.flush_seconds
            or self._waiting_bytes >= _MAX_BYTES
            or self._holding.ended
        )

    def write(self, commit: Callable[[Mapping[int, int]], None]) -> int:
        """Append what waits to the table, then have its offsets committed; return bytes written.

        Raises:
          AppendConflict, DeltaError, OSError, ArrowException: it could not be written. It waits on.
        """
        with self._lock:
            if not self._behind:
                return 0
            staged = append_scores(self._waiting, self._behind, self._spec, self._slot, self._table)
            behind, self._behind = self._behind, {}
            self._waiting, self._waiting_bytes = [], 0
            commit(behind)
            for partition in behind:
                self._holding.offsets.pop(partition, None)
        return sum(file.size_bytes for file in staged)

    def give_up(self) -> None:
        """Forget what waits: it is read again, from the group's offsets."""
        with self._lock:
            if self._behind or self._open:
                for partition in self._behind:
                    self._holding.offsets.pop(partition, None)
                self._holding.losses += 1
            self._open, self._waiting, self._behind = [], [], {}
            self._waiting_bytes = 0
