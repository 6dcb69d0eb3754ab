from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given

from scoreline.models.conversions import CONVERSIONS
from scoreline.models.signature import InputColumn, Quantization, TensorSpec
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


BIG = 2**40
LOSSY = {
    "int8": [-129, 128, BIG],
    "int16": [-(2**15) - 1, 2**15],
    "int32": [-(2**31) - 1, BIG],
    "int64": [],
    "uint8": [-1, 256],
    "uint16": [-1, 2**16],
    "uint32": [-1, BIG],
    "uint64": [-1],
    "bool": [-1, 2, BIG],
    "float16": [BIG],
    "float32": [],
    "float64": [],
    "bfloat16": [],
}


@pytest.mark.parametrize("nested", ["plain", "dictionary", "list", "fixed", "filled"])
@pytest.mark.parametrize("name", LOSSY)
def test_a_row_that_a_named_conversion_would_change_is_dead_and_no_other(name, nested):
    values = [0, 1, None, *LOSSY[name], 1, 0]
    bad = [2, *range(3, 3 + len(LOSSY[name]))]
    shape: tuple[int, ...] = (None,)
    column, fill = pa.array(values, pa.int64()), None
    if nested == "dictionary":
        column = column.dictionary_encode()
    elif nested in ("list", "fixed"):
        size = 2 if nested == "fixed" else -1
        pairs = [None if value is None else [1, value] for value in values]
        column, shape = pa.array(pairs, pa.list_(pa.int64(), size)), (None, 2)
    elif nested == "filled":
        fill, bad = (True if name == "bool" else 1), bad[1:]
    source = InputColumn(TensorSpec("t", name, shape), "c", fill, name)
    features = build_features(pa.RecordBatch.from_arrays([column], ["c"]), [source])
    assert ([] if features.dead is None else list(features.dead.rows)) == bad
    for row, reason in zip(*((features.dead or ([], []))[:2]), strict=True):
        what = "null for" if values[row] is None else f"has a value that {name}(…) cannot hold"
        assert what in reason
        assert ("null for" in reason) == (values[row] is None)
    good = [1 if value is None else value for i, value in enumerate(values) if i not in bad]
    wanted = good if shape == (None,) else [[1, value] for value in good]
    assert features.columns["t"].to_pylist() == wanted


@pytest.mark.parametrize(
    ("column", "conversion"),
    [
        (pa.array([1.0, 2.5, float("nan"), float("inf"), -0.0]), "int32"),
        (pa.array([1.0, 1e300, -1e300, 1e200, float("inf")]), "float32"),
        (pa.array([0, 2**62, 2**61, -(2**62), 1]).cast(pa.timestamp("s")), "epoch_us"),
    ],
    ids=["float to int32", "float to float32", "time to epoch_us"],
)
def test_values_beyond_the_range_of_a_conversion_are_dead_rows(column, conversion):
    dtype = str(CONVERSIONS[conversion].result).replace("float", "float32")
    source = InputColumn(TensorSpec("t", dtype, (None,)), "c", None, conversion)
    features = build_features(pa.RecordBatch.from_arrays([column], ["c"]), [source])
    assert list(features.dead.rows) == [1, 2, 3]
    assert len(features.columns["t"]) == 2


def test_values_beyond_the_range_of_a_quantized_input_are_counted():
    tensor = TensorSpec("t", "float32", (None, 2), quantized=Quantization("uint8", 0.5, 10))
    pairs = pa.array([[0.0, -5.0], [122.5, 122.6], [-5.3, 200.0]], pa.list_(pa.float32(), 2))
    batch = pa.RecordBatch.from_arrays([pairs], ["c"])
    assert build_features(batch, [InputColumn(tensor, "c")]).saturated == 2
    stored = pa.RecordBatch.from_arrays([pa.array([[0, 255]], pa.list_(pa.uint8(), 2))], ["c"])
    raw = InputColumn(tensor.to_raw(), "c", conversion="uint8")
    assert build_features(stored, [raw]).saturated == 0
