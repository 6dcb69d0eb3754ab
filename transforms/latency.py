"""How many records to take at once, so that each is scored within a time."""

from __future__ import annotations

# Of the newest measurement; the rest is what was known before.
_WEIGHT = 0.2
_FULL_POLLS = 3


class LatencyController:
    """Choose the rows of the next poll from what the last ones cost.

    1. A call for n rows costs about `fixed + n * per_row` seconds. Both are learned from the calls
       that are made, newer ones counting more (a weighted line through rows and seconds).
    2. A record that comes just after a poll waits for one whole call and then takes part in
       another. So a call may take half of the target, and `rows` is how many fit into that.
    3. While polls come back with fewer rows than they may take, nothing queues, and 2 holds.
    4. Three full polls in a row mean that a backlog is there: records wait longer than one call
       whatever its size, and what is missing is throughput. `rows` doubles with each further full
       poll, up to `most_rows`, because `fixed` is then shared by more rows.
    5. The first poll that is not full has emptied the backlog: back to 2.

    Without a target, every poll takes up to `most_rows`.
    """

    def __init__(self, target_ms: float | None, most_rows: int = 8192) -> None:
        """Begin without knowledge: with few rows when there is a target."""
        self._target_seconds = None if target_ms is None else target_ms / 1000
        self._most_rows = most_rows
        self._fitting_rows = most_rows if target_ms is None else min(64, most_rows)
        self._full_polls = 0
        # Weighted sums of 1, rows, seconds, rows², rows·seconds.
        self._sums = [0.0] * 5
        self.rows = self._fitting_rows

    def record(self, rows: int, seconds: float) -> None:
        """Take note of a poll's rows, and of what it took until they were scored and sent."""
        if self._target_seconds is None or not rows:
            return
        new = (1.0, rows, seconds, rows * rows, rows * seconds)
        self._sums = [
            (1 - _WEIGHT) * known + _WEIGHT * added
            for known, added in zip(self._sums, new, strict=True)
        ]
        self._fitting_rows = self._fit(self._target_seconds / 2)
        self._full_polls = self._full_polls + 1 if rows >= self.rows else 0
        if self._full_polls < _FULL_POLLS:
            self.rows = self._fitting_rows
        else:
            self.rows = min(self._most_rows, max(self.rows * 2, self._fitting_rows))

    def _fit(self, seconds: float) -> int:
        """Return how many rows a call of so many seconds may have."""
        weight, rows, took, squares, products = self._sums
        spread = weight * squares - rows * rows
        # All calls alike: nothing tells fixed from per row, so all of it counts as per row.
        per_row = took / rows
        fixed = 0.0
        if spread > 0.01 * rows * rows:
            slope = (weight * products - rows * took) / spread
            if 0 < slope < per_row:
                per_row, fixed = slope, (took - slope * rows) / weight
        # One step never more than doubles: a line through small calls says little of large ones.
        fitting = (seconds - fixed) / per_row
        return int(min(self._most_rows, max(1, min(fitting, self._fitting_rows * 2))))
