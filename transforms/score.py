"""Keyed record batches → scores and dead letters, with a model that each worker loads once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, TypeVar

import apache_beam as beam
import pyarrow as pa
from apache_beam.typehints.typehints import TupleConstraint

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import BatchKey, RecordKey
from scoreline.lake.kill_points import reach
from scoreline.lake.table.letters import to_dead_letters
from scoreline.lake.table.tracebacks import explain_unexpected
from scoreline.models.errors import ImpureModel, ModelError
from scoreline.models.null_servable import NullServable
from scoreline.transforms import metrics
from scoreline.transforms.bundle_metrics import BundleMetrics
from scoreline.transforms.features import build_features
from scoreline.transforms.isolate import EveryRowFails
from scoreline.transforms.kafka.ending import StreamRefused
from scoreline.transforms.null_stages import RepeatedFeatures
from scoreline.transforms.purity import gate_of
from scoreline.transforms.scoring import Scored, ScoreSpec, Serving, score_batch, score_none
from scoreline.transforms.swap.shared import acquire_watcher, release_watcher
from scoreline.transforms.swap.watch import SwapSpec
from scoreline.transforms.wanted import in_python
from scoreline.transforms.worker.heap import settle_heap_once

DEAD_LETTERS = "dead_letters"

Key = TypeVar("Key")


class ModelFails(RuntimeError):
    """The model fails on all rows. The message has the reason."""


class Scorer:
    """Scores record batches for a step, and counts the results.

    Attributes:
      serving: the model for the next batch.
      metrics: the metrics of the step's bundle.
    """

    def __init__(self, serving: Serving) -> None:
        null = serving.spec.null_stages
        if "predict" in null:
            serving = serving._replace(servable=NullServable(serving.servable))
        self._build = RepeatedFeatures() if "features" in null else build_features
        self.serving = serving
        self.metrics = BundleMetrics()
        self.metrics.observe(metrics.MODEL_LOAD_MS, serving.servable.load_ms)
        self.metrics.count(metrics.MODELS_FALLEN_BACK, bool(serving.servable.runtime.fallback))
        self._has_scored = False
        self._failure = ""
        self._gate = gate_of(serving.spec) if serving.spec.checks_purity else None

    def score(self, batch: pa.RecordBatch) -> Scored:
        """Score a batch.

        Raises:
          EveryRowFails: rows spread over the batch all fail alone, for the same reason. Only this
            batch or its partition fails, because its data may be the cause.
          ModelFails: another batch has failed for the same reason, and no row was ever scored.
          ImpureModel: the scores of the first rows are not their own.
        """
        if self._gate is not None and not self._gate.is_open:
            self._gate.pass_through(batch, self.serving)
        try:
            return score_batch(batch, *self.serving, self.metrics, self._build)
        except EveryRowFails as e:
            reason = str(e).partition(": ")[2]
            if not self._has_scored and reason == self._failure:
                raise ModelFails(f"The model fails on every row of two batches: {reason}") from e
            self._failure = reason
            raise

    def fail(self, batch: pa.RecordBatch, error: EveryRowFails) -> Scored:
        """Return a batch whose rows are all dead."""
        return score_none(batch, *self.serving, str(error))

    def count(self, scored: int, dead: int) -> None:
        """Add to the counts of scored and dead rows."""
        self._has_scored = self._has_scored or scored > 0
        self.metrics.count(metrics.ROWS_SCORED, scored)
        self.metrics.count(metrics.ROWS_DEAD, dead)

    def to_letters(self, batch: pa.RecordBatch, scored: Scored) -> Iterator[pa.RecordBatch]:
        """Count the results of a batch, and yield its dead letters."""
        self.count(scored.batch.num_rows, sum(len(group.rows) for group in scored.dead))
        for rows in scored.dead:
            yield to_dead_letters(batch, rows, self.serving.spec.digest)

    def flush(self) -> None:
        """Pass the metrics of a bundle to Beam."""
        self.metrics.observe(metrics.CALL_ROWS, self.serving.servable.call_size.rows)
        self.metrics.flush()


def in_own_words(error: ImpureModel) -> ImpureModel:
    """Return the error of an impure model for a pipeline, whose options are arguments."""
    return ImpureModel(in_python(str(error)))


class _ScoreDoFn(beam.DoFn):
    def __init__(self, spec: ScoreSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        self._scorer = Scorer(Serving(self._spec.model.load(), self._spec))
        self._given_up: tuple[str, int] | None = None

    def process(
        self, element: tuple[Key, pa.RecordBatch]
    ) -> Iterator[tuple[Key, pa.RecordBatch] | beam.pvalue.TaggedOutput]:
        key, batch = element
        if not batch.num_rows:
            yield element
            return
        shard = _shard_of(key)
        if shard is not None and shard == self._given_up:
            yield key, batch.slice(0, 0)
            return
        reach("scoring")
        try:
            scored = self._scorer.score(batch)
        except EveryRowFails as e:
            if isinstance(key, BatchKey):
                self._given_up = shard
                yield key._replace(error=f"the model fails: {e}"), batch.slice(0, 0)
                return
            scored = self._scorer.fail(batch, e)
        except ImpureModel as e:
            raise in_own_words(e) from e
        except (ModelError, ModelFails):
            raise
        except Exception as e:
            if not isinstance(key, BatchKey):
                raise
            self._given_up = shard  # an unexpected error costs its partition, not the job
            error = explain_unexpected(
                e, f"scoring rows from {key.first_row} of shard {key.shard.number}"
            )
            yield key._replace(error=error), batch.slice(0, 0)
            return
        for letters in self._scorer.to_letters(batch, scored):
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, (key, letters))
        yield key, scored.batch

    def finish_bundle(self) -> None:
        self._scorer.flush()

    def teardown(self) -> None:
        self._scorer.serving.servable.close()


def _shard_of(key: object) -> tuple[str, int] | None:
    return (key.shard.partition, key.shard.number) if isinstance(key, BatchKey) else None


@dataclasses.dataclass(kw_only=True, eq=False)
class Score(beam.PTransform):
    """Score keyed record batches with a TensorFlow model.

    Takes (K, RecordBatch) with keys of any type. Returns `scores`, exactly one batch per input
    batch, with the same key. Returns `dead_letters` with the key of their batch: their own columns,
    then `_step`, `_reason`, `_row` (the position in the batch, from 0) and `_model_digest`. For
    each batch, rows in = rows scored + rows dead. Empty batches pass through. Each worker process
    loads the model once.

    If all rows of a batch fail, they become dead letters. Under a BatchKey the shard fails instead:
    the key of its scores carries the error, and no further batch of the shard is scored. Two such
    batches before any scored row fail the job.
    """

    spec: ScoreSpec

    def expand(
        self, batches: beam.PCollection[tuple[Key, pa.RecordBatch]]
    ) -> beam.pvalue.DoOutputsTuple:
        """Apply the model in one fused step."""
        element = batches.element_type
        if not isinstance(element, TupleConstraint):  # unknown type
            element = tuple[Any, pa.RecordBatch]
        return batches | "Predict" >> beam.ParDo(_ScoreDoFn(self.spec)).with_output_types(
            element, **{DEAD_LETTERS: element}
        ).with_outputs(DEAD_LETTERS, main="scores")


class _ScoreStreamDoFn(beam.DoFn):
    def __init__(self, spec: ScoreSpec, swap: SwapSpec | None) -> None:
        self._spec = spec
        self._swap = swap

    def setup(self) -> None:
        self._watcher = acquire_watcher(self._spec, self._swap) if self._swap else None
        self._scorer = Scorer(
            self._watcher.take() if self._watcher else Serving(self._spec.model.load(), self._spec)
        )
        settle_heap_once()

    def process(
        self, element: tuple[RecordKey, pa.RecordBatch]
    ) -> Iterator[tuple[RecordKey, pa.RecordBatch]]:
        key, batch = element
        if key.are_dead:
            yield element
            return
        if self._watcher:  # only between batches, so that no batch is scored by two models
            self._scorer.serving = self._watcher.take()
        try:
            scored = self._scorer.score(batch)
        except EveryRowFails as e:
            scored = self._scorer.fail(batch, e)
        except ImpureModel as e:  # another start of the worker would find the same
            raise StreamRefused(str(e)) from e
        if self._watcher:
            self._watcher.offer(batch, scored.dead)
        for letters in self._scorer.to_letters(batch, scored):
            yield key._replace(are_dead=True), letters
        if scored.batch.num_rows:
            yield key, scored.batch

    def finish_bundle(self) -> None:
        if self._watcher:
            self._watcher.report(self._scorer.metrics)
        self._scorer.flush()

    def teardown(self) -> None:
        if self._watcher:
            release_watcher(self._spec, self._watcher)
        else:
            self._scorer.serving.servable.close()


@dataclasses.dataclass(kw_only=True, eq=False)
class ScoreStream(beam.PTransform):
    """Score record batches of an unbounded stream.

    Takes and returns (RecordKey, RecordBatch). Dead letters, also those of earlier steps, are in
    the same output with a key that marks them, because one sink delivers both with their offsets.
    A batch without scored rows has no output of scores. If all rows of a batch fail, they become
    dead letters.

    With `swap`, later batches may be scored by a newer model, whose digest is in their rows.
    """

    spec: ScoreSpec
    swap: SwapSpec | None = None

    def expand(
        self, batches: beam.PCollection[tuple[RecordKey, pa.RecordBatch]]
    ) -> beam.PCollection[tuple[RecordKey, pa.RecordBatch]]:
        """Apply the model in one fused step."""
        return batches | "Predict" >> beam.ParDo(
            _ScoreStreamDoFn(self.spec, self.swap)
        ).with_output_types(tuple[RecordKey, pa.RecordBatch])
