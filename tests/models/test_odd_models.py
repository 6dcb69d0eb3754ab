"""Models as users have them, of every format: `tests.odd_models`."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from scoreline.models.errors import ModelError
from scoreline.models.inspection import inspect_model
from scoreline.models.runtimes.litert import LiteRTModel
from scoreline.models.servable import load_servable
from scoreline.models.signature import InputColumn, find_unsupported
from tests.odd_models import NAMES

RNG = np.random.default_rng(3)
LISTS = pa.list_(pa.float32(), 4)


@pytest.fixture(scope="module")
def odd(zoo):
    """Return a function from the name of a model to its path."""
    folders = {"tf1": zoo("odd_tf1"), "tf2": zoo("odd_tf2")}

    def path_of(name):
        return next(
            path
            for folder in folders.values()
            if os.path.exists(path := os.path.join(folder, name))
        )

    return path_of


def floats(*values):
    return pa.array(values, pa.float32())


@pytest.mark.parametrize("signature", ["one", "two"])
def test_a_fused_lstm_scores_rows_as_if_each_were_alone(odd, signature):
    """Its state is a variable tensor; that of the other signature was never allocated."""
    rows = RNG.normal(size=(12, 5, 2)).astype(np.float32)
    column = pa.array(rows.tolist(), pa.list_(pa.list_(pa.float32(), 2), 5))
    servable = load_servable(odd("two.tflite"), signature)
    whole = servable.predict({"x": column}, 12)["y"]
    again = servable.predict({"x": column}, 12)["y"]
    alone = [
        load_servable(odd("two.tflite"), signature).predict({"x": column.slice(row, 1)}, 1)["y"]
        for row in range(0, 12, 5)
    ]
    wanted = pa.concat_arrays(alone).to_pylist()
    np.testing.assert_allclose(whole.to_pylist()[::5], wanted, rtol=0, atol=1e-6)
    assert again == whole
    assert len({str(value) for value in whole.to_pylist()}) == 12


def test_a_litert_model_that_counts_its_calls_starts_from_its_file_each_time(odd):
    servable = load_servable(odd("counter.tflite"))
    for _ in range(2):
        assert servable.predict({"x": floats(0, 5)}, 2)["y"].to_pylist() == [1.0, 6.0]
    (concern,) = inspect_model(odd("counter.tflite")).concerns
    assert "changes a variable" in concern.meaning


def test_an_interpreter_is_kept_from_call_to_call_unless_it_keeps_state(odd, monkeypatch):
    made = []
    make = LiteRTModel._make_runner
    monkeypatch.setattr(LiteRTModel, "_make_runner", lambda self: made.append(1) or make(self))
    for name, signature, wanted in (
        ("divides.tflite", "serving_default", 0),
        ("counter.tflite", "serving_default", 3),
    ):
        servable = load_servable(odd(name), signature)
        inputs = {
            spec.name: pa.array([1], pa.int32() if spec.dtype == "int32" else pa.float32())
            for spec in servable.signature.inputs
        }
        servable.predict(inputs, 1)
        made.clear()
        for _ in range(3):
            servable.predict(inputs, 1)
        assert len(made) == wanted


@pytest.mark.parametrize("name", ["divides.tflite", "divides"])
def test_a_model_that_rejects_blank_rows_is_scored_and_a_bad_row_fails_alone(odd, name):
    servable = load_servable(odd(name))
    assert servable.signature.batch_rows is None
    a, b = pa.array([8, 9], pa.int32()), pa.array([2, 0], pa.int32())
    (output,) = servable.signature.outputs
    scores = servable.predict({"a": a.slice(0, 1), "b": b.slice(0, 1)}, 1)[output.name]
    assert scores.to_pylist() == [4]
    with pytest.raises(Exception, match=r"(?i)division by (0|zero)"):
        servable.predict({"a": a, "b": b}, 2)


def test_ops_of_tensorflow_in_a_litert_file_are_named_when_it_is_loaded_or_inspected(odd):
    told = r"it has ops of TensorFlow \(Identity, StringLower\).*Score the SavedModel"
    with pytest.raises(ModelError, match=told):
        load_servable(odd("flex.tflite"))
    with pytest.raises(ModelError, match=told):
        inspect_model(odd("flex.tflite"))


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_quantized_tensors_take_and_give_real_or_stored_numbers(odd, kind):
    servable = load_servable(odd(f"quantized_{kind}.tflite"))
    (given,), (output,) = servable.signature.inputs, servable.signature.outputs
    assert given.quantized is not None
    assert given.quantized.dtype == kind
    assert f"quantized: {kind} q = x / 0.00392" in str(given)
    real = RNG.uniform(0, 1, (20, 4)).astype(np.float32)
    stored = np.rint(real / given.quantized.scale).astype(int) + given.quantized.zero_point
    by_real = servable.predict({given.name: pa.array(real.tolist(), LISTS)}, 20)[output.name]
    np.testing.assert_allclose(by_real.to_numpy(), real.mean(axis=1), rtol=0, atol=0.01)
    raw = InputColumn(given.to_raw(), given.name, conversion=kind)
    column = pa.array(stored.tolist(), pa.list_(pa.type_for_alias(kind), 4))
    by_stored = servable.predict({given.name: column}, 20, sources=[raw])[output.name]
    assert by_stored == by_real
    conversions = {output.name: "raw"}
    kept = servable.predict({given.name: column}, 20, sources=[raw], conversions=conversions)
    assert kept[output.name].type == pa.type_for_alias(kind)
    steps = kept[output.name].to_numpy().astype(np.float32) - output.quantized.zero_point
    np.testing.assert_allclose(steps * output.quantized.scale, by_real.to_numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("shared.keras", ["head_0", "head_1"]),
        ("nested.keras", ["p", "q_0", "q_1"]),
        ("states.keras", ["lstm_0", "lstm_1"]),
        ("swapped.keras", ["one", "ten"]),
    ],
)
def test_every_output_of_a_keras_file_has_a_name_of_its_own(odd, name, outputs):
    servable = load_servable(odd(name))
    assert [spec.name for spec in servable.signature.outputs] == outputs
    (shown,) = inspect_model(odd(name)).signatures
    assert shown == servable.signature
    if name == "states.keras":
        return
    got = servable.predict({"a": floats(2.0), "b": floats(3.0)}, 1)
    wanted = {
        **{"head_0": 2, "head_1": 3, "p": 2, "q_0": 3, "q_1": 2},
        **{"one": 3, "ten": 20},
    }
    assert {name: column[0].as_py() for name, column in got.items()} == {
        name: wanted[name] for name in outputs
    }


def test_a_sequential_keras_file_is_scored(odd):
    servable = load_servable(odd("sequential.keras"))
    ((given,), (output,)) = servable.signature.inputs, servable.signature.outputs
    rows = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    assert servable.predict({given.name: rows}, 1)[output.name].to_pylist() == [[2.0, 4.0]]


@pytest.mark.parametrize("name", ["names", "names.keras"])
def test_inputs_and_outputs_may_have_any_name(odd, name):
    servable = load_servable(odd(name))
    assert sorted(spec.name for spec in servable.signature.inputs) == sorted(NAMES)
    given = {tensor: floats(float(number)) for number, tensor in enumerate(NAMES)}
    got = servable.predict(given, 1)
    if name == "names":
        assert {tensor: column[0].as_py() for tensor, column in got.items()} == {
            tensor: 2.0 * number for number, tensor in enumerate(NAMES)
        }
    else:
        assert got["out (cm)"].to_pylist() == [list(map(float, range(len(NAMES))))]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("empty", "an input or output without a name"),
        ("alike", r"the inputs 'x\.y' and 'x/y', whose names TensorFlow does not tell apart"),
        ("self", "an input 'self', a name that TensorFlow cannot be called with"),
        ("ragged.keras", "input 'x' as a ragged tensor; expected a dense one"),
        ("keras_2.keras", r"Keras 2\.\d+\.\d+ wrote it, and Keras 3.*Load it with tf_keras"),
        ("python", r"calls Python code .*\(EagerPyFunc"),
        ("numpy", r"calls Python code .*\(PyFunc"),
    ],
)
def test_models_that_cannot_be_called_are_refused_with_the_true_reason(odd, name, told):
    with pytest.raises(ModelError, match=told):
        load_servable(odd(name))


def test_python_code_in_one_signature_does_not_refuse_the_others(odd):
    servable = load_servable(odd("python"), "plain")
    assert servable.predict({"x": floats(1)}, 1)["y"].to_pylist() == [2.0]
    assert list(inspect_model(odd("python")).unusable) == ["serving_default"]


def test_the_metagraph_for_serving_is_taken_unless_tags_name_another(odd):
    path = odd("two_graphs")
    for tags, wanted in (((), 2.0), (("serve",), 2.0), (("train",), 102.0)):
        servable = load_servable(path, tags=tags)
        assert servable.predict({"a": floats(1)}, 1)["y"].to_pylist() == [wanted]
    assert inspect_model(path).tags == ("serve",)
    assert inspect_model(path, ["train"]).tags == ("train",)
    for wrong in (["gpu"], ["serve", "train"]):
        with pytest.raises(ModelError, match=r"--tags: .*it has serve; train\. Name the tags"):
            load_servable(path, tags=wrong)
    with pytest.raises(ModelError, match=r"no MetaGraph with the tags serve; it has train; eval"):
        load_servable(odd("no_serve"))
    assert load_servable(odd("no_serve"), tags=["eval"]).signature.inputs
    with pytest.raises(ModelError, match="--tags: expected a SavedModel"):
        load_servable(odd("shared.keras"), tags=["serve"])


def test_outputs_of_every_dtype_come_whole_or_are_refused(odd):
    servable = load_servable(odd("dtypes"))
    problems = find_unsupported(servable.signature)
    refused = {"o_complex64", "o_int4", "o_ragged", "o_sparse"}
    assert len(problems) == len(refused)
    assert all(any(f"'{name}'" in problem for problem in problems) for name in refused)
    names = [spec.name for spec in servable.signature.outputs if spec.name not in refused]
    got = servable.predict({"x": pa.array([1, 0], pa.int64())}, 2, names)
    assert {name: column.to_pylist() for name, column in got.items()} == {
        **{name: [1, 0] for name in names},
        "o_bool": [True, False],
        "o_string": ["1", "0"],
    }
    shown = {spec.name: str(spec) for spec in inspect_model(odd("dtypes")).signatures[0].outputs}
    assert shown["o_sparse"].startswith("sparse int64")
    assert shown["o_ragged"].startswith("ragged int64")


def test_keras_runs_on_tensorflow_whatever_the_environment_says(odd):
    code = (
        "import sys, pyarrow as pa\n"
        "from scoreline.models.servable import load_servable\n"
        "s = load_servable(sys.argv[1])\n"
        "one = pa.array([1.0], pa.float32())\n"
        "print(s.predict({'a': one, 'b': one}, 1)['head_0'].to_pylist())\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_USE_LEGACY_KERAS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, odd("shared.keras")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.stdout == "[1.0]\n", done.stderr[-2000:]
