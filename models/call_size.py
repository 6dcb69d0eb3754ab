"""Rows per model call, chosen by timing the calls that have to be made anyway."""

from __future__ import annotations

import threading

# Each size is timed this often, and its fastest call counts: noise only ever adds time.
_TIMED_CALLS = 2
# A call this long has no overhead left to save, and a larger one would only take memory.
_LONG_CALL_SECONDS = 0.1
# Of sizes that cost the same, the smallest is kept.
_SAME_COST = 1.005


class CallSize:
    """The number of rows to give one call of a servable; safe to share between threads.

    With a fixed size this is just that number. Otherwise sizes double from `smallest` on real
    calls, until one call takes more than 0.1 s or `largest` is reached; the cheapest per row is
    then kept. No size is skipped because the one before it was slow: the cost of a row is not
    monotonic in the size (caches, allocators), and one disturbed reading would decide for the
    whole job. Calibration costs no extra call: it times calls whose scores are used. Record
    batches smaller than the size under test are scored in one call, untimed, so on small data
    nothing is calibrated.
    """

    def __init__(
        self, fixed_rows: int | None = None, *, smallest: int = 8192, largest: int = 65536
    ) -> None:
        """Fix the size, or let it be found between smallest and largest (powers of two apart)."""
        self.rows = fixed_rows or smallest
        self.settled = fixed_rows is not None
        self._largest = largest
        self._costs: dict[int, float] = {}
        self._seconds: list[float] = []
        self._lock = threading.Lock()

    def record(self, rows: int, seconds: float) -> None:
        """Take note that a call of so many rows took so long."""
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
        """Make calls half as large as one of so many rows, which ran out of memory, and keep it."""
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
