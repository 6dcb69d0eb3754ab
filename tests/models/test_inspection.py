from __future__ import annotations

import pytest

from scoreline.models.errors import ModelError
from scoreline.models.inspection import inspect_model
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.servable import load_servable
from tests.model_zoo import save_function


@pytest.mark.parametrize(
    ("kind", "model_format", "writer"),
    [
        ("module", "SavedModel", "TensorFlow 2."),
        ("tf1", "SavedModel", "as a TF1 graph"),
        ("keras_2", "SavedModel", "Keras 2 on TensorFlow 2."),
        ("model.keras", "Keras", "Keras 3."),
        ("model.tflite", "LiteRT", "LiteRT"),
    ],
)
def test_the_report_describes_a_model(zoo, kind, model_format, writer):
    path = zoo(kind)
    report = inspect_model(path)
    assert report.format == model_format
    assert writer in report.writer
    assert report.size_bytes > 500
    signature = {s.name: s for s in report.signatures}["serving_default"]
    assert signature == load_servable(path).signature
    assert report.concerns == ()


def test_ops_that_reach_outside_the_model_are_named(tmp_path):
    tf = import_tensorflow()

    def serve(path):
        noise = tf.random.uniform([tf.size(path)])
        text = tf.map_fn(tf.io.read_file, path)
        slow = tf.numpy_function(lambda x: x, [noise], tf.float32)
        return {"text": text, "noise": noise + tf.reshape(slow, [-1])}

    path = save_function(tmp_path, serve, tf.TensorSpec([None], tf.string, name="path"))
    found = {
        concern.op: (concern.times, concern.meaning) for concern in inspect_model(path).concerns
    }
    assert found["ReadFile"] == (1, "reads files")
    assert found["RandomUniform"][0] == 1
    assert "calls Python code" in found["PyFunc"][1]


def test_ops_that_change_scores_from_call_to_call_are_named_where_a_signature_reaches_them(
    tmp_path,
):
    tf = import_tensorflow()

    class Model(tf.Module):
        def __init__(self):
            self.count = tf.Variable(0.0)
            self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, 0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def train(self, x):
            self.count.assign_add(tf.reduce_sum(tf.random.uniform(tf.shape(x)) * x))
            self.table.insert(tf.strings.as_string(x), tf.ones(tf.shape(x), tf.int64))
            return {"y": x + tf.random.stateless_uniform(tf.shape(x), [1, 2])}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x):
            return {"y": x + self.count}

    model = Model()
    for name, signature in (("quiet", model.serve), ("loud", model.train)):
        tf.saved_model.save(model, str(tmp_path / name), signatures=signature)
    assert inspect_model(str(tmp_path / "quiet")).concerns == ()
    found = {
        concern.op: concern.meaning for concern in inspect_model(str(tmp_path / "loud")).concerns
    }
    assert found["RandomUniform"] == "draws random numbers: scores may differ between runs"
    assert "place in its call" in found["StatelessRandomUniformV2"]
    assert "earlier calls" in found["AssignAddVariableOp"]
    assert "the order of rows" in found["LookupTableInsertV2"]


def test_files_that_are_no_model_are_distinguished_from_damaged_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a SavedModel directory"):
        inspect_model(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match=r"Model .* does not load: saved_model.pb is damaged"):
        inspect_model(str(tmp_path))
    (tmp_path / "m.keras").write_bytes(b"no zip")
    with pytest.raises(ModelError, match="does not load: "):
        inspect_model(str(tmp_path / "m.keras"))


@pytest.mark.parametrize("name", ["m.tflite", "m.keras", "saved/saved_model.pb"])
def test_a_model_whose_file_is_empty_is_refused_as_such(tmp_path, name):
    """A copy failed. The frameworks miss an argument, a file, or a MetaGraph."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    model = str(path.parent if path.suffix == ".pb" else path)
    for read in (inspect_model, load_servable):
        with pytest.raises(ModelError, match=r"its file .* is empty\. Copy it again"):
            read(model)
