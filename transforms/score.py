"""Record batch → scores: features, model, keys. Shared by batch and stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.columns import select_column
from models.conversions import RAGGED
from models.model_error import ModelError, describe_error
from models.model_process import ModelProcess, ProcessLost
from models.servable import Servable, load_servable, shared_servable
from models.signature import InputColumn
from transforms import metrics
from transforms.check_outputs import OutputRule, find_bad_outputs
from transforms.dead_letters import are_dead_letters, to_dead_letters
from transforms.elements import BatchKey
from transforms.features import DeadRows, build_features
from transforms.heap import is_settled, settle_heap
from transforms.isolate import EveryRowFails, Isolated, isolate
from transforms.shadow import Serving
from transforms.swap import SwapSpec, acquire_watcher, release_watcher

DIGEST_COLUMN = "model_digest"
DEAD_LETTERS = "dead_letters"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreSpec:
    """What to score with, and what a scored row holds.

    Attributes:
      model: the model's directory or file, as a worker sees it.
      digest: the digest it must have there.
      signature_name: the signature's key.
      inputs: where each input tensor gets its values.
      outputs: triples of output tensor, its column, and `binary` to keep a string's bytes or "".
      carried: columns copied to the output before the outputs: keys, then kept columns.
      batch_rows: rows per model call; None finds a good size.
      concurrent_calls: how many workers share a process.
      op_libraries: shared libraries with custom ops, as a worker sees them.
      rules: what the numbers of outputs must be.
      asked_outputs: the outputs that were asked for by name; None when all are stored. The model is
        loaded and checked for these.
      batch_timeout_s: the most seconds that a record batch may take in the model, which then runs
        in a process of its own; None for no limit, within this process.
      swap: what to watch for new versions of the model while scoring; None for none.
    """

    model: str
    digest: str
    signature_name: str
    inputs: tuple[InputColumn, ...]
    outputs: tuple[tuple[str, str, str], ...]
    carried: tuple[str, ...]
    batch_rows: int | None = None
    concurrent_calls: int = 1
    op_libraries: tuple[str, ...] = ()
    rules: tuple[OutputRule, ...] = ()
    asked_outputs: tuple[str, ...] | None = None
    batch_timeout_s: float | None = None
    swap: SwapSpec | None = None

    def load(self, *, shared: bool = True) -> Servable | ModelProcess:
        """Return the model: one for all threads of this process, or one in its own process.

        Unless it is to be shared, one in this process is loaded anew and kept by nobody else.
        """
        options: dict[str, Any] = {
            "digest": self.digest,
            "batch_rows": self.batch_rows,
            "op_libraries": self.op_libraries,
            "outputs": self.asked_outputs,
            "ragged": ragged_of(self.inputs),
        }
        if self.batch_timeout_s is None:
            options["concurrent_calls"] = self.concurrent_calls
            load = shared_servable if shared else load_servable
            return load(self.model, self.signature_name, **options)
        return ModelProcess(
            self.model,
            self.signature_name,
            batch_timeout_s=self.batch_timeout_s,
            concurrent_calls=1,
            **options,
        )


def ragged_of(inputs: Iterable[InputColumn]) -> tuple[tuple[str, str], ...]:
    """Return the inputs that are components of ragged tensors, and which."""
    return tuple((s.tensor.name, s.conversion) for s in inputs if s.conversion in RAGGED)


class ModelFails(RuntimeError):
    """The model fails on everything, so that going on is pointless; the message says why."""


class Scored(NamedTuple):
    """A scored record batch, and the rows that are not in it, in groups by what failed."""

    batch: pa.RecordBatch
    dead: list[DeadRows]


def score_batch(
    batch: pa.RecordBatch,
    servable: Servable | ModelProcess,
    spec: ScoreSpec,
    timers: metrics.BundleMetrics,
) -> Scored:
    """Score a record batch: one row out for each row in, but for the rows that are dead.

    Columns of the result: carried columns, outputs, `model_digest`; rows keep their order. A row
    that lacks a feature is dead alone; when a call of the model fails, the batch is taken apart
    until the rows that fail stand alone.

    Raises:
      EveryRowFails: rows spread over the batch all fail alone, for the same reason.
      ModelError: the model's process was lost, and the model cannot be loaded again.
    """
    with timers.timed(metrics.FEATURES_MS):
        features = build_features(batch, spec.inputs)
    dead = [features.dead] if features.dead else []
    scorable = features.batch
    with timers.timed(metrics.PREDICT_MS):
        try:
            outputs = _predict(servable, features.columns, scorable.num_rows, spec)
        except ModelError:
            raise
        except Exception as e:  # noqa: BLE001  whatever the model raises costs rows, not the job
            outputs, failed = _predict_apart(servable, features.columns, scorable.num_rows, spec, e)
            timers.count(metrics.ISOLATION_CALLS, failed.calls)
            if failed.dead:
                dead.append(_place(failed.dead, features.positions, "Predict"))
                scorable = scorable.filter(_keep(scorable.num_rows, failed.dead))
                features = features._replace(
                    positions=_without_positions(features.positions, batch, failed.dead)
                )
    bad = find_bad_outputs(outputs, spec.rules) if spec.rules else {}
    if bad:
        dead.append(_place(bad, features.positions, "CheckOutputs"))
        keep = _keep(scorable.num_rows, bad)
        scorable = scorable.filter(keep)
        outputs = {name: column.filter(keep) for name, column in outputs.items()}
    return Scored(attach_keys(scorable, outputs, spec), dead)


def _predict_apart(
    servable: Servable | ModelProcess,
    features: dict[str, pa.Array],
    rows: int,
    spec: ScoreSpec,
    failure: Exception,
) -> tuple[dict[str, pa.Array], Isolated[dict[str, pa.Array]]]:
    """Return the outputs of the rows that can be scored, and what became of the others."""

    def call(start: int, stop: int) -> dict[str, pa.Array]:
        part = {name: column.slice(start, stop - start) for name, column in features.items()}
        return _predict(servable, part, stop - start, spec)

    isolated = isolate(call, rows, describe_error, failure, lambda e: isinstance(e, ProcessLost))
    whole = _predict(servable, {}, 0, spec)
    parts = [outputs for _, _, outputs in isolated.parts]
    joined = {
        name: pa.concat_arrays([empty, *(part[name] for part in parts)])
        for name, empty in whole.items()
    }
    return joined, isolated


def _keep(rows: int, dead: Mapping[int, str]) -> pa.Array:
    """Return which of so many rows are not dead."""
    keep = np.ones(rows, bool)
    keep[list(dead)] = False
    return pa.array(keep)


def _without_positions(
    positions: Sequence[int] | None, batch: pa.RecordBatch, dead: Mapping[int, str]
) -> list[int]:
    known = range(batch.num_rows) if positions is None else positions
    return [position for row, position in enumerate(known) if row not in dead]


def _place(dead: Mapping[int, str], positions: Sequence[int] | None, step: str) -> DeadRows:
    """Return rows that failed after their features were built, at their places in the batch."""
    rows = sorted(dead)
    at = rows if positions is None else [positions[row] for row in rows]
    return DeadRows(at, [dead[row] for row in rows], step)


def _predict(
    servable: Servable | ModelProcess,
    features: dict[str, pa.Array],
    rows: int,
    spec: ScoreSpec,
) -> dict[str, pa.Array]:
    return servable.predict(
        features,
        rows,
        [name for name, _, _ in spec.outputs],
        sources=spec.inputs,
        conversions={name: conversion for name, _, conversion in spec.outputs},
    )


def attach_keys(
    batch: pa.RecordBatch, outputs: dict[str, pa.Array], spec: ScoreSpec
) -> pa.RecordBatch:
    """Return the carried columns of a batch beside its outputs and the model's digest."""
    digest = pa.DictionaryArray.from_arrays(
        np.zeros(batch.num_rows, np.int32), pa.array([spec.digest])
    )
    return pa.RecordBatch.from_arrays(
        [
            *(select_column(batch, name) for name in spec.carried),
            *(outputs[name] for name, _, _ in spec.outputs),
            digest,
        ],
        [*spec.carried, *(column for _, column, _ in spec.outputs), DIGEST_COLUMN],
    )


class _ScoreDoFn(beam.DoFn):
    def __init__(self, spec: ScoreSpec, endless: bool) -> None:
        self._spec = spec
        self._endless = endless

    def setup(self) -> None:
        self._watcher = acquire_watcher(self._spec, score_batch) if self._spec.swap else None
        self._serving = (
            self._watcher.take() if self._watcher else Serving(self._spec.load(), self._spec)
        )
        self._metrics = metrics.BundleMetrics()
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
    `spec.swap` later batches may then be scored by a newer model, and say so by their digest.
    """

    spec: ScoreSpec
    endless: bool = False

    def expand(
        self, batches: beam.PCollection[tuple[BatchKey, pa.RecordBatch]]
    ) -> beam.pvalue.DoOutputsTuple:
        """Apply the model in one fused step."""
        element = tuple[BatchKey, pa.RecordBatch]
        return batches | "Predict" >> beam.ParDo(_ScoreDoFn(self.spec, self.endless)).with_outputs(
            DEAD_LETTERS, main="scores"
        ).with_output_types(element)
