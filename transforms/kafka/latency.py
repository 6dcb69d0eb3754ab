"""The size of polls, chosen so that each record is scored within a target latency."""

from __future__ import annotations

# Weight of the newest sample in the moving average.
_WEIGHT = 0.2
_FULL_POLLS = 3
# Maximum cost of a row relative to the cheapest call size: bounds the loss of throughput.
_MAX_ROW_COST_RATIO = 1.1
_FIRST_ROWS = 256


class LatencyController:
    """Chooses the maximum rows of the next poll from the cost of earlier polls.

    1. A poll takes the available records. If they are few, that is optimal for latency. A limit
       matters only with a backlog, where the first records of a call wait for the last ones.
    2. Costs are moving averages by call size, in powers of two. A record that arrives just after a
       poll waits for one whole call and then takes part in the next one. So a call may take half of
       the target. Interpolation between the known sizes gives the number of rows.
    3. The lower bound is the size at which a row costs 1.1 times its minimum. Smaller calls would
       lose more throughput, and would themselves cause the backlog that they should avoid.
    4. The upper bound is four times the largest known size, which limits extrapolation.
    5. Three full polls in a row show a backlog that persists. Then records wait longer than one
       call of any size, and throughput is too low. `rows` doubles with each further full poll, up
       to `max_rows`, until a poll is not full.

    Without a target, every poll takes up to `max_rows`.
    """

    def __init__(self, target_ms: float | None, max_rows: int = 8192) -> None:
        """Start without samples; with few rows if there is a target."""
        self._target_seconds = None if target_ms is None else target_ms / 1000
        self._max_rows = max_rows
        self._full_polls = 0
        # Mean rows and seconds of calls, by the bit length of their number of rows.
        self._known: dict[int, tuple[float, float]] = {}
        self.rows = max_rows if target_ms is None else min(_FIRST_ROWS, max_rows)

    def record(self, rows: int, seconds: float) -> None:
        """Record the rows of a poll, and the seconds until they were scored and sent."""
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
        self.rows = int(min(self._max_rows, max(1, limit)))

    def _limit(self, seconds: float) -> float:
        """Return the number of rows that a call can score in a time, within both bounds."""
        known = [self._known[size] for size in sorted(self._known)]
        cheapest = min(took / rows for rows, took in known)
        efficient = next(
            rows for rows, took in known if took / rows <= _MAX_ROW_COST_RATIO * cheapest
        )
        furthest = max(_FIRST_ROWS, 4 * known[-1][0])
        return min(furthest, max(efficient, _rows_within(seconds, known)))


def _rows_within(seconds: float, known: list[tuple[float, float]]) -> float:
    """Return the number of rows of a call of given seconds, interpolated between known sizes."""
    rows_below, took_below = 0.0, 0.0
    for rows, took in known:
        if took > seconds:
            share = (seconds - took_below) / (took - took_below)
            return rows_below + share * (rows - rows_below)
        rows_below, took_below = rows, took
    per_row = took_below / rows_below
    first_rows, first_took = known[0]
    if took_below > first_took and rows_below > first_rows:
        # The marginal cost of a row, without the fixed cost of a call.
        per_row = min(per_row, (took_below - first_took) / (rows_below - first_rows))
    return rows_below + (seconds - took_below) / per_row
