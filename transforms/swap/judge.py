"""Scores a sample of real rows with two models, and compares scores and time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import pyarrow as pa

from scoreline.models.compare.disagreement import Apart, find_common_rows, find_largest_disagreement
from scoreline.models.compare.turns import take_turns
from scoreline.models.servable import Servable
from scoreline.transforms import metrics
from scoreline.transforms.alive import Alive
from scoreline.transforms.scoring import Scored, ScoreSpec, Serving, score_batch

# Both models score the sample in turns. The fastest call of each counts, because noise only adds
# time. Slow models get fewer turns.
_TURNS = 5
_MAX_SECONDS = 20.0

# The sample is full with this many rows or bytes. After some time fewer rows are enough, but never
# fewer than the minimum: a handful of rows proves nothing.
_SAMPLE_ROWS = 1024
_SAMPLE_BYTES = 64 << 20
_MIN_SAMPLE_ROWS = 32
_SAMPLE_SECONDS = 30.0
ScoreBatch: TypeAlias = Callable[[pa.RecordBatch, Servable, ScoreSpec, metrics.Tally], Scored]


class Sample:
    """Recently scored rows, collected until there are enough. Thread-safe.

    Attributes:
      is_wanted: whether it needs more rows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without collecting; the clock returns seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self.clear()

    def clear(self, *, wanted: bool = False) -> None:
        """Drop the rows, and set whether to collect new ones."""
        with self._lock:
            self._batches: list[pa.RecordBatch] = []
            self._rows = self._bytes = 0
            self._since = self._clock()
            self.is_wanted = wanted

    def add(self, batch: pa.RecordBatch) -> bool:
        """Keep the first rows of a batch; return whether the sample is full."""
        with self._lock:
            if self.is_wanted and batch.num_rows:
                batch = batch.slice(0, _SAMPLE_ROWS - self._rows)
                self._batches.append(batch)
                self._rows += batch.num_rows
                self._bytes += batch.nbytes
                self.is_wanted = self._rows < _SAMPLE_ROWS and self._bytes < _SAMPLE_BYTES
            return not self.is_wanted

    def take(self) -> pa.RecordBatch | None:
        """Return the rows; None if they are too few."""
        with self._lock:
            waited = self._clock() - self._since >= _SAMPLE_SECONDS
            enough = self._rows >= _MIN_SAMPLE_ROWS and waited
            if not self._batches or (self.is_wanted and not enough):
                return None
            self.is_wanted = False
            return pa.Table.from_batches(self._batches).combine_chunks().to_batches()[0]


class Comparison(NamedTuple):
    """The comparison of a new model with the serving one, on one sample.

    Attributes:
      rows: number of rows of the sample.
      disagreement: the maximum over output columns (see `disagreement_of`) and the share of rows
        that only the old model can score.
      column: the output column with the maximum; "" for the share of unscored rows.
      latency_ratio: time of the new model's fastest call, divided by that of the old model.
    """

    rows: int
    disagreement: float
    column: str
    latency_ratio: float

    def find_problems(self, max_disagreement: float, max_latency_ratio: float) -> list[str]:
        """Return one sentence per exceeded limit."""
        problems = []
        if not self.disagreement <= max_disagreement:
            of = f"'{self.column}'" if self.column else "which rows can be scored"
            problems.append(
                f"expected a disagreement of at most {max_disagreement:g} "
                f"(--swap_max_disagreement), got {self.disagreement:.3g} about {of} on "
                f"{self.rows:,} rows"
            )
        if not self.latency_ratio <= max_latency_ratio:
            problems.append(
                f"expected at most {max_latency_ratio:g} times the model's time "
                f"(--swap_max_latency_ratio), got {self.latency_ratio:.2f} for {self.rows:,} rows"
            )
        return problems


def compare(
    sample: pa.RecordBatch, old: Serving, new: Serving, score: ScoreBatch = score_batch
) -> Comparison:
    """Score a sample with both models, in turns, and compare scores and time.

    Raises:
      Exception: the exception of `score` if one model fails on every row.
    """

    def call(serving: Serving) -> tuple[Scored, float]:
        timers = metrics.Tally()
        scored = score(sample, serving.servable, serving.spec, timers)
        return scored, timers.total(metrics.PREDICT_MS)

    pairs = take_turns(lambda: call(old), lambda: call(new), _TURNS, max_seconds=_MAX_SECONDS)
    fastest_old, fastest_new = (min(turn[side][1] for turn in pairs) for side in (0, 1))
    (by_old, _), (by_new, _) = pairs[-1]
    disagreement, column = _compare_scores(sample.num_rows, by_old, by_new, new.spec)
    return Comparison(sample.num_rows, disagreement, column, fastest_new / max(fastest_old, 1e-9))


def _compare_scores(rows: int, old: Scored, new: Scored, spec: ScoreSpec) -> Apart:
    common = find_common_rows(*(Alive(rows, scored.dead).positions for scored in (old, new)))
    return find_largest_disagreement(
        old.batch.take(pa.array(common.in_old)),
        new.batch.take(pa.array(common.in_new)),
        [column for _, column, _ in spec.outputs],
        common.lost,
    )
