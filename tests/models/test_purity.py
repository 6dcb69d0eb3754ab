"""Whether a row's score is its own: models that are impure are found, and noisy ones are not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from scoreline.models.errors import ImpureModel, ModelError
from scoreline.models.fit import FitOptions
from scoreline.models.purity import SampleFails
from scoreline.models.servable import load_servable
from tests import impure_models
from tests.impure_models import check, check_servable, floats, lists, of_floats, tf
from tests.model_zoo import save_litert


@pytest.fixture(autouse=True)
def _whole_samples(monkeypatch):
    """Check all rows, however slow the machine is."""
    monkeypatch.setattr("scoreline.models.purity._SECONDS", 600.0)


IMPURE, PURE = impure_models.impure(), impure_models.pure()


@pytest.mark.parametrize("name", IMPURE)
def test_a_model_whose_scores_are_not_each_rows_own_is_found(name):
    make, kind = IMPURE[name]
    found = check(make())
    assert found is not None
    assert found.kind.value == kind
    sentence = found.describe("id=7")
    assert "the row id=7" in sentence
    assert sentence.endswith("; or go on with --allow_impure REASON")
    assert "nan" not in sentence


@pytest.mark.parametrize(
    "name", ["batch norm in training mode", "counter", "dropout", "row before"]
)
@pytest.mark.parametrize("rows", [2, 33])
def test_a_few_rows_are_enough(name, rows):
    assert check(IMPURE[name][0](), rows) is not None


@pytest.mark.parametrize("name", ["counter", "dropout", "words seen before", "noise of a call"])
def test_one_row_shows_what_changes_from_call_to_call(name):
    assert check(IMPURE[name][0](), 1) is not None


@pytest.mark.parametrize("name", PURE)
def test_a_noisy_model_is_no_false_alarm(name):
    case = PURE[name]()
    for rows in (1024, 3):
        found = check(case, rows)
        assert found is None, found.describe()


def test_the_message_has_the_two_scores_of_a_row_and_how_far_they_are_apart():
    found = check(of_floats(lambda x: x - tf.reduce_mean(x), 1))
    x = np.asarray(floats(1))
    alone = x[found.row] - x.mean()
    sentence = found.describe("id=7")
    assert (
        f"output 'y' of the row id=7 is {alone:.6g} together with 1,023 other rows, and "
        f"{found.scores[1]} beside other rows in a call of the same size (512 of 512 rows differ, "
        f"by up to {found.apart:.3g}" in sentence
    )


def test_padding_is_cured_by_the_length_that_the_message_advises():
    case = impure_models.of_lists(lambda ids: tf.reduce_mean(tf.cast(ids, tf.float32), 1))
    found = check(case)
    assert found.inputs == ("ids",)
    assert "--pad_length ids=N" in found.describe()
    options = FitOptions(pads={"ids": "0"}, pad_lengths={"ids": "40"})
    assert check(case._replace(options=options)) is None


def test_rows_one_by_one_cure_it_too():
    case = impure_models.of_lists(lambda ids: tf.reduce_mean(tf.cast(ids, tf.float32), 1))
    assert check(case._replace(batch_rows=1)) is None


def test_a_padded_model_with_batch_norm_is_not_only_padded():
    def serve(ids):
        x = tf.reduce_mean(tf.cast(ids, tf.float32), 1)
        return x - tf.reduce_mean(x)

    assert check(impure_models.of_lists(serve)).kind.value == "neighbours"


def test_rows_that_fail_are_for_the_caller_to_leave_out():
    def serve(x):
        with tf.control_dependencies([tf.debugging.assert_less(x, 2.0)]):
            return tf.identity(x)

    case = of_floats(serve, 1)
    with pytest.raises(SampleFails, match="InvalidArgumentError"):
        check(case)
    good = pa.array([value for value in floats(1).to_pylist() if value < 2.0], pa.float32())
    assert check(case._replace(columns={"x": good})) is None


def test_a_model_that_takes_only_smaller_calls_is_refused_with_what_to_do():
    def serve(x):
        with tf.control_dependencies([tf.debugging.assert_less(tf.shape(x)[0], 500)]):
            return tf.identity(x)

    with pytest.raises(SampleFails) as failed:
        check(of_floats(serve, 1))
    sentence = failed.value.impurity.describe()
    assert "fails in a call of 1,024 rows: InvalidArgumentError" in sentence
    assert "--batch_rows N" in sentence
    assert check(of_floats(serve, 1, batch_rows=400)) is None


def test_a_lost_model_is_no_verdict():
    with pytest.raises(ModelError, match="gone"):
        impure_models.check_purity(_gone, {"x": floats(1)}, 5, ())


def _gone(features, rows):
    raise ModelError("gone")


def test_an_impure_model_is_a_model_error():
    assert issubclass(ImpureModel, ModelError)


def test_outputs_of_several_types_are_compared_each_by_itself():
    def serve(x):
        return {"own": x, "label": x > tf.reduce_mean(x) + 0.2, "text": tf.strings.as_string(x)}

    case = of_floats(lambda x: x, 1)._replace(function=lambda x: serve(x))
    assert check(case).output == "label"


def _lite(path, function, *specs):
    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )
    path.write_bytes(converter.convert())
    return load_servable(str(path))


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_quantized_litert_models_are_no_false_alarm(tmp_path):
    for kind in ("float", "int8"):
        save_litert(tmp_path / f"{kind}.tflite", kind)
        servable = load_servable(str(tmp_path / f"{kind}.tflite"))
        assert check_servable(servable, {"a": floats(1), "b": floats(1, scale=0.5)}) is None


def test_a_litert_model_that_mixes_rows_is_found(tmp_path):
    spec = tf.TensorSpec([None, 4], tf.float32, name="x")
    servable = _lite(tmp_path / "m.tflite", lambda x: {"y": x - tf.reduce_mean(x, 0)}, spec)
    assert check_servable(servable, {"x": floats(4)}).kind.value == "neighbours"


def _turn(x, rows):
    return tf.reduce_sum(tf.transpose(tf.reshape(x, [rows, 4, 2]), [0, 2, 1]), [1, 2])


FIXED = {
    "in the output's shape": (lambda x: _turn(x, 32), 32),
    "hidden": (lambda x: tf.reshape(_turn(x, 32), tf.shape(x)[:1]), 32),
    "odd and hidden": (lambda x: tf.reshape(_turn(x, 37), tf.shape(x)[:1]), 37),
    "added": (lambda x: tf.reduce_sum(x + tf.zeros([32, 1]), 1), 32),
    "added to hidden values": (lambda x: tf.reduce_sum(x + tf.zeros([11, 8]), 1)[: 11], 11),
    "gathered": (lambda x: tf.reduce_sum(tf.gather(x, tf.range(20)), 1), 20),
    "joined": (lambda x: tf.reduce_sum(tf.concat([x, tf.zeros([32, 1])], 1), 1), 32),
    "multiples": (
        lambda x: tf.reduce_sum(x, 1) + 0.0 * tf.reduce_sum(tf.reshape(x[:, 0], [-1, 3])), 768
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIXED)
def test_a_number_of_rows_that_is_fixed_in_the_graph_is_found_and_filled_up(name):
    function, rows = FIXED[name]
    case = of_floats(function, 8)
    servable = impure_models.load(case)
    assert servable.signature.batch_rows == servable.call_size.rows == rows
    x = case.columns["x"].slice(0, 100)
    scores = servable.predict({"x": x}, 100)["y"].to_numpy()
    assert np.allclose(scores, np.asarray(x.flatten()).reshape(100, 8).sum(1), atol=1e-5)
    assert check_servable(servable, case.columns, rows=100) is None


def test_a_fixed_batch_that_mixes_its_rows_is_found():
    case = of_floats(lambda x: _turn(x, 32) - tf.reduce_mean(x), 8)
    assert impure_models.load(case).signature.batch_rows == 32
    assert check(case, 100).kind.value == "neighbours"


def test_lists_longer_than_the_asked_length_are_errors_of_their_rows():
    case = impure_models.of_lists(lambda ids: ids)
    options = FitOptions(pads={"ids": "0"}, pad_lengths={"ids": "5"}, truncate=("ids",))
    assert check(case._replace(columns={"ids": lists()}, options=options)) is None
