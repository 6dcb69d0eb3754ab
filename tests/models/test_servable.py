from __future__ import annotations

import contextlib
import dataclasses
import json
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.models.artifact import digest_model
from scoreline.models.errors import ModelError
from scoreline.models.model_spec import ModelSpec
from scoreline.models.runtimes.model import Runtime
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.servable import LocalServable, load_servable, shared_servable
from scoreline.models.signature import Signature, TensorSpec
from tests.fakes import expected_scores, make_rows


def columns_of(rows):
    return {name: rows[name].combine_chunks() for name in ("x", "n", "s")}


def test_signature_has_names_dtypes_and_shapes(model):
    assert load_servable(model).signature == Signature(
        "serving_default",
        (
            TensorSpec("n", "int64", (None,)),
            TensorSpec("s", "string", (None,)),
            TensorSpec("x", "float32", (None,)),
        ),
        (TensorSpec("pair", "float32", (None, 2)), TensorSpec("score", "float32", (None,))),
    )


@settings(max_examples=20)
@given(rows=st.integers(1, 300), size=st.integers(1, 100))
def test_calls_of_any_size_give_the_same_scores(model, rows, size):
    table = make_rows(1, rows)
    servable = shared_servable(model, "serving_default")
    servable.call_size.rows, servable.call_size.settled = size, True
    scores = servable.predict(columns_of(table), rows, ["score"])
    assert list(scores) == ["score"]
    wanted = expected_scores(table)
    np.testing.assert_allclose(scores["score"].to_pylist(), list(wanted.values()), rtol=1e-6)


def test_no_rows_give_empty_columns_without_a_call(model):
    outputs = load_servable(model).predict({}, 0)
    assert outputs == {
        "pair": pa.array([], pa.list_(pa.float32(), 2)),
        "score": pa.array([], pa.float32()),
    }


def test_model_is_loaded_once_for_all_threads_of_a_process(model):
    assert shared_servable(model, "serving_default") is shared_servable(model, "serving_default")


def test_other_digest_is_refused_before_the_model_runs(model):
    with pytest.raises(
        ModelError, match=r"--model_digest: expected sha256:00, got sha256:.* Refused"
    ):
        load_servable(model, digest="sha256:00")
    assert load_servable(model, digest=digest_model(model)).digest == digest_model(model)


def test_unknown_signature_names_those_there_are(model):
    with pytest.raises(ModelError, match="has no signature 'score'; it has serving_default"):
        load_servable(model, "score")


def test_a_broken_model_is_reported_as_not_loadable(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(ModelError, match=r"Model .* does not load: saved_model.pb is damaged"):
        load_servable(str(tmp_path))


def save_function(path, function, *specs):
    """Save a function of named tensors as the only signature of a model."""
    tf = import_tensorflow()
    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return str(path)


def test_model_that_cannot_run_is_found_when_it_is_loaded(tmp_path):
    tf = import_tensorflow()

    def serve(x):  # this op has a kernel for GPUs only
        return {
            "y": tf.raw_ops.CudnnRNNParamsSize(
                num_layers=1, num_units=tf.size(x), input_size=1, T=tf.float32, S=tf.int32
            )[None]
            + tf.cast(x, tf.int32)
        }

    path = save_function(tmp_path, serve, tf.TensorSpec([None], tf.float32, name="x"))
    with pytest.raises(ModelError, match="loads, but fails on a call of 1 rows of zeros"):
        load_servable(path)


def test_model_that_refuses_blank_rows_for_what_they_hold_is_not_refused(tmp_path):
    tf = import_tensorflow()

    def serve(x):
        with tf.control_dependencies([tf.debugging.assert_positive(x)]):
            return {"y": tf.identity(x)}

    path = save_function(tmp_path, serve, tf.TensorSpec([None], tf.float32, name="x"))
    scores = load_servable(path).predict({"x": pa.array([1.0], pa.float32())}, 1)
    assert scores["y"].to_pylist() == [1.0]


def test_output_that_is_not_one_entry_for_each_row_is_found_when_it_is_loaded(tmp_path):
    tf = import_tensorflow()

    class Mean(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x):
            return {"y": tf.reduce_mean(x, keepdims=True)}

    module = Mean()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.serve})
    with pytest.raises(ModelError, match=r"gives output 'y' in shape \[1\] for 2 rows"):
        load_servable(str(tmp_path))


def test_a_process_of_its_own_reads_the_signature_and_gives_the_same_reasons(model):
    spec = ModelSpec(path=model)
    with contextlib.closing(spec.start()) as process:
        assert process.signature == load_servable(model).signature
    with pytest.raises(ModelError, match="has no signature 'other'"):
        dataclasses.replace(spec, signature="other").start()


def test_a_spec_loads_one_model_for_all_threads_or_one_of_its_own(model):
    spec = ModelSpec(path=model, digest=digest_model(model))
    assert spec.load() is spec.load()
    assert spec.load(shared=False) is not spec.load()
    with pytest.raises(ModelError, match="--model_digest: expected sha256:00, got"):
        dataclasses.replace(spec, digest="sha256:00").load()


def test_tensorflow_is_imported_without_keras_and_keras_still_imports_afterwards():
    code = (
        "import sys, json\n"
        "from scoreline.models.runtimes.tensorflow import import_tensorflow\n"
        "import scoreline.models.servable\n"
        "before = 'tensorflow' in sys.modules\n"
        "tf = import_tensorflow()\n"
        "during = 'keras.src' in sys.modules\n"
        "import keras\n"
        "print(json.dumps([before, during, keras.ops.add(1, 2).numpy().item()]))\n"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, False, 3]


class Small:
    """A model with memory for a limited number of rows."""

    signature = Signature(
        "s", (TensorSpec("x", "float32", (None,)),), (TensorSpec("y", "float32", (None,)),)
    )

    runtime = Runtime("c")

    def __init__(self, rows):
        self.rows, self.calls = rows, []

    def call(self, inputs, outputs):
        self.calls.append(len(inputs["x"]))
        if len(inputs["x"]) > self.rows:
            raise MemoryError
        return {"y": inputs["x"] * 2}

    def is_out_of_memory(self, error):
        return False


def test_a_call_that_runs_out_of_memory_is_halved_and_the_size_is_remembered():
    model = Small(300)
    servable = LocalServable(model, "sha256:0", batch_rows=1000)
    x = np.arange(2000, dtype=np.float32)
    got = servable.predict({"x": pa.array(x)}, 2000)["y"].to_numpy()
    np.testing.assert_array_equal(got, x * 2)
    assert model.calls[:3] == [1000, 500, 250]
    assert max(model.calls[3:]) == 250
    servable.predict({"x": pa.array(x)}, 2000)
    assert servable.call_size.rows == 250
    with pytest.raises(MemoryError):
        LocalServable(Small(0), "sha256:0").predict({"x": pa.array(x)}, 2000)


def test_two_models_that_are_in_use_are_loaded_once_each(model, zoo):
    first = shared_servable(model, "serving_default")
    second = shared_servable(zoo("module"), "serving_default")
    assert shared_servable(model, "serving_default") is first
    assert shared_servable(zoo("module"), "serving_default") is second
