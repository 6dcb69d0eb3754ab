from __future__ import annotations

import pyarrow as pa
import pytest

from scoreline.models.signature import Signature, TensorSpec, find_unsupported, fits, parse_value

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


def test_signature_survives_json():
    odd = SIGNATURE._replace(inputs=(X, TensorSpec("y", "string", None)))
    assert Signature.from_json(odd.to_json()) == odd


def test_inputs_and_outputs_that_do_not_fit_rows_are_named():
    signature = Signature(
        "s",
        (TensorSpec("z", "complex64", (None,)), TensorSpec("training", "bool", ())),
        (TensorSpec("mean", "float32", ()), TensorSpec("ok", "float32", (None, None))),
    )
    problems = find_unsupported(signature)
    assert len(problems) == 3
    assert "wants input 'z' as complex64 [None]; expected a dtype of bfloat16, bool" in problems[0]
    assert "input 'training' as one value for the whole call (bool [])" in problems[1]
    assert "output 'mean' as float32 []: one value for the whole call" in problems[2]
    assert "export the model with it repeated for each row: tf.fill" in problems[2]


def test_components_of_a_sparse_tensor_do_not_line_up_with_rows():
    inputs = (
        TensorSpec("x/indices", "int64", (None, 2)),
        TensorSpec("x/shape", "int64", (2,)),
        TensorSpec("x/values", "float32", (None,)),
    )
    (problem,) = find_unsupported(Signature("s", inputs, ()))
    assert "has inputs that do not line up with rows: 'x/indices' int64 [None, 2]" in problem
    assert "export the model with a dense, ragged or tf.Example input" in problem


@pytest.mark.parametrize(("sizes", "rows"), [((None, None), None), ((32, 32), 32), ((), None)])
def test_fixed_batch_is_that_of_all_inputs(sizes, rows):
    inputs = tuple(TensorSpec(f"x{i}", "float32", (size, 4)) for i, size in enumerate(sizes))
    assert Signature("s", inputs, ()).batch_rows == rows


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [("float32", "1.5", 1.5), ("int64", "-3", -3), ("string", "", b""), ("bool", "True", True)],
)
def test_fill_has_the_type_of_its_input(dtype, text, value):
    assert parse_value("--fill", TensorSpec("t", dtype, (None,)), text) == value


@pytest.mark.parametrize(
    ("dtype", "text"), [("float32", "x"), ("int64", "1.5"), ("int8", "300"), ("bool", "1")]
)
def test_wrong_fill_is_refused(dtype, text):
    with pytest.raises(ValueError, match=f"--fill t={text}: expected a {dtype}"):
        parse_value("--fill", TensorSpec("t", dtype, (None,)), text)
