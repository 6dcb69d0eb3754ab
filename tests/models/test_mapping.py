from __future__ import annotations

import pyarrow as pa
import pytest

from scoreline.models.fit import FitOptions, fit_signature
from scoreline.models.mapping import find_field, find_mismatches, select_column
from scoreline.models.signature import InputColumn, Quantization, Signature, TensorSpec

X = TensorSpec("x", "float32", (None,))
SIGNATURE = Signature("serving_default", (X,), ())


def problem(tensor, data_type, **options):
    source = InputColumn(tensor, "c", **options)
    found = find_mismatches(SIGNATURE, [source], pa.schema([("c", data_type)]))
    return found.get(tensor.name, "")


def test_mismatches_say_expected_got_and_what_to_do():
    schema = pa.schema([("x", pa.int64())])
    assert find_mismatches(SIGNATURE, [InputColumn(X, "x")], schema) == {
        "x": "Signature 'serving_default' wants input 'x' as float32 [None]; the table has column "
        "'x' as int64. Cast it in the table, ask for the nearest value with --columns "
        "'x=float32(x)', or export the model with an input that holds every int64"
    }
    missing = find_mismatches(SIGNATURE, [InputColumn(X, "y")], schema)["x"]
    assert (
        "the table has no column 'y'. Add the column, or name another with --columns x=" in missing
    )
    twice = pa.schema([("x", pa.float32()), ("x", pa.float32())])
    assert "2 columns named 'x'" in find_mismatches(SIGNATURE, [InputColumn(X, "x")], twice)["x"]


@pytest.mark.parametrize(
    ("shape", "data_type"),
    [
        ((None, 4), pa.list_(pa.float32(), 4)),
        ((None, 4), pa.list_(pa.float32())),
        ((None, 4), pa.large_list(pa.float16())),
        ((None, 4, 1), pa.list_(pa.float32())),
        ((None, 1, 4), pa.list_(pa.list_(pa.float32()), 1)),
        ((None, 2, 3), pa.list_(pa.float32(), 6)),
        ((None, 2, 3), pa.list_(pa.list_(pa.float32(), 3))),
        ((None, None), pa.list_(pa.float32(), 7)),
        ((None, 1, 1), pa.float32()),
        ((None,), pa.list_(pa.float32())),
        ((None, 4), pa.null()),
    ],
)
def test_nestings_that_fill_a_shape(shape, data_type):
    assert problem(TensorSpec("x", "float32", shape), data_type) == ""


@pytest.mark.parametrize(
    ("shape", "data_type", "advice"),
    [
        ((None,), pa.list_(pa.list_(pa.float32())), "Make its lists nest as the shape does"),
        ((None, 4), pa.float32(), "Make its lists nest as the shape does"),
        ((None, None, 3), pa.list_(pa.float32()), "Make its lists nest as the shape does"),
        ((None, None), pa.list_(pa.float32()), "say --pad x=VALUE"),
        ((None, 4), pa.list_(pa.float32(), 3), "Pad its lists of 3 with --pad x=VALUE"),
        ((None, 4), pa.list_(pa.float32(), 5), "Cut its lists of 5 off with --truncate x"),
        ((None, 4), pa.list_(pa.float64()), "--columns 'x=float32(c)'"),
        ((None,), pa.struct([("a", pa.float32())]), "Name one of its fields with --columns x=c.F"),
    ],
)
def test_nestings_that_do_not_are_refused_with_advice(shape, data_type, advice):
    assert advice in problem(TensorSpec("x", "float32", shape), data_type)


@pytest.mark.parametrize(
    ("dtype", "data_type", "conversion"),
    [
        ("float64", pa.decimal128(10, 2), "float64"),
        ("float32", pa.float64(), "float32"),
        ("bfloat16", pa.float32(), "bfloat16"),
        ("int64", pa.timestamp("us", "Europe/Paris"), "epoch_s"),
        ("int64", pa.date32(), "epoch_days"),
    ],
)
def test_conversions_that_lose_are_made_only_when_asked(dtype, data_type, conversion):
    tensor = TensorSpec("x", dtype, (None,))
    assert "Cast it in the table" in problem(tensor, data_type)
    assert problem(tensor, data_type, conversion=conversion) == ""


def test_conversion_of_what_it_does_not_take_is_refused():
    told = problem(TensorSpec("x", "int64", (None,)), pa.string(), conversion="epoch_s")
    assert "epoch_s(…) takes timestamps, dates, not string" in told


@pytest.mark.parametrize(
    ("dtype", "data_type", "conversion", "told"),
    [
        ("int64", pa.list_(pa.int64()), "values", ""),
        ("int64", pa.list_(pa.int64()), "row_splits", ""),
        ("int64", pa.int64(), "values", "takes a column of lists"),
        ("float32", pa.list_(pa.int64()), "row_splits", "is for an int64 or int32 input"),
        ("float32", pa.list_(pa.int64()), "values", "Cast its values in the table"),
    ],
)
def test_components_of_ragged_tensors(dtype, data_type, conversion, told):
    found = problem(TensorSpec("x", dtype, (None,)), data_type, conversion=conversion)
    assert told in found
    assert bool(told) == bool(found)


def test_paths_lead_into_structs_and_a_column_of_that_name_comes_first():
    inner = pa.array([{"a": 1, "b": {"c": "x"}}, None, {"a": None, "b": None}])
    batch = pa.RecordBatch.from_arrays([inner, pa.array([7, 8, 9])], ["s", "s.a"])
    assert select_column(batch, "s.a").to_pylist() == [7, 8, 9]
    assert select_column(batch, "s.b.c").to_pylist() == ["x", None, None]
    assert select_column(batch.slice(1), "s.b.c").to_pylist() == [None, None]
    assert find_field(batch.schema, "s.b.c") == [pa.string()]
    assert find_field(batch.schema, "s.z") == []
    with pytest.raises(KeyError):
        select_column(batch, "t.a")


@pytest.mark.parametrize(
    ("dtype", "data_type"),
    [
        ("int32", pa.int64()),
        ("int32", pa.float64()),
        ("uint8", pa.int64()),
        ("bool", pa.int8()),
        ("int64", pa.decimal128(5, 0)),
    ],
)
def test_a_conversion_that_keeps_the_value_is_named_when_a_column_does_not_fit(dtype, data_type):
    source = InputColumn(TensorSpec("t", dtype, (None,)), "c, d")
    schema = pa.schema([("c, d", data_type)])
    (problem,) = find_mismatches(Signature("s", (source.tensor,), ()), [source], schema).values()
    assert f"""--columns 't={dtype}("c, d")', which makes a row with any other value""" in problem
    converted = source._replace(conversion=dtype)
    assert not find_mismatches(Signature("s", (source.tensor,), ()), [converted], schema)


@pytest.mark.parametrize("data_type", [pa.uint8(), pa.int64(), pa.list_(pa.uint8(), 4)])
def test_integers_for_a_quantized_input_raise_the_question_what_they_are(data_type):
    shape = (None,) if not pa.types.is_fixed_size_list(data_type) else (None, 4)
    tensor = TensorSpec("t", "float32", shape, quantized=Quantization("uint8", 1 / 255, 0))
    signature, schema = Signature("s", (tensor,), ()), pa.schema([("c", data_type)])
    (problem,) = find_mismatches(signature, [InputColumn(tensor, "c")], schema).values()
    assert "--columns 't=scaled(c)' for real numbers, --columns 't=raw(c)'" in problem
    for asked in ("raw(c)", "scaled(c)"):
        fit = fit_signature(signature, FitOptions(columns={"t": asked}))
        assert not fit.problems
        assert not find_mismatches(signature, fit.inputs, schema)
    plain = Signature("s", (tensor._replace(quantized=None),), ())
    (problem,) = fit_signature(plain, FitOptions(columns={"t": "raw(c)"})).problems
    assert "--columns t=raw(…): expected a quantized input" in problem
