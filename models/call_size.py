"""Rows per model call, chosen by timing the calls that have to be made anyway."""

from __future__ import annotations

import threading

# Each size is timed this often, and its fastest call counts: noise only ever adds time.
_TIMED_CALLS = 3
# A larger call must be this much cheaper per row to be worth its memory.
_WORTHWHILE = 0.985


class CallSize:
    """The number of rows to give one call of a servable; safe to share between threads.

    With a fixed size this is just that number. Otherwise sizes double from `smallest` on real
    calls until a doubling no longer makes a row at least 1.5 % cheaper; the cheapest size so far,
    ties to the smaller, is then kept. Calibration costs no extra call: it times calls whose scores
    are used. Record batches smaller than the size under test are scored in one call, untimed, so
    on small data nothing is calibrated.
    """

    def __init__(
        self, fixed_rows: int | None = None, *, smallest: int = 4096, largest: int = 65536
    ) -> None:
        """Fix the size, or let it be found between smallest and largest (powers of two apart)."""
        self.rows = fixed_rows or smallest
        self.settled = fixed_rows is not None
        self._largest = largest
        self._best = (float("inf"), self.rows)
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
                self._advance(min(self._seconds) / rows)
                self._seconds = []

    def _advance(self, seconds_per_row: float) -> None:
        best_seconds, best_rows = self._best
        if seconds_per_row >= best_seconds * _WORTHWHILE:
            self.rows, self.settled = best_rows, True
            return
        self._best = (seconds_per_row, self.rows)
        if self.rows * 2 > self._largest:
            self.settled = True
        else:
            self.rows *= 2
