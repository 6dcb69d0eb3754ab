"""Scores held-out rows with a model and a variant of it, measures both, and asks the gate.

    truth = read_truth(batch, "churned", ["country"])
    scores = score_held_out(parent, batch)
    of_variant = score_held_out(variant, batch)
    verdict = judge_variant(parent, scores, variant, of_variant, batch, truth, limits)

docs/optimize.md has how it decides.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.models.compare.cost import Pair
from scoreline.models.compare.disagreement import find_common_rows
from scoreline.models.compare.gate import Limits, Verdict, judge
from scoreline.models.compare.held_out import Truth, hold_out
from scoreline.models.compare.turns import take_turns
from scoreline.models.cpu_time import ModelCpu
from scoreline.models.rounding import distances, read_scores
from scoreline.transforms.alive import Alive
from scoreline.transforms.metrics import Tally
from scoreline.transforms.scoring import Serving, score_batch

# Rows of a record batch, as in a job.
BATCH_ROWS = 65_536
# One of 8 pairs may be disturbed: see `models/compare/cost.py`.
PAIRS = 8
# A turn repeats the rows for so long: the clock of CPU time of a thread ticks in milliseconds.
TURN_SECONDS = 0.5


class HeldOutScores(NamedTuple):
    """The outputs of a model, and the positions of the rows that it scored."""

    outputs: pa.RecordBatch
    positions: np.ndarray


def score_held_out(serving: Serving, batch: pa.RecordBatch) -> HeldOutScores:
    """Return the outputs of all rows that a model can score.

    Raises:
      EveryRowFails: rows spread over the batch all fail alone, for the same reason.
      ModelError: the model's process died, and the model cannot be loaded again.
    """
    outputs, positions = [], []
    for first, part in cut(batch):
        scored = score_batch(part, serving.servable, serving.spec, Tally())
        outputs.append(scored.batch.select([column for _, column, _ in serving.spec.outputs]))
        positions.append(first + Alive(part.num_rows, scored.dead).positions)
    table = pa.Table.from_batches(outputs).combine_chunks()
    whole = table.to_batches(max_chunksize=max(table.num_rows, 1))
    empty = pa.RecordBatch.from_pylist([], schema=table.schema)
    return HeldOutScores(whole[0] if whole else empty, np.concatenate(positions))


def cut(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield record batches of a job's size, with the position of the first row of each."""
    for first in range(0, max(batch.num_rows, 1), BATCH_ROWS):
        yield first, batch.slice(first, BATCH_ROWS)


def judge_variant(
    parent: Serving,
    scores: HeldOutScores,
    variant: Serving,
    of_variant: HeldOutScores,
    batch: pa.RecordBatch,
    truth: Truth,
    limits: Limits,
    *,
    pairs: int = PAIRS,
    turn_seconds: float = TURN_SECONDS,
) -> Verdict:
    """Return whether a variant may replace its parent, by quality and by cost.

    Quality and cost are of the same loaded models, in one run. Each model has calls of the size
    that a job would have: a fixed one, or the one that is tuned while it scores.

    Args:
      parent: the model that scores now.
      scores: its scores of the rows.
      variant: the model that would replace it, with the same threads.
      of_variant: its scores of the rows.
      batch: held-out rows, which took no part in making the variant.
      truth: their label and slices: see `read_truth`.
      limits: what the variant must hold.
      pairs: pairs of turns for the cost; 0 does not measure it.
      turn_seconds: minimum wall time of the parent's turn.

    Raises:
      UnusableRows: a ValueError: the label or the parent's output cannot judge any variant.
      EveryRowFails, ModelError: the variant cannot score.
    """
    held_out = hold_out(
        truth, scores.outputs, of_variant.outputs, scores.positions, of_variant.positions
    )
    measured = None
    if pairs:
        some = batch.slice(0, BATCH_ROWS)
        measured = measure_pairs(parent, variant, some, pairs=pairs, turn_seconds=turn_seconds)
    return dataclasses.replace(
        judge(held_out, limits, measured),
        parent_digest=parent.spec.digest,
        variant_digest=variant.spec.digest,
    )


class FarRow(NamedTuple):
    """A row by its position among the held-out rows, and how far apart its two scores are."""

    position: int
    difference: float


def find_far_rows(
    scores: HeldOutScores, of_variant: HeldOutScores, output: str, count: int
) -> list[FarRow]:
    """Return the rows whose scores by both models are furthest apart, the furthest first.

    Rows with equal scores, and with a number that is finite in one model only, are not among them.
    """
    in_parent, in_variant, _ = find_common_rows(scores.positions, of_variant.positions)
    parent, variant = (
        read_scores(found.outputs.column(output).take(pa.array(at)))
        for found, at in ((scores, in_parent), (of_variant, in_variant))
    )
    apart = distances(parent, variant)
    apart = np.where(np.isfinite(apart), apart, 0.0)
    furthest = np.argsort(-apart, kind="stable")[:count]
    return [
        FarRow(int(scores.positions[in_parent[at]]), float(apart[at]))
        for at in furthest
        if apart[at] > 0
    ]


def measure_pairs(
    parent: Serving,
    variant: Serving,
    batch: pa.RecordBatch,
    *,
    pairs: int = PAIRS,
    turn_seconds: float = TURN_SECONDS,
) -> list[Pair]:
    """Measure the CPU time of a row in both models, in turns, on the path that scores.

    CPU time is that of this process with all its threads, and of the processes of models. Nothing
    else may run in this process meanwhile. Both models have scored before, so that loading, first
    calls and the tuning of their size do not count.

    Args:
      parent: the model that scores now.
      variant: the other one.
      batch: real rows, of the size of record batches in a job.
      pairs: pairs of turns.
      turn_seconds: minimum wall time of the parent's turn; a turn repeats the rows.

    Raises:
      ValueError: there are no rows, or the threads differ, which have a cost of their own.
    """
    if not batch.num_rows:
        raise ValueError("expected rows to measure the cost with, got none. Give partitions")
    threads = [serving.spec.model.concurrent_calls for serving in (parent, variant)]
    if threads[0] != threads[1]:
        raise ValueError(
            f"expected both models to have the same threads, got concurrent_calls={threads[0]} "
            f"for the parent and {threads[1]} for the variant"
        )
    models = ModelCpu()

    def turn(serving: Serving, repeats: int) -> float:
        models.take()
        began = time.process_time()
        for _ in range(repeats):
            score_batch(batch, serving.servable, serving.spec, Tally())
        _, in_processes = models.take()
        return (time.process_time() - began + in_processes) * 1e6 / (repeats * batch.num_rows)

    began = time.perf_counter()
    turn(parent, 1)
    repeats = max(1, math.ceil(turn_seconds / max(time.perf_counter() - began, 1e-6)))
    turn(variant, 1)
    return [
        Pair(*pair)
        for pair in take_turns(lambda: turn(parent, repeats), lambda: turn(variant, repeats), pairs)
    ]
