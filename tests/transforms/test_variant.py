"""Real models through the gate: scored, measured and judged in one run."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from scoreline.models.compare.gate import Limits
from scoreline.models.compare.held_out import read_truth
from scoreline.models.compare.quality import Tolerance
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.transforms.scoring import Serving
from scoreline.transforms.variant import (
    HeldOutScores,
    find_far_rows,
    judge_variant,
    measure_pairs,
    score_held_out,
)
from scoreline.transforms.wanted import WantedModel
from tests.fakes import save_model

ROWS = 2000
CALL = 512
RMSE = Limits(tolerance=Tolerance(0.05), output="score")


@pytest.fixture(scope="module")
def rows():
    """Rows whose label is the model's score with noise."""
    rng = np.random.default_rng(1)
    x, n = rng.random(ROWS).astype(np.float32), rng.integers(0, 9, ROWS)
    label = 2 * x + 3 * n + 1 + rng.normal(size=ROWS)
    names = np.where(n > 3, "many", "few")
    columns = {"x": x, "n": n, "s": ["a"] * ROWS, "came_true": label, "kind": names}
    return pa.table(columns)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same function three times, as it is and with much work for nothing, and others."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "plain")
    save_model(folder / "worse", weight=4.0)
    save_model(folder / "limited", limit=0.999)
    save_slow_model(folder / "slow")
    return folder


def save_slow_model(path):
    """Save a model with the outputs of `save_model` that needs far more time for each row."""
    tf = import_tensorflow()
    inputs = [
        tf.TensorSpec([None], dtype, name=name)
        for name, dtype in (("x", tf.float32), ("n", tf.int64), ("s", tf.string))
    ]

    @tf.function(input_signature=inputs)
    def serve(x, n, s):
        wide = tf.tile(x[:, None], [1, 1000])
        for _ in range(20):
            wide = tf.sin(wide)
        nothing = tf.reduce_sum(wide, axis=1) * 0.0
        one = tf.cast(tf.equal(s, "a"), tf.float32)
        score = 2.0 * x + 3.0 * tf.cast(n, tf.float32) + one + nothing
        return {"score": score, "pair": tf.stack([score, x], axis=1)}

    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": serve})


def load(path, threads=1, **options):
    """Return a model as a worker has it."""
    wanted = WantedModel.of(str(path), batch_rows=CALL, **options)
    spec = wanted.to_spec(wanted.load(shared=False), ())
    model = dataclasses.replace(spec.model, concurrent_calls=threads)
    return Serving(model.load(shared=False), dataclasses.replace(spec, model=model))


def judged(parent, variant, rows, limits=RMSE, label=None, slices=(), **options):
    options = {"pairs": 5, "turn_seconds": 0.01, **options}
    (batch,) = rows.combine_chunks().to_batches()
    truth = read_truth(batch, label, slices, limits.metric)
    scores = score_held_out(parent, batch)
    of_variant = score_held_out(variant, batch)
    verdict = judge_variant(parent, scores, variant, of_variant, batch, truth, limits, **options)
    json.dumps(dataclasses.asdict(verdict), allow_nan=False)
    return verdict


def test_a_variant_that_is_equal_and_cheaper_is_admitted(models, rows):
    parent, variant = load(models / "slow"), load(models / "plain")
    verdict = judged(parent, variant, rows, label="came_true", slices=["kind"])
    assert verdict.admitted, verdict.reasons
    assert (verdict.quality.metric, verdict.rows) == ("rmse", ROWS)
    assert [parity.output for parity in verdict.parity] == ["pair", "score"]
    assert verdict.cost.ratio.high < 0.95
    assert verdict.cost.pairs == 5
    assert (verdict.parent_digest, verdict.variant_digest) == (
        parent.spec.digest,
        variant.spec.digest,
    )
    # And the other way round it is refused, for its cost alone.
    verdict = judged(variant, parent, rows, label="came_true")
    (reason,) = verdict.reasons
    assert reason.startswith("CPU time: expected at most 0.95 times the parent's, got ")


def test_a_worse_variant_is_refused_for_its_scores(models, rows):
    verdict = judged(
        load(models / "plain"), load(models / "worse"), rows, label="came_true", pairs=0
    )
    assert verdict.cost is None
    assert any("RMSE: expected a loss of at most 0.05" in reason for reason in verdict.reasons)
    alone = judged(load(models / "plain"), load(models / "worse"), rows, pairs=0)
    assert any("agreement: expected a loss of at most" in reason for reason in alone.reasons)


def test_a_variant_that_cannot_score_some_rows_is_refused(models, rows):
    lost = int(np.sum(rows["x"].to_numpy() >= 0.999))
    verdict = judged(
        load(models / "plain"), load(models / "limited"), rows, label="came_true", pairs=0
    )
    assert 0 < lost == verdict.lost_rows
    (reason,) = verdict.reasons
    assert f"got none for {lost:,} of {ROWS:,} rows" in reason
    assert verdict.rows == verdict.quality.rows == ROWS - lost
    # What only the variant scores does not count.
    other = judged(
        load(models / "limited"), load(models / "plain"), rows, label="came_true", pairs=0
    )
    assert other.admitted
    assert other.lost_rows == 0


def test_rows_that_are_furthest_apart_are_found_by_their_position():
    def scored(values, positions):
        outputs = pa.RecordBatch.from_pydict({"y": pa.array(values, pa.float32())})
        return HeldOutScores(outputs, np.array(positions))

    parent = scored([0.0, 1.0, 2.0, np.nan, 4.0], [1, 3, 5, 7, 9])
    variant = scored([0.25, 2.0, 5.0, 4.0, 6.0], [1, 5, 7, 9, 11])
    assert find_far_rows(parent, variant, "y", 9) == [(1, 0.25)]
    other = scored([0.25, 1.0, 2.5, 0.0, 4.125], [1, 3, 5, 7, 9])
    assert find_far_rows(parent, other, "y", 2) == [(5, 0.5), (1, 0.25)]
    assert find_far_rows(parent, parent, "y", 2) == []


def test_models_with_other_threads_and_no_rows_are_not_compared(models, rows):
    plain, threads = load(models / "plain"), load(models / "plain", threads=None)
    (batch,) = rows.to_batches()
    with pytest.raises(ValueError, match="got concurrent_calls=1 for the parent and None for the"):
        measure_pairs(plain, threads, batch, pairs=2, turn_seconds=0)
    with pytest.raises(ValueError, match="expected rows to measure the cost with, got none"):
        measure_pairs(plain, plain, batch.slice(0, 0))


def test_the_cpu_time_of_a_model_in_a_process_of_its_own_counts(models, rows):
    inside, apart = load(models / "slow"), load(models / "slow", batch_timeout_s=60)
    try:
        (batch,) = rows.to_batches()
        pairs = measure_pairs(inside, apart, batch, pairs=5, turn_seconds=0)
    finally:
        apart.servable.close()
    # Only the conversion of its rows happens in this process, which takes far less.
    assert all(pair.variant_us > 0.3 * pair.parent_us > 0 for pair in pairs)


def test_variants_in_another_format_and_precision_are_compared_row_by_row(zoo):
    rng = np.random.default_rng(1)
    a, b = (rng.uniform(-1, 1, ROWS).astype(np.float32) for _ in "ab")
    table = pa.table({"a": a, "b": b, "came_true": 2 * a + b + rng.normal(size=ROWS)})
    parent = load(zoo("keras_3_export"))
    limits = Limits(tolerance=Tolerance(0.02))

    same = load(zoo("model.tflite"))
    verdict = judged(parent, same, table, limits, label="came_true", pairs=0)
    assert verdict.admitted, verdict.reasons
    assert verdict.parity[0].max_difference < 1e-5

    int8 = load(zoo("int8.tflite"))
    verdict = judged(parent, int8, table, limits, label="came_true", pairs=0)
    assert verdict.admitted, verdict.reasons
    assert 1e-3 < verdict.parity[0].p999_difference <= verdict.parity[0].max_difference < 0.1
    # Rounding to 8 bits is no loss for the label, but it is a difference.
    strict = Limits(tolerance=Tolerance(0.002))
    (reason,) = judged(parent, int8, table, strict, pairs=0).reasons
    assert reason.startswith("agreement: ")
