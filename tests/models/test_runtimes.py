"""Which runtime calls a SavedModel: the C API, or Python TensorFlow where that cannot."""

from __future__ import annotations

import gc
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from scoreline.models.errors import ModelError, describe_error
from scoreline.models.model_spec import ModelSpec
from scoreline.models.runtimes import tensorflow_c
from scoreline.models.runtimes.capi.errors import LibraryError, TensorFlowError
from scoreline.models.runtimes.model import Runtime
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.servable import forget_shared_servable, load_servable, shared_servable
from scoreline.pipelines.report.summary import describe_runtime
from scoreline.transforms import metrics
from scoreline.transforms.score import Scorer
from scoreline.transforms.scoring import ScoreSpec, Serving
from tests.json_output import read_object
from tests.model_zoo import save_function
from tests.processes import run_script

TWICE = 'Endpoint "names:0" fed more than once'


def ones(rows):
    return {name: pa.array(np.arange(rows, dtype=np.float32)) for name in ("a", "b")}


def scores_of(servable, rows=3):
    return servable.predict(ones(rows), rows)["y"].to_pylist()


@pytest.mark.parametrize("wanted", ["", "c"])
def test_the_c_api_calls_a_saved_model(zoo, monkeypatch, wanted):
    monkeypatch.setenv("SCORELINE_RUNTIME", wanted)
    servable = load_servable(zoo("module"))
    assert servable.runtime == Runtime("c")
    assert scores_of(servable) == [0.0, 3.0, 6.0]


def test_python_calls_it_where_the_environment_says_so(zoo, monkeypatch):
    monkeypatch.setenv("SCORELINE_RUNTIME", "python")
    servable = load_servable(zoo("module"))
    assert servable.runtime == Runtime("python")
    assert scores_of(servable) == [0.0, 3.0, 6.0]


def test_another_runtime_is_refused(zoo, monkeypatch):
    monkeypatch.setenv("SCORELINE_RUNTIME", "C++")
    told = r"SCORELINE_RUNTIME: expected c .* or python .*got 'C\+\+'"
    with pytest.raises(ModelError, match=told):
        load_servable(zoo("module"))


def test_other_formats_say_what_calls_them(zoo):
    assert load_servable(zoo("model.tflite")).runtime == Runtime("litert")
    assert load_servable(zoo("model.keras")).runtime == Runtime("keras")


def test_a_model_that_the_c_api_does_not_load_falls_back_with_the_reason(zoo, monkeypatch):
    servable = load_servable(zoo("tf1"))
    assert servable.runtime.name == "python"
    assert TWICE in servable.runtime.fallback
    assert scores_of(servable) == [0.0, 3.0, 6.0]
    monkeypatch.setenv("SCORELINE_RUNTIME", "c")
    with pytest.raises(ModelError, match=rf"does not load: {TWICE}"):
        load_servable(zoo("tf1"))


def test_without_the_library_python_calls_every_model(zoo, monkeypatch):
    def missing():
        raise LibraryError("no such library")

    monkeypatch.setattr(tensorflow_c, "load_library", missing)
    servable = load_servable(zoo("module"))
    assert servable.runtime == Runtime("python", "no such library")
    assert scores_of(servable) == [0.0, 3.0, 6.0]


def test_the_error_is_that_of_python_if_both_fail(zoo, monkeypatch, tmp_path):
    shutil.copy(zoo("module") + "/saved_model.pb", tmp_path)
    with pytest.raises(ModelError, match=r"does not load: FileNotFoundError: .*variables"):
        load_servable(str(tmp_path))
    monkeypatch.setenv("SCORELINE_RUNTIME", "c")
    with pytest.raises(ModelError, match=r"does not load: variables without a value: Variable"):
        load_servable(str(tmp_path))


def test_an_op_that_tensorflow_lacks_is_told_as_python_tells_it(zoo, monkeypatch, tmp_path, capfd):
    with open(zoo("custom_op") + "/saved_model.pb", "rb") as f:
        renamed = f.read().replace(b"AudioMicrofrontend", b"AudioMicrofrontEnd")
    (tmp_path / "saved_model.pb").write_bytes(renamed)
    monkeypatch.setenv("SCORELINE_RUNTIME", "c")
    told = r"Op type not registered 'AudioMicrofrontEnd'.*with --load_op_library PATH"
    with pytest.raises(ModelError, match=told):
        load_servable(str(tmp_path))
    assert capfd.readouterr().err == ""


def test_a_first_call_that_fails_for_the_model_falls_back(tmp_path, monkeypatch):
    tf = import_tensorflow()

    def serve(x):  # this op has a kernel for GPUs only
        size = tf.raw_ops.CudnnRNNParamsSize(
            num_layers=1, num_units=tf.size(x), input_size=1, T=tf.float32, S=tf.int32
        )
        return {"y": size[None] + tf.cast(x, tf.int32)}

    path = save_function(tmp_path, serve, tf.TensorSpec([None], tf.float32, name="x"))
    asked = []
    real = tensorflow_c.SessionModel.close
    monkeypatch.setattr(
        tensorflow_c.SessionModel, "close", lambda self: asked.append(1) or real(self)
    )
    with pytest.raises(ModelError, match="loads, but fails on a call of 1 rows of zeros"):
        load_servable(path)
    assert asked == [1]  # the C API was tried first, and its session is gone


def test_a_session_is_freed_with_its_model(zoo):
    def session_of(servable):
        return servable._model._session.close

    servable = load_servable(zoo("module"))
    freed = session_of(servable)
    del servable
    gc.collect()
    assert not freed.alive
    shared = session_of(shared_servable(zoo("module"), "serving_default", batch_rows=3))
    gc.collect()
    assert shared.alive
    forget_shared_servable()
    gc.collect()
    assert not shared.alive


def test_an_error_of_a_call_leaves_the_model_usable(tmp_path):
    tf = import_tensorflow()

    def serve(x):
        with tf.control_dependencies([tf.debugging.assert_less(x, 9.0, message="too large")]):
            return {"y": 2.0 * x}

    path = save_function(tmp_path, serve, tf.TensorSpec([None], tf.float32, name="x"))
    servable = load_servable(path)
    assert servable.runtime == Runtime("c")
    for _ in range(3):
        with pytest.raises(TensorFlowError, match="too large") as raised:
            servable.predict({"x": pa.array([9.5], pa.float32())}, 1)
        assert servable._model.is_about_inputs(raised.value)
        assert describe_error(raised.value).startswith("InvalidArgumentError: ")
        good = servable.predict({"x": pa.array([4.5], pa.float32())}, 1)
        assert good["y"].to_pylist() == [9.0]


def test_threads_share_one_session(tmp_path):
    tf = import_tensorflow()
    module = tf.Module()
    module.count = tf.Variable(0, dtype=tf.int64)

    def serve(x):
        return {"y": x + module.count.assign_add(1)}

    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([None], tf.int64, name="x")])
    tf.saved_model.save(module, str(tmp_path), signatures=module.serve)
    model = load_servable(str(tmp_path))._model
    zero = np.zeros(1, np.int64)

    def call(_):
        return int(model.call({"x": zero}, ["y"])["y"][0])

    before = call(0)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(call, range(4000)))
    # A call may read what another has added since, but none is lost.
    assert min(found) > before
    assert call(0) == before + 4001


SCRIPT = """
import json, sys
import pyarrow as pa
from scoreline.models.servable import load_servable
servable = load_servable(sys.argv[1], concurrent_calls=1)
columns = {name: pa.array([1.0, 2.0], pa.float32()) for name in ("a", "b")}
def score():
    return servable.predict(columns, 2)["y"].to_pylist()
before = score()
without = "tensorflow" in sys.modules
import tensorflow as tf
by_python = tf.saved_model.load(sys.argv[1]).signatures["serving_default"](
    **{name: tf.constant([1.0, 2.0]) for name in ("a", "b")})["y"].numpy().tolist()
print(json.dumps([without, before, by_python, score()]))
"""


def test_tensorflow_is_not_imported_and_can_be_later(zoo, tmp_path):
    ended = run_script(tmp_path, SCRIPT, zoo("module"))
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == [False, [3.0, 6.0], [3.0, 6.0], [3.0, 6.0]]
    assert ended.err.count("\n") < 9, ended.err  # of TensorFlow's import; the C API writes nothing


def test_the_summary_and_json_say_what_called_the_model(score, zoo):
    columns = ("--columns=a=x,b=x", "--outputs=y=score")
    ended = score(*columns, model=zoo("tf1"))
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if "called by" in line]
    assert "Python TensorFlow, because the C API cannot: " + TWICE in line
    ended = score(*columns, "--json", "--reprocess=all", model=zoo("tf1"))
    runtime = read_object("batch", ended.out, 0)["runtime"]
    assert runtime["name"] == "python"
    assert TWICE in runtime["fallback"]


def test_a_plan_says_what_calls_the_model(score):
    assert "called by TensorFlow's C API" in score("--check").out
    document = read_object("batch_check", score("--check", "--json").out, 0)
    assert document["runtime"] == {"name": "c", "fallback": ""}


def test_steps_count_models_that_fell_back_and_the_summary_tells_those_of_workers(zoo):
    def counted(kind):
        servable = load_servable(zoo(kind))
        model = ModelSpec(path=zoo(kind), digest=servable.digest)
        spec = ScoreSpec(model=model, inputs=(), outputs=(), carried=())
        return Scorer(Serving(servable, spec)).metrics.total(metrics.MODELS_FALLEN_BACK)

    assert counted("module") == 0
    fallen_back = counted("tf1")
    assert fallen_back == 1
    by_c = Runtime("c")
    assert describe_runtime(by_c, {}) == "TensorFlow's C API"
    counters = {metrics.MODELS_FALLEN_BACK.name: fallen_back}
    told = "TensorFlow's C API; in workers Python TensorFlow, and their logs have the reason"
    assert describe_runtime(by_c, counters) == told
    assert "because the C API cannot: x" in describe_runtime(Runtime("python", "x"), counters)
