from __future__ import annotations

import pyarrow as pa
from hypothesis import given

from scoreline.models.signature import InputColumn, TensorSpec
from scoreline.transforms.features import build_features
from tests.strategies import record_batches

INPUTS = [
    InputColumn(TensorSpec("x", "float32", (None,)), "x"),
    InputColumn(TensorSpec("n", "int64", (None,)), "n"),
    InputColumn(TensorSpec("text", "string", (None,)), "s"),
    InputColumn(TensorSpec("flag", "bool", (None,)), "b", fill=False),
]


def missing(batch):
    """Return the rows with a null in an input without a fill value, from Python values."""
    return [i for i, row in enumerate(batch.to_pylist()) if None in (row["x"], row["n"], row["s"])]


@given(record_batches())
def test_every_row_has_features_or_is_dead_with_a_reason(batch):
    features = build_features(batch, INPUTS)
    dead = list(features.dead.rows) if features.dead else []
    good = features.alive.positions.tolist()

    assert dead == missing(batch)
    assert sorted(good + dead) == list(range(batch.num_rows))
    assert all(len(column) == len(good) for column in features.columns.values())
    assert all(column.null_count == 0 for column in features.columns.values())
    assert str(features.alive.take(batch).to_pylist()) == str(
        batch.take(pa.array(good, pa.int64())).to_pylist()
    )
    flags = batch.column("b").to_pylist()
    assert features.columns["flag"].to_pylist() == [bool(flags[i]) for i in good]


@given(record_batches(nulls=False))
def test_batch_without_nulls_is_passed_on_untouched(batch):
    features = build_features(batch, INPUTS)
    assert features.alive.take(batch) is batch
    assert features.dead is None


def test_reason_names_every_missing_input_and_its_column():
    batch = pa.RecordBatch.from_pydict(
        {
            "x": pa.array([1.0, None], pa.float32()),
            "n": [1, 2],
            "s": pa.array(["a", None]),
            "b": [True, True],
        }
    )
    dead = build_features(batch, INPUTS).dead
    assert dead is not None
    assert dead.rows == [1]
    assert dead.reasons == [
        "null for input 'x' (column 'x'); set a value for nulls with --fill x=VALUE; "
        "null for input 'text' (column 's'); set a value for nulls with --fill text=VALUE"
    ]
