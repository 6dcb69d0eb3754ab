"""Record batch → scores: features, model, keys. Shared by batch and stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.servable import Servable, first_lines, shared_servable
from models.signature import InputColumn
from transforms import metrics
from transforms.dead_letters import to_dead_letters
from transforms.elements import BatchKey
from transforms.features import DeadRows, build_features

DIGEST_COLUMN = "model_digest"
DEAD_LETTERS = "dead_letters"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreSpec:
    """What to score with, and what a scored row holds.

    Attributes:
      model: the SavedModel directory, as a worker sees it.
      digest: the digest it must have there.
      signature_name: the signature's key.
      inputs: where each input tensor gets its values.
      outputs: pairs of output tensor and its column.
      carried: columns copied to the output before the outputs: keys, then kept columns.
      batch_rows: rows per model call; None finds a good size.
      concurrent_calls: how many workers share a process.
    """

    model: str
    digest: str
    signature_name: str
    inputs: tuple[InputColumn, ...]
    outputs: tuple[tuple[str, str], ...]
    carried: tuple[str, ...]
    batch_rows: int | None = None
    concurrent_calls: int = 1

    def load(self) -> Servable:
        """Return the servable, loaded once for all threads of this process."""
        return shared_servable(
            self.model,
            self.signature_name,
            digest=self.digest,
            batch_rows=self.batch_rows,
            concurrent_calls=self.concurrent_calls,
        )


class Scored(NamedTuple):
    """A scored record batch, and the rows that are not in it, in groups by what failed."""

    batch: pa.RecordBatch
    dead: list[DeadRows]


def score_batch(
    batch: pa.RecordBatch,
    servable: Servable,
    spec: ScoreSpec,
    timers: metrics.BundleMetrics,
) -> Scored:
    """Score a record batch: one row out for each row in, but for the rows that are dead.

    Columns of the result: carried columns, outputs, `model_digest`; rows keep their order. A row
    with a null in an input without a fill value is dead alone; when a call of the model fails, all
    rows of the batch are.
    """
    with timers.timed(metrics.FEATURES_MS):
        features = build_features(batch, spec.inputs)
    dead = [features.dead] if features.dead else []
    scorable = features.batch
    names = [name for name, _ in spec.outputs]
    try:
        with timers.timed(metrics.PREDICT_MS):
            outputs = servable.predict(features.columns, scorable.num_rows, names)
    except Exception as e:  # noqa: BLE001  whatever the model raises costs rows, not the job
        positions = range(batch.num_rows) if features.positions is None else features.positions
        reason = f"{type(e).__name__}: {first_lines(e)}"
        dead.append(DeadRows(positions, [reason] * len(positions), "Predict"))
        scorable = scorable.slice(0, 0)
        outputs = servable.predict({}, 0, names)
    return Scored(attach_keys(scorable, outputs, spec), dead)


def attach_keys(
    batch: pa.RecordBatch, outputs: dict[str, pa.Array], spec: ScoreSpec
) -> pa.RecordBatch:
    """Return the carried columns of a batch beside its outputs and the model's digest."""
    digest = pa.DictionaryArray.from_arrays(
        np.zeros(batch.num_rows, np.int32), pa.array([spec.digest])
    )
    return pa.RecordBatch.from_arrays(
        [
            *(batch.column(name) for name in spec.carried),
            *(outputs[name] for name, _ in spec.outputs),
            digest,
        ],
        [*spec.carried, *(column for _, column in spec.outputs), DIGEST_COLUMN],
    )


class _ScoreDoFn(beam.DoFn):
    def __init__(self, spec: ScoreSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        self._servable = self._spec.load()
        self._metrics = metrics.BundleMetrics()
        self._metrics.observe(metrics.MODEL_LOAD_MS, self._servable.load_ms)

    def process(
        self, element: tuple[BatchKey, pa.RecordBatch]
    ) -> Iterator[tuple[BatchKey, pa.RecordBatch] | beam.pvalue.TaggedOutput]:
        key, batch = element
        if not batch.num_rows:  # the end of an empty shard, or of one that could not be read
            yield element
            return
        scored, dead = score_batch(batch, self._servable, self._spec, self._metrics)
        self._metrics.count(metrics.ROWS_SCORED, scored.num_rows)
        for rows in dead:
            self._metrics.count(metrics.ROWS_DEAD, len(rows.rows))
            letters = to_dead_letters(key, batch, rows, self._spec.digest)
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, (key, letters))
        yield key, scored

    def finish_bundle(self) -> None:
        self._metrics.observe(metrics.CALL_ROWS, self._servable.call_size.rows)
        self._metrics.flush()


@dataclasses.dataclass(kw_only=True, eq=False)
class Score(beam.PTransform):
    """Score keyed record batches with a TensorFlow model.

    Takes (BatchKey, RecordBatch); gives `scores`, exactly one batch for each that went in, under
    the same key, and `dead_letters`, under the key of the batch they were in. For each key, rows
    in = rows scored + rows dead. The model is loaded once per worker process.
    """

    spec: ScoreSpec

    def expand(
        self, batches: beam.PCollection[tuple[BatchKey, pa.RecordBatch]]
    ) -> beam.pvalue.DoOutputsTuple:
        """Apply the model in one fused step."""
        element = tuple[BatchKey, pa.RecordBatch]
        return batches | "Predict" >> beam.ParDo(_ScoreDoFn(self.spec)).with_outputs(
            DEAD_LETTERS, main="scores"
        ).with_output_types(element)
