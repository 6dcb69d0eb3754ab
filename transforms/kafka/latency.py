"""How many records to take at once, so that each is scored within a time."""

from __future__ import annotations

# Of the newest measurement of a size; the rest is what was known of it before.
_WEIGHT = 0.2
_FULL_POLLS = 3
# Of what a row costs at its cheapest: as much throughput is given up for the target, and not more.
_MAX_ROW_COST_RATIO = 1.1
_FIRST_ROWS = 256


class LatencyController:
    """Choose the rows of the next poll from what the last ones cost.

    1. A poll takes what is there, and that is the best for latency as long as little is there: a
       limit only matters behind a backlog, where the first records wait for the last of their call.
    2. What a call costs is kept for each size, in powers of two, newer calls counting more. A
       record that comes just after a poll waits for one whole call and then takes part in another,
       so a call may take half of the target: as many rows as fit into that, by a line through the
       sizes that are known.
    3. Never fewer than the rows at which a row costs 1.1 times what it costs at its cheapest:
       smaller calls would lose more throughput, and with it build the backlog they are to avoid.
    4. Never more than four times the largest size that is known: a guess is not carried far.
    5. Three full polls in a row mean that a backlog is there all the same: records wait longer than
       one call whatever its size, and what is missing is throughput. `rows` doubles with each
       further full poll, up to `most_rows`; the first poll that is not full ends that.

    Without a target, every poll takes up to `most_rows`.
    """

    def __init__(self, target_ms: float | None, most_rows: int = 8192) -> None:
        """Begin without knowledge: with few rows when there is a target."""
        self._target_seconds = None if target_ms is None else target_ms / 1000
        self._most_rows = most_rows
        self._full_polls = 0
        # By the bits of their number of rows: the mean rows and seconds of calls.
        self._known: dict[int, tuple[float, float]] = {}
        self.rows = most_rows if target_ms is None else min(_FIRST_ROWS, most_rows)

    def record(self, rows: int, seconds: float) -> None:
        """Take note of a poll's rows, and of what it took until they were scored and sent."""
        if self._target_seconds is None or not rows:
            return
        size = rows.bit_length()
        before, took = self._known.get(size, (rows, seconds))
        self._known[size] = (
            before + _WEIGHT * (rows - before),
            took + _WEIGHT * (seconds - took),
        )
        self._full_polls = self._full_polls + 1 if rows >= self.rows else 0
        limit = self._limit(self._target_seconds / 2)
        if self._full_polls >= _FULL_POLLS:
            limit = max(limit, self.rows * 2)
        self.rows = int(min(self._most_rows, max(1, limit)))

    def _limit(self, seconds: float) -> float:
        """Return the rows of a call that fit into so many seconds, within what is said above."""
        known = [self._known[size] for size in sorted(self._known)]
        cheapest = min(took / rows for rows, took in known)
        efficient = next(
            rows for rows, took in known if took / rows <= _MAX_ROW_COST_RATIO * cheapest
        )
        furthest = max(_FIRST_ROWS, 4 * known[-1][0])
        return min(furthest, max(efficient, _rows_within(seconds, known)))


def _rows_within(seconds: float, known: list[tuple[float, float]]) -> float:
    """Return how many rows a call of so many seconds has, by calls of rising sizes."""
    rows_below, took_below = 0.0, 0.0
    for rows, took in known:
        if took > seconds:
            share = (seconds - took_below) / (took - took_below)
            return rows_below + share * (rows - rows_below)
        rows_below, took_below = rows, took
    per_row = took_below / rows_below
    first_rows, first_took = known[0]
    if took_below > first_took and rows_below > first_rows:
        # Without what each call costs whatever its size.
        per_row = min(per_row, (took_below - first_took) / (rows_below - first_rows))
    return rows_below + (seconds - took_below) / per_row
