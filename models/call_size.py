"""Rows per model call, chosen by timing calls whose scores are needed anyway."""

from __future__ import annotations

import threading

# Timed calls of each size. The fastest one counts, because noise only adds time.
_TIMED_CALLS = 2
# A call this long has no overhead left to save; a larger one would only use more memory.
_LONG_CALL_SECONDS = 0.1
# Sizes whose cost differs by less than this factor count as equal; the smallest one wins.
_SAME_COST = 1.005


class CallSize:
    """The number of rows to give one call of a servable; safe to share between threads.

    A fixed size is returned as it is. Otherwise sizes double from `smallest` on real calls, until a
    call takes more than 0.1 s or `largest` is reached. The size with the lowest cost per row is
    then kept. No size is skipped because the one before it was slow: the cost of a row is not
    monotonic in the size (caches, allocators), and one disturbed reading would decide for the
    whole job. Calibration makes no extra call. Record batches smaller than the size under test are
    scored in one call that is not timed, so small data is not calibrated on.
    """

    def __init__(
        self, fixed_rows: int | None = None, *, smallest: int = 8192, largest: int = 65536
    ) -> None:
        """Fix the size, or calibrate it between smallest and largest, in powers of two."""
        self.rows = fixed_rows or smallest
        self.settled = fixed_rows is not None
        self._largest = largest
        self._costs: dict[int, float] = {}
        self._seconds: list[float] = []
        self._lock = threading.Lock()

    def record(self, rows: int, seconds: float) -> None:
        """Record the time of a call of some rows."""
        if self.settled or rows != self.rows:
            return
        with self._lock:
            if self.settled or rows != self.rows:
                return
            self._seconds.append(seconds)
            if len(self._seconds) == _TIMED_CALLS:
                self._advance(min(self._seconds))
                self._seconds = []

    def shrink(self, rows: int) -> None:
        """Halve the size after a call of some rows ran out of memory; it stays so."""
        with self._lock:
            self.rows = min(self.rows, max(1, rows // 2))
            self.settled = True

    def _advance(self, seconds: float) -> None:
        self._costs[self.rows] = seconds / self.rows
        if seconds < _LONG_CALL_SECONDS and self.rows * 2 <= self._largest:
            self.rows *= 2
            return
        enough = min(self._costs.values()) * _SAME_COST
        self.rows = min(rows for rows, cost in self._costs.items() if cost <= enough)
        self.settled = True
