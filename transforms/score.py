"""Keyed record batches → scores and dead letters, by a model that a worker loads once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import BatchKey, DeadRows
from scoreline.lake.kill_points import reach
from scoreline.lake.table.letters import are_dead_letters, to_dead_letters
from scoreline.transforms import metrics
from scoreline.transforms.bundle_metrics import BundleMetrics
from scoreline.transforms.isolate import EveryRowFails
from scoreline.transforms.scoring import ScoreSpec, Serving, score_batch
from scoreline.transforms.swap.watch import SwapSpec, acquire_watcher, release_watcher
from scoreline.transforms.worker.heap import is_settled, settle_heap

DEAD_LETTERS = "dead_letters"


class ModelFails(RuntimeError):
    """The model fails on everything, so that going on is pointless; the message says why."""


class _ScoreDoFn(beam.DoFn):
    def __init__(self, spec: ScoreSpec, swap: SwapSpec | None, endless: bool) -> None:
        self._spec = spec
        self._swap = swap
        self._endless = endless

    def setup(self) -> None:
        self._watcher = acquire_watcher(self._spec, self._swap) if self._swap else None
        self._serving = (
            self._watcher.take() if self._watcher else Serving(self._spec.load(), self._spec)
        )
        self._metrics = BundleMetrics()
        self._metrics.observe(metrics.MODEL_LOAD_MS, self._serving.servable.load_ms)
        if self._endless and not is_settled():
            settle_heap()
        self._has_scored = False
        self._failure = ""
        self._given_up: tuple[str, int] | None = None

    def process(
        self, element: tuple[BatchKey, pa.RecordBatch]
    ) -> Iterator[tuple[BatchKey, pa.RecordBatch] | beam.pvalue.TaggedOutput]:
        key, batch = element
        if self._endless:
            yield from self._score_endless(key, batch)
            return
        if not batch.num_rows:  # the end of an empty shard, or of one that could not be read
            yield element
            return
        shard = (key.shard.partition, key.shard.number)
        if shard == self._given_up:
            yield key, batch.slice(0, 0)
            return
        reach("scoring")
        try:
            scored, dead = score_batch(batch, *self._serving, self._metrics)
        except EveryRowFails as e:
            self._give_up(str(e))
            self._given_up = shard
            yield key._replace(error=f"the model fails: {e}"), batch.slice(0, 0)
            return
        for letters in self._count(key, batch, scored, dead):
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, (key, letters))
        yield key, scored

    def _score_endless(
        self, key: BatchKey, batch: pa.RecordBatch
    ) -> Iterator[tuple[BatchKey, pa.RecordBatch]]:
        if are_dead_letters(batch):
            yield key, batch
            return
        if self._watcher:  # between two batches only, so that no batch is scored by two models
            self._serving = self._watcher.take()
        try:
            scored, dead = score_batch(batch, *self._serving, self._metrics)
        except EveryRowFails as e:
            self._give_up(str(e))
            rows = range(batch.num_rows)
            scored, dead = batch.slice(0, 0), [DeadRows(rows, [str(e)] * len(rows), "Predict")]
        if self._watcher:
            self._watcher.offer(batch, dead)
        for letters in self._count(key, batch, scored, dead):
            yield key, letters
        if scored.num_rows:
            yield key, scored

    def _count(
        self, key: BatchKey, batch: pa.RecordBatch, scored: pa.RecordBatch, dead: list[DeadRows]
    ) -> Iterator[pa.RecordBatch]:
        """Count what came of a batch, and yield its dead letters."""
        self._has_scored = self._has_scored or scored.num_rows > 0
        self._metrics.count(metrics.ROWS_SCORED, scored.num_rows)
        for rows in dead:
            self._metrics.count(metrics.ROWS_DEAD, len(rows.rows))
            yield to_dead_letters(key, batch, rows, self._serving.spec.digest)

    def _give_up(self, failure: str) -> None:
        """Fail the job when two batches failed whole, for one reason, and no row was ever scored.

        A single batch costs its partition only: it may be that partition's data.
        """
        reason = failure.partition(": ")[2]
        if not self._has_scored and reason == self._failure:
            raise ModelFails(f"The model fails on every row of two batches: {reason}")
        self._failure = reason

    def teardown(self) -> None:
        if self._watcher:
            release_watcher(self._spec, self._watcher)
        else:
            self._serving.servable.close()

    def finish_bundle(self) -> None:
        self._metrics.observe(metrics.CALL_ROWS, self._serving.servable.call_size.rows)
        if self._watcher:
            self._watcher.report(self._metrics)
        self._metrics.flush()


@dataclasses.dataclass(kw_only=True, eq=False)
class Score(beam.PTransform):
    """Score keyed record batches with a TensorFlow model.

    Takes (BatchKey, RecordBatch); gives `scores`, exactly one batch for each that went in, under
    the same key, and `dead_letters`, under the key of the batch they were in. For each key, rows
    in = rows scored + rows dead. The model is loaded once per worker process.

    With `endless`, for streams, batches are no pieces of a shard: nothing is given for one without
    scored rows, one in which every row fails is dead letters, and dead letters go among `scores`,
    as those that come in do, so that one sink can deliver both together with their offsets. With
    `swap` later batches may then be scored by a newer model, and say so by their digest.
    """

    spec: ScoreSpec
    swap: SwapSpec | None = None
    endless: bool = False

    def expand(
        self, batches: beam.PCollection[tuple[BatchKey, pa.RecordBatch]]
    ) -> beam.pvalue.DoOutputsTuple:
        """Apply the model in one fused step."""
        element = tuple[BatchKey, pa.RecordBatch]
        return batches | "Predict" >> beam.ParDo(
            _ScoreDoFn(self.spec, self.swap, self.endless)
        ).with_outputs(DEAD_LETTERS, main="scores").with_output_types(element)
