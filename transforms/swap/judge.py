"""Score a sample of real rows with two models, and tell how far they differ."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from scoreline.models.compare import disagreement_of
from scoreline.models.servable import Servable
from scoreline.transforms import metrics
from scoreline.transforms.scoring import Scored, ScoreSpec, Serving, score_batch

# Both models score the sample so often, in turns; the fastest call of each counts, since noise only
# ever adds time. Slow models have fewer turns.
_TURNS = 5
_MAX_SECONDS = 20.0

# The sample is full with so many rows or bytes; after some time fewer will do, but not fewer than
# the least: of a handful of rows nothing follows.
_SAMPLE_ROWS = 1024
_SAMPLE_BYTES = 64 << 20
_MIN_SAMPLE_ROWS = 32
_SAMPLE_SECONDS = 30.0
ScoreBatch: TypeAlias = Callable[[pa.RecordBatch, Servable, ScoreSpec, metrics.Tally], Scored]


class Sample:
    """Rows that were just scored, kept until there are enough; safe to share between threads.

    Attributes:
      is_wanted: whether rows are wanted still.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Want nothing yet; the clock counts seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self.clear()

    def clear(self, *, wanted: bool = False) -> None:
        """Forget what there is, and say whether rows are wanted."""
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
        """Return the rows; None while they are too few."""
        with self._lock:
            waited = self._clock() - self._since >= _SAMPLE_SECONDS
            enough = self._rows >= _MIN_SAMPLE_ROWS and waited
            if not self._batches or (self.is_wanted and not enough):
                return None
            self.is_wanted = False
            return pa.Table.from_batches(self._batches).combine_chunks().to_batches()[0]


class Comparison(NamedTuple):
    """How a new model compares with the one that serves, on one sample.

    Attributes:
      rows: rows of the sample.
      disagreement: the largest of all output columns (see `disagreement_of`), or the share of rows
        that only the old model can score, where that is more.
      column: the output column it is of; "" for the rows that cannot be scored.
      latency_ratio: time of the new model's fastest call over that of the old one's.
    """

    rows: int
    disagreement: float
    column: str
    latency_ratio: float

    def find_problems(self, most_disagreement: float, most_latency_ratio: float) -> list[str]:
        """Return a sentence for each bound that does not hold."""
        problems = []
        if not self.disagreement <= most_disagreement:
            of = f"'{self.column}'" if self.column else "which rows can be scored"
            problems.append(
                f"disagreement of {self.disagreement:.3g} about {of} on {self.rows:,} rows, "
                f"expected at most {most_disagreement:g} (--swap_max_disagreement)"
            )
        if not self.latency_ratio <= most_latency_ratio:
            problems.append(
                f"{self.latency_ratio:.2f} times the model's time for {self.rows:,} rows, expected "
                f"at most {most_latency_ratio:g} (--swap_max_latency_ratio)"
            )
        return problems


def compare(
    sample: pa.RecordBatch, old: Serving, new: Serving, score: ScoreBatch = score_batch
) -> Comparison:
    """Score a sample with both models, in turns, and compare scores and time.

    Raises:
      Exception: whatever `score` does when one of them fails on every row.
    """
    began = time.monotonic()
    fastest = [float("inf"), float("inf")]
    for turn in range(_TURNS):
        scored: list[Scored] = []
        for number, serving in enumerate((old, new)):
            timers = metrics.Tally()
            scored.append(score(sample, serving.servable, serving.spec, timers))
            fastest[number] = min(fastest[number], timers.total(metrics.PREDICT_MS))
        if turn and time.monotonic() - began > _MAX_SECONDS:
            break
    disagreement, column = _compare_scores(sample.num_rows, scored[0], scored[1], new.spec)
    return Comparison(sample.num_rows, disagreement, column, fastest[1] / max(fastest[0], 1e-9))


def _compare_scores(rows: int, old: Scored, new: Scored, spec: ScoreSpec) -> tuple[float, str]:
    by_old, by_new = (_alive(scored, rows) for scored in (old, new))
    lost = int(np.sum(by_old & ~by_new))
    worst = (lost / max(int(by_old.sum()), 1), "")
    olds = old.batch.filter(pa.array(by_new[by_old]))
    news = new.batch.filter(pa.array(by_old[by_new]))
    for _, column, _ in spec.outputs:
        found = disagreement_of(olds.column(column), news.column(column))
        worst = max(worst, (found, column))
    return worst


def _alive(scored: Scored, rows: int) -> np.ndarray:
    """Return which rows of the sample were scored."""
    alive = np.ones(rows, bool)
    for dead in scored.dead:
        alive[list(dead.rows)] = False
    return alive
