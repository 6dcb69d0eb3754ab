from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given

from scoreline.models.signature import InputColumn, TensorSpec
from scoreline.models.tensors import to_values
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


_PAIR = pa.list_(pa.float32(), 2)
_KINDS_OF_LISTS = {
    "fixed": (_PAIR, (2,)),
    "variable": (pa.list_(pa.float32()), (2,)),
    "large": (pa.large_list(pa.float32()), (2,)),
    "fixed-of-fixed": (pa.list_(_PAIR, 1), (1, 2)),
    "lists-of-fixed": (pa.list_(_PAIR), (1, 2)),
    "lists-of-lists": (pa.list_(pa.list_(pa.float32())), (1, 2)),
    "flat-for-two-dimensions": (_PAIR, (1, 2)),
}


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize(("kind", "shape"), _KINDS_OF_LISTS.values(), ids=_KINDS_OF_LISTS)
def test_a_null_list_is_a_dead_row_unless_it_is_filled_or_padded(kind, shape, start):
    """Regression: one null row of a column of fixed-size lists failed its whole partition."""
    nested = 2 if pa.types.is_nested(kind.value_type) else 1
    wrap = (lambda pair: [pair]) if nested == 2 else (lambda pair: pair)
    rows = [wrap([8.0, 9.0]), None, wrap([1.0, None]), wrap([3.0, 4.0])]
    batch = pa.RecordBatch.from_arrays([pa.array(rows, kind)], ["v"]).slice(start)
    spec = TensorSpec("v", "float32", (None, *shape))

    def features_of(**options):
        source = InputColumn(spec, "v", **options)
        found = build_features(batch, [source])
        alive = batch.num_rows - (len(found.dead.rows) if found.dead else 0)
        values = to_values(found.columns["v"], source).rows(0, alive)
        return values.reshape(-1, 2).tolist(), found.dead

    first = [[8.0, 9.0]][start:]
    values, dead = features_of()
    assert values == [*first, [3.0, 4.0]]
    assert list(dead.rows) == [1 - start, 2 - start]
    assert "or all their values as one with --fill v=VALUE" in dead.reasons[0]
    assert "holds a null; give a value for it with --fill" in dead.reasons[1]
    assert features_of(fill=7.0) == ([*first, [7.0, 7.0], [1.0, 7.0], [3.0, 4.0]], None)
    assert features_of(fill=7.0, pad=0.0) == ([*first, [0.0, 0.0], [1.0, 7.0], [3.0, 4.0]], None)


def test_a_null_list_of_free_size_is_dead_whatever_the_fill_value():
    batch = pa.RecordBatch.from_arrays([pa.array([[1], None], pa.list_(pa.int64()))], ["v"])
    source = InputColumn(TensorSpec("v", "int64", (None, None)), "v", fill=0)
    assert list(build_features(batch, [source]).dead.rows) == [1]
