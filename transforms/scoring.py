"""Record batch → scores: features, model, keys. Pure; shared by batch, stream and replay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.lake.elements import DeadRows
from scoreline.models.errors import ModelError, describe_error
from scoreline.models.fit import DIGEST_COLUMN
from scoreline.models.mapping import select_column
from scoreline.models.model_spec import ModelSpec
from scoreline.models.process import ProcessLost
from scoreline.models.servable import Servable
from scoreline.models.signature import InputColumn
from scoreline.transforms import metrics
from scoreline.transforms.alive import all_but
from scoreline.transforms.features import Features, build_features
from scoreline.transforms.few_sizes import MAX_ROWS, fill_up, round_rows
from scoreline.transforms.isolate import Isolated, isolate
from scoreline.transforms.rules import OutputRule, find_bad_outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreSpec:
    """A model, its inputs, and the columns of a scored row.

    Attributes:
      model: the model, and how a worker loads it.
      inputs: the source of each input tensor.
      outputs: triples of output tensor, its column, and its conversion: `binary`, `raw` or "".
      carried: columns copied to the result before the outputs: keys, then kept columns.
      rules: the valid numbers of outputs.
      checks_purity: whether a worker checks its first rows: see `transforms/purity.py`.
      allow_impure: the reason to go on with a model that fails that check; "" stops.
      has_few_sizes: whether calls are filled up to one of a few numbers of rows, since batches may
        have any. Only for models whose score of a row is its own.
      null_stages: stages of the job that do nothing, for a load test: see
        `pipelines/plan/null_stage.py`. Of these, `Scorer` leaves out `features` and `predict`.
    """

    model: ModelSpec
    inputs: tuple[InputColumn, ...]
    outputs: tuple[tuple[str, str, str], ...]
    carried: tuple[str, ...]
    rules: tuple[OutputRule, ...] = ()
    checks_purity: bool = False
    allow_impure: str = ""
    has_few_sizes: bool = False
    null_stages: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The model's digest, which is in each scored row, with the stages that did nothing."""
        if self.null_stages:
            return f"without({','.join(self.null_stages)}):{self.model.digest}"
        return self.model.digest


class Scored(NamedTuple):
    """A scored record batch, and its dead rows, grouped by the step that failed."""

    batch: pa.RecordBatch
    dead: list[DeadRows]


def score_batch(
    batch: pa.RecordBatch,
    servable: Servable,
    spec: ScoreSpec,
    timers: metrics.Tally,
    build: Callable[[pa.RecordBatch, Sequence[InputColumn]], Features] = build_features,
) -> Scored:
    """Score a record batch: one output row per input row, except for dead rows.

    Columns of the result: carried columns, outputs, `model_digest`. Rows keep their order. If a row
    lacks a feature, only this row is dead. If a call of the model fails, the batch is bisected
    until each failing row is isolated.

    Raises:
      EveryRowFails: rows spread over the batch all fail alone, for the same reason.
      ModelError: the model's process died, and the model cannot be loaded again.
    """
    with timers.timed(metrics.FEATURES_MS):
        columns, alive, lacking, saturated = build(batch, spec.inputs)
    timers.pass_rows(metrics.FEATURES_MS, batch.num_rows)
    timers.pass_rows(metrics.PREDICT_MS, alive.rows)
    if saturated:
        timers.count(metrics.VALUES_SATURATED, saturated)
    dead = [lacking] if lacking else []
    with timers.timed(metrics.PREDICT_MS):
        try:
            outputs = predict(servable, columns, alive.rows, spec)
        except ModelError:
            raise
        except Exception as e:  # noqa: BLE001  an exception of the model costs rows, not the job
            outputs, failed = _predict_apart(servable, columns, alive.rows, spec, e)
            timers.count(metrics.ISOLATION_CALLS, failed.calls)
            if failed.dead:
                dead.append(alive.drop(failed.dead, "Predict"))
    bad = find_bad_outputs(outputs, spec.rules) if spec.rules else {}
    if bad:
        good = pa.array(all_but(alive.rows, bad))
        outputs = {name: column.take(good) for name, column in outputs.items()}
        dead.append(alive.drop(bad, "CheckOutputs"))
    return Scored(attach_keys(alive.take(batch), outputs, spec), dead)


def score_none(batch: pa.RecordBatch, servable: Servable, spec: ScoreSpec, reason: str) -> Scored:
    """Return a batch whose rows are all dead for one reason, without a call of the model."""
    scores = attach_keys(batch.slice(0, 0), predict(servable, {}, 0, spec), spec)
    rows = range(batch.num_rows)
    return Scored(scores, [DeadRows(rows, [reason] * len(rows), "Predict")])


def _predict_apart(
    servable: Servable,
    features: dict[str, pa.Array],
    rows: int,
    spec: ScoreSpec,
    failure: Exception,
) -> tuple[dict[str, pa.Array], Isolated[dict[str, pa.Array]]]:
    """Return the outputs of the rows that can be scored, and the reasons of the others."""

    def call(start: int, stop: int) -> dict[str, pa.Array]:
        part = {name: column.slice(start, stop - start) for name, column in features.items()}
        return predict(servable, part, stop - start, spec)

    isolated = isolate(call, rows, describe_error, failure, lambda e: isinstance(e, ProcessLost))
    whole = predict(servable, {}, 0, spec)
    parts = [outputs for _, _, outputs in isolated.parts]
    joined = {
        name: pa.concat_arrays([empty, *(part[name] for part in parts)])
        for name, empty in whole.items()
    }
    return joined, isolated


def predict(
    servable: Servable,
    features: dict[str, pa.Array],
    rows: int,
    spec: ScoreSpec,
) -> dict[str, pa.Array]:
    """Return the stored outputs of rows."""
    size = rows
    if spec.has_few_sizes and rows:
        size = round_rows(rows, spec.model.batch_rows or MAX_ROWS)
    outputs = servable.predict(
        fill_up(features, rows, size) if size > rows else features,
        size,
        [name for name, _, _ in spec.outputs],
        sources=spec.inputs,
        conversions={name: conversion for name, _, conversion in spec.outputs},
    )
    if size == rows:
        return outputs
    return {name: column.slice(0, rows) for name, column in outputs.items()}


def attach_keys(
    batch: pa.RecordBatch, outputs: dict[str, pa.Array], spec: ScoreSpec
) -> pa.RecordBatch:
    """Return the carried columns of a batch, its outputs, and the model's digest."""
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


class Serving(NamedTuple):
    """A loaded model and its spec, which has the model's digest."""

    servable: Servable
    spec: ScoreSpec
