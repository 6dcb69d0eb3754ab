from __future__ import annotations

import pyarrow as pa
import pytest

from models.signature import (
    InputColumn,
    Signature,
    TensorSpec,
    find_mismatches,
    find_unsupported,
    fits,
    parse_fill,
)

X = TensorSpec("x", "float32", (None,))
SIGNATURE = Signature("serving_default", (X,), (TensorSpec("score", "float32", (None, 1)),))


@pytest.mark.parametrize(
    ("data_type", "dtype"),
    [
        (pa.int32(), "int64"),
        (pa.uint32(), "int64"),
        (pa.int16(), "float32"),
        (pa.int32(), "float64"),
        (pa.float16(), "float32"),
        (pa.float32(), "float64"),
        (pa.large_string(), "string"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (pa.null(), "int64"),
    ],
)
def test_types_that_lose_nothing_fit(data_type, dtype):
    assert fits(data_type, dtype)


@pytest.mark.parametrize(
    ("data_type", "dtype"),
    [
        (pa.int64(), "int32"),
        (pa.int64(), "float32"),
        (pa.int64(), "float64"),
        (pa.int32(), "float32"),
        (pa.float64(), "float32"),
        (pa.uint64(), "int64"),
        (pa.int8(), "uint8"),
        (pa.string(), "float32"),
        (pa.float32(), "string"),
        (pa.bool_(), "float32"),
        (pa.timestamp("us"), "int64"),
        (pa.list_(pa.float32()), "float32"),
        (pa.float32(), "bfloat16"),
    ],
)
def test_types_that_can_lose_do_not_fit(data_type, dtype):
    assert not fits(data_type, dtype)


def test_mismatches_say_expected_got_and_what_to_do():
    schema = pa.schema([("x", pa.int64())])
    assert find_mismatches(SIGNATURE, [InputColumn(X, "x")], schema) == {
        "x": "Signature 'serving_default' wants input 'x' as float32 [None]; the table has column "
        "'x' as int64. Cast it in the table, or export the model with an input that holds every "
        "int64"
    }
    missing = find_mismatches(SIGNATURE, [InputColumn(X, "y")], schema)["x"]
    assert (
        "the table has no column 'y'. Add the column, or name another with --columns x=" in missing
    )
    twice = pa.schema([("x", pa.float32()), ("x", pa.float32())])
    assert "2 columns named 'x'" in find_mismatches(SIGNATURE, [InputColumn(X, "x")], twice)["x"]


def test_signature_survives_json():
    odd = SIGNATURE._replace(inputs=(X, TensorSpec("y", "string", None)))
    assert Signature.from_json(odd.to_json()) == odd


def test_what_tabular_scoring_cannot_feed_or_store_is_named():
    signature = Signature(
        "s",
        (TensorSpec("image", "float32", (None, 48, 48, 3)), TensorSpec("h", "bfloat16", (None,))),
        (TensorSpec("mask", "float32", (None, None)), TensorSpec("ok", "float32", (None, 3))),
    )
    problems = find_unsupported(signature)
    assert len(problems) == 3
    assert "input 'image' as float32 [None, 48, 48, 3]" in problems[0]
    assert "input 'h' as bfloat16 [None]" in problems[1]
    assert "output 'mask' as float32 [None, None]" in problems[2]


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [("float32", "1.5", 1.5), ("int64", "-3", -3), ("string", "", b""), ("bool", "True", True)],
)
def test_fill_has_the_type_of_its_input(dtype, text, value):
    assert parse_fill(TensorSpec("t", dtype, (None,)), text) == value


@pytest.mark.parametrize(
    ("dtype", "text"), [("float32", "x"), ("int64", "1.5"), ("int8", "300"), ("bool", "1")]
)
def test_wrong_fill_is_refused(dtype, text):
    with pytest.raises(ValueError, match=f"--fill t={text}: expected a {dtype}"):
        parse_fill(TensorSpec("t", dtype, (None,)), text)
