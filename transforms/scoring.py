"""Record batch → scores: features, model, keys. Pure; shared by batch, stream and replay."""

from __future__ import annotations

import dataclasses
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
from scoreline.transforms.features import build_features
from scoreline.transforms.isolate import Isolated, isolate
from scoreline.transforms.rules import OutputRule, find_bad_outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreSpec:
    """What to score with, and what a scored row holds.

    Attributes:
      model: which model, and how it is loaded by a worker.
      inputs: where each input tensor gets its values.
      outputs: triples of output tensor, its column, and `binary` to keep a string's bytes or "".
      carried: columns copied to the output before the outputs: keys, then kept columns.
      rules: what the numbers of outputs must be.
    """

    model: ModelSpec
    inputs: tuple[InputColumn, ...]
    outputs: tuple[tuple[str, str, str], ...]
    carried: tuple[str, ...]
    rules: tuple[OutputRule, ...] = ()

    @property
    def digest(self) -> str:
        """The model's digest, which each scored row holds."""
        return self.model.digest


class Scored(NamedTuple):
    """A scored record batch, and the rows that are not in it, in groups by what failed."""

    batch: pa.RecordBatch
    dead: list[DeadRows]


def score_batch(
    batch: pa.RecordBatch,
    servable: Servable,
    spec: ScoreSpec,
    timers: metrics.Tally,
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
        columns, alive, lacking = build_features(batch, spec.inputs)
    dead = [lacking] if lacking else []
    with timers.timed(metrics.PREDICT_MS):
        try:
            outputs = _predict(servable, columns, alive.rows, spec)
        except ModelError:
            raise
        except Exception as e:  # noqa: BLE001  whatever the model raises costs rows, not the job
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
    """Return a batch of which every row is dead, for one reason. The model is not called."""
    scores = attach_keys(batch.slice(0, 0), _predict(servable, {}, 0, spec), spec)
    rows = range(batch.num_rows)
    return Scored(scores, [DeadRows(rows, [reason] * len(rows), "Predict")])


def _predict_apart(
    servable: Servable,
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


def _predict(
    servable: Servable,
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


class Serving(NamedTuple):
    """A loaded model and what to score with it: the digest in the spec is that of the model."""

    servable: Servable
    spec: ScoreSpec
