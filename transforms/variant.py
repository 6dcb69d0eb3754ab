"""Scores held-out rows with a model and a variant of it, measures both, and asks the gate.

    parent = load_as_worker("/models/churn/7", batch_rows=1024)
    variant = load_as_worker("/models/churn_optimized/int8.tflite", batch_rows=1024)
    limits = Limits(tolerance=Tolerance.parse("0.001"))
    verdict = judge_variant(parent, variant, rows, limits, label="churned", slices=["country"])

docs/optimize.md has how it decides.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from scoreline.models.compare.cost import Pair
from scoreline.models.compare.gate import Limits, Verdict, judge
from scoreline.models.compare.held_out import HeldOut, Truth, hold_out, read_truth
from scoreline.models.compare.turns import take_turns
from scoreline.models.cpu_time import ModelCpu
from scoreline.models.fit import DIGEST_COLUMN
from scoreline.transforms.alive import all_but
from scoreline.transforms.loaded import LoadedModel
from scoreline.transforms.wanted import WantedModel

# One of 8 pairs may be disturbed: see `models/compare/cost.py`.
PAIRS = 8
# A turn repeats the rows for so long: the clock of CPU time of a thread ticks in milliseconds.
TURN_SECONDS = 0.5


def load_as_worker(path: str, *, batch_rows: int, **options: Any) -> LoadedModel:
    """Load a model as a worker has it: one thread for a call, since workers are the parallelism.

    Args:
      path: a SavedModel directory, a `.keras` file or a `.tflite` file.
      batch_rows: rows per call; the same for all models that are compared.
      **options: those of `scoreline.load`.

    Raises:
      FileNotFoundError, ModelError, ValueError: see `scoreline.load`.
    """
    wanted = WantedModel.of(path, batch_rows=batch_rows, concurrent_calls=1, **options)
    return LoadedModel(wanted)


def judge_variant(
    parent: LoadedModel,
    variant: LoadedModel,
    rows: pa.Table,
    limits: Limits,
    *,
    label: str | None = None,
    slices: Sequence[str] = (),
    pairs: int = PAIRS,
    turn_seconds: float = TURN_SECONDS,
    seed: int = 0,
) -> Verdict:
    """Return whether a variant may replace its parent, by quality and by cost.

    Quality and cost are of the same loaded models, in one run.

    Args:
      parent: the model that scores now.
      variant: the model that would replace it, with the same size and threads of a call.
      rows: held-out rows, which took no part in making the variant.
      limits: what the variant must hold.
      label: the column with what came true; None compares with the parent's scores.
      slices: columns whose values are judged one by one.
      pairs: pairs of turns for the cost; 0 does not measure it.
      turn_seconds: minimum wall time of the parent's turn.
      seed: of the bootstrap.

    Raises:
      UnusableRows: a ValueError: label, slices or the parent's output cannot judge any variant.
      ValueError: the rows cannot feed a model, or the size or threads of calls differ.
    """
    truth = read_truth(_to_batch(rows), label, slices, limits.metric)
    held_out = score_both(parent, variant, rows, truth)
    measured = None
    if pairs:
        measured = measure_pairs(parent, variant, rows, pairs=pairs, turn_seconds=turn_seconds)
    verdict = judge(held_out, limits, measured, seed=seed)
    return dataclasses.replace(verdict, parent_digest=parent.digest, variant_digest=variant.digest)


def score_both(parent: LoadedModel, variant: LoadedModel, rows: pa.Table, truth: Truth) -> HeldOut:
    """Return the outputs of both models for the rows that both can score."""
    outputs, positions = [], []
    for model in (parent, variant):
        scores = model.score(rows)
        outputs.append(_to_batch(scores.table.drop_columns([DIGEST_COLUMN])))
        positions.append(all_but(rows.num_rows, scores.dead_letters["_row"].to_pylist()))
    return hold_out(truth, *outputs, *positions)


def measure_pairs(
    parent: LoadedModel,
    variant: LoadedModel,
    rows: pa.Table,
    *,
    pairs: int = PAIRS,
    turn_seconds: float = TURN_SECONDS,
) -> list[Pair]:
    """Measure the CPU time of a row in both models, in turns, on the path that scores.

    CPU time is that of this process with all its threads, and of the processes of models. Nothing
    else may run in this process meanwhile. Both models have scored before, so that loading and
    first calls do not count.

    Args:
      parent: the model that scores now.
      variant: the other one.
      rows: real rows, best in record batches of the size that jobs read.
      pairs: pairs of turns.
      turn_seconds: minimum wall time of the parent's turn; a turn repeats the rows.

    Raises:
      ValueError: the size or the threads of calls differ, which have a cost of their own.
    """
    if not rows.num_rows:
        raise ValueError("expected rows to measure the cost with, got none. Give partitions")
    if parent.concurrent_calls != variant.concurrent_calls:
        raise ValueError(
            f"expected both models to have the same threads, got concurrent_calls="
            f"{parent.concurrent_calls} for the parent and {variant.concurrent_calls} for the "
            "variant. Load both with load_as_worker"
        )
    began = time.perf_counter()
    parent.score(rows)
    once = time.perf_counter() - began
    variant.score(rows)
    repeats = max(1, math.ceil(turn_seconds / max(once, 1e-6)))
    models = ModelCpu()

    def turn(model: LoadedModel) -> float:
        models.take()
        began = time.process_time()
        for _ in range(repeats):
            model.score(rows)
        _, in_processes = models.take()
        return (time.process_time() - began + in_processes) * 1e6 / (repeats * rows.num_rows)

    found = take_turns(lambda: turn(parent), lambda: turn(variant), pairs)
    if parent.call_rows != variant.call_rows:
        raise ValueError(
            f"expected both models to take the same number of rows per call, got "
            f"{parent.call_rows:,} for the parent and {variant.call_rows:,} for the variant. Load "
            f"both with batch_rows={variant.call_rows}"
        )
    return [Pair(*pair) for pair in found]


def _to_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
