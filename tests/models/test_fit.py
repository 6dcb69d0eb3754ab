"""Fits a signature to columns without a model, a data set or a command."""

from __future__ import annotations

from scoreline.models.fit import FitOptions, fit_signature
from scoreline.models.signature import Signature, TensorSpec

PLAIN = Signature(
    "serving_default",
    (TensorSpec("n", "int64", (None,)), TensorSpec("x", "float32", (None, 3))),
    (TensorSpec("score", "float32", (None,)), TensorSpec("word", "string", (None,))),
)
EXAMPLES = PLAIN._replace(example_input="examples")


def test_inputs_are_fed_as_asked_and_all_outputs_are_stored():
    options = FitOptions(
        columns={"n": "epoch_s(at)"}, fills={"n": "5"}, pads={"x": "0"}, truncate=("x",)
    )
    fit = fit_signature(PLAIN, options)
    assert fit.problems == ()
    n, x = fit.inputs
    assert (n.column, n.conversion, n.fill) == ("at", "epoch_s", 5)
    assert (x.column, x.pad, x.truncate) == ("x", 0.0, True)
    assert [output.column for output in fit.outputs] == ["score", "word"]


def test_outputs_are_renamed_and_kept_as_bytes():
    options = FitOptions(outputs={"word": "binary(raw)"})
    (word,) = fit_signature(PLAIN, options).outputs
    assert (word.tensor.name, word.column, word.conversion) == ("word", "raw", "binary")


def test_everything_that_is_wrong_is_said_at_once():
    options = FitOptions(
        columns={"n": "sqrt(n)"},
        fills={"q": "1", "n": "many"},
        outputs={"score": "binary(s)", "none": "none"},
    )
    told = "\n".join(fit_signature(PLAIN, options).problems)
    for part in (
        "--columns: expected a column, or one in a conversion of",
        "--fill q: signature 'serving_default' has no input 'q'; it has n, x",
        "--fill n=many: expected a int64",
        "--outputs score: binary(…) is for strings",
        "--outputs none: signature 'serving_default' has no output 'none'",
    ):
        assert part in told


def test_an_output_with_the_name_of_a_key_is_refused():
    (problem,) = fit_signature(PLAIN, FitOptions(), taken={"score", "id"}).problems
    assert "output 'score' has the name of another output column" in problem


def test_records_go_to_the_model_as_they_are_unless_a_feature_is_asked_for():
    whole = fit_signature(EXAMPLES, FitOptions(), record_column="_example")
    assert [(source.tensor.name, source.column) for source in whole.inputs] == [
        ("examples", "_example")
    ]
    filled = fit_signature(EXAMPLES, FitOptions(fills={"n": "1"}), record_column="_example")
    assert [source.column for source in filled.inputs] == ["n", "x"]
    assert all(source.is_feature for source in filled.inputs)
    named = fit_signature(EXAMPLES, FitOptions(columns={"examples": "raw"}))
    assert [source.column for source in named.inputs] == ["raw"]


def test_components_of_ragged_tensors_are_distinguished_from_columns_of_that_name():
    options = FitOptions(columns={"v": "values(list)", "s": "row_splits(list)", "n": "values"})
    assert options.ragged == (("s", "row_splits"), ("v", "values"))
