"""Models of every format, version and shape with the same scores: y = 2·a + b of two floats.

Functions that need the state of another framework (TF1 graphs, Keras 2) run in separate processes:
`python -m tests.model_zoo KIND PATH`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.forks import fork
from tests.odd_models import save_tf1 as save_tf1_oddities
from tests.odd_models import save_tf2

WEIGHTS = [[2.0], [1.0]]


def save_function(path, function, *specs, signatures=None):
    """Save a function of named tensors as the only signature of a model."""
    tf = import_tensorflow()
    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures=signatures or module.serve)
    return str(path)


def save_module(path: Path) -> None:
    """Save a tf.Module with a variable: inputs a and b float32 [None], output y [None]."""
    tf = import_tensorflow()

    class Linear(tf.Module):
        def __init__(self):
            self.weight = tf.Variable(2.0)

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.float32, name=name) for name in ("a", "b")]
        )
        def serve(self, a, b):
            return {"y": self.weight * a + b}

    module = Linear()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


def _keras_model(keras):
    """Return a functional model of named inputs a and b [None, 1] and output y [None, 1]."""
    a = keras.Input((1,), name="a")
    b = keras.Input((1,), name="b")
    y = keras.layers.Dense(1, name="y")(keras.layers.Concatenate()([a, b]))
    model = keras.Model({"a": a, "b": b}, {"y": y})
    model.layers[-1].set_weights([np.array(WEIGHTS, np.float32), np.zeros(1, np.float32)])
    return model


def save_keras_3_export(path: Path) -> None:
    """Save a Keras 3 model with `model.export`."""
    import keras

    _keras_model(keras).export(str(path), verbose=False)


def save_keras_3_file(path: Path) -> None:
    """Save a Keras 3 model as a .keras file."""
    import keras

    _keras_model(keras).save(str(path))


def save_keras_2(path: Path) -> None:
    """Save a trained Keras 2 model, with the slots of its optimizer."""
    import tf_keras as keras

    model = _keras_model(keras)
    model.compile(keras.optimizers.legacy.Adam(0.0), "mse")
    rows = {"a": np.ones((4, 1), np.float32), "b": np.ones((4, 1), np.float32)}
    model.fit(rows, np.ones((4, 1), np.float32), verbose=0)
    model.save(str(path), save_format="tf")


def save_tf1(path: Path) -> None:
    """Save a TF1 graph with variables, a table from an asset, and a main op."""
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_eager_execution()
    names = path.parent / "names.txt"
    names.write_text("one\ntwo\n")
    with v1.Graph().as_default(), v1.Session() as session:
        a = v1.placeholder(tf.float32, [None], "a")
        b = v1.placeholder(tf.float32, [None], "b")
        weight = v1.get_variable("weight", initializer=2.0, use_resource=False)
        asset = tf.constant(str(names), name="names")
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
        table = v1.lookup.StaticHashTable(
            v1.lookup.TextFileInitializer(
                asset,
                tf.string,
                v1.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                v1.lookup.TextFileIndex.LINE_NUMBER,
            ),
            -1,
        )
        # "two" is on line 1: y is right only if the lookup in the table is.
        y = weight * a + b * tf.cast(table.lookup(tf.constant(["two"]))[0], tf.float32)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            [v1.saved_model.tag_constants.SERVING],
            {"serving_default": v1.saved_model.predict_signature_def({"a": a, "b": b}, {"y": y})},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()


def save_estimator(path: Path) -> None:
    """Save an Estimator's export: a TF1 graph that parses tf.Examples itself."""
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_eager_execution()
    with v1.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], "input_example_tensor")
        features = v1.io.parse_example(
            serialized,
            {
                "a": v1.FixedLenFeature([], tf.float32),
                "b": v1.FixedLenFeature([], tf.float32, default_value=0.0),
            },
        )
        weight = v1.get_variable("weight", initializer=2.0, use_resource=False)
        y = weight * features["a"] + features["b"]
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.signature_def_utils.regression_signature_def(serialized, y)
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session, [v1.saved_model.tag_constants.SERVING], {"serving_default": signature}
        )
        builder.save()


def save_examples(path: Path) -> None:
    """Save a TF2 signature of serialized tf.Examples: dense a, dense b with a default, sparse c.

    y = 2·a + b, and the number of values of c.
    """
    tf = import_tensorflow()

    def serve(examples):
        features = tf.io.parse_example(
            examples,
            {
                "a": tf.io.FixedLenFeature([], tf.float32),
                "b": tf.io.FixedLenFeature([], tf.float32, default_value=0.0),
                "c": tf.io.VarLenFeature(tf.string),
                "d": tf.io.RaggedFeature(tf.int64),
            },
        )
        ones = tf.ones_like(features["c"].values, tf.int64)
        counted = tf.math.unsorted_segment_sum(
            ones, features["c"].indices[:, 0], tf.size(examples, tf.int64)
        )
        return {
            "y": 2.0 * features["a"] + features["b"],
            "count": counted + tf.reduce_sum(features["d"], axis=1),
        }

    save_function(path, serve, tf.TensorSpec([None], tf.string, name="examples"))


def op_library() -> str:
    """Return the path of a library of custom ops that TensorFlow ships but does not load."""
    package = importlib.util.find_spec("tensorflow").submodule_search_locations[0]
    folder = Path(package) / "lite/experimental/microfrontend/python/ops"
    return str(folder / "_audio_microfrontend_op.so")


def save_custom_op(path: Path) -> None:
    """Save a model with an op of `op_library`: audio int16 [None, 800] → energy float32 [None]."""
    tf = import_tensorflow()
    library = tf.load_op_library(op_library())

    def energy(audio):
        return tf.reduce_sum(library.audio_microfrontend(audio, out_type=tf.float32))

    def serve(audio):
        return {"energy": tf.map_fn(energy, audio, fn_output_signature=tf.float32)}

    save_function(path, serve, tf.TensorSpec([None, 800], tf.int16, name="audio"))


def save_litert(
    path: Path, kind: str = "float", *, weight: float = WEIGHTS[0][0], output: str = "y"
) -> None:
    """Save a .tflite of the Keras model: float, or with int8 inputs and outputs.

    The score is y = weight·a + b.
    """
    tf = import_tensorflow()

    class Linear(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec([None, 1], tf.float32, name=name) for name in ("a", "b")]
        )
        def serve(self, a, b):
            weights = tf.constant([[weight], *WEIGHTS[1:]])
            return {output: tf.matmul(tf.concat([a, b], 1), weights)}

    module = Linear()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )
    if kind == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        rows = np.linspace(-1, 1, 64, dtype=np.float32).reshape(-1, 1, 1)
        converter.representative_dataset = lambda: ({"a": row, "b": row} for row in rows)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())


def save_litert_custom_op(path: Path) -> None:
    """Save a .tflite with an op that is not one of LiteRT's own."""
    tf = import_tensorflow()
    function = tf.function(lambda a: {"y": tf.math.igamma(a, a)}).get_concrete_function(
        tf.TensorSpec([None, 1], tf.float32, name="a")
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.allow_custom_ops = True
    path.write_bytes(converter.convert())


HANGS, CRASHES = 13.0, 666.0


def _hang_on(tf, b, value=HANGS):
    """Return 0, or never return if any b equals the value: the loop does not end."""
    more = tf.reduce_any(tf.equal(b, value))
    return tf.while_loop(lambda i: tf.logical_and(more, i < 1e30), lambda i: i * 1.0, [0.0])[0]


def save_hanging(path: Path) -> None:
    """Save a SavedModel whose call never ends if a row has b = 13."""
    tf = import_tensorflow()
    specs = [tf.TensorSpec([None], tf.float32, name=name) for name in ("a", "b")]
    save_function(path, lambda a, b: {"y": 2.0 * a + b + _hang_on(tf, b)}, *specs)


def save_slow(path: Path) -> None:
    """Save a SavedModel whose call takes some seconds if a row has 0 < a < 100."""
    tf = import_tensorflow()
    specs = [tf.TensorSpec([None], tf.float32, name=name) for name in ("a", "b")]

    def serve(a, b):
        is_slow = tf.reduce_any(tf.logical_and(a > 0.0, a < 100.0))
        turns = tf.where(is_slow, 400_000, 0)
        end = tf.while_loop(lambda i: i < turns, lambda i: (i + 1,), [0])[0]
        return {"y": 2.0 * a + b + 0.0 * tf.cast(end, tf.float32)}

    save_function(path, serve, *specs)


def save_perilous(path: Path, hangs: float = HANGS, crashes: float = CRASHES) -> None:
    """Save a .tflite that never ends if a row has b = 13, and crashes if a row has b = 666.

    LiteRT's FLOOR_MOD divides the smallest int32 by -1, which raises SIGFPE.
    """
    tf = import_tensorflow()

    class Perilous(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec([None, 1], tf.float32, name=name) for name in ("a", "b")]
        )
        def serve(self, a, b):
            bad = tf.equal(b, crashes)
            divided = tf.where(bad, tf.constant(-(2**31)), tf.constant(0))
            remainder = tf.math.floormod(divided, tf.where(bad, tf.constant(-1), tf.constant(1)))
            return {"y": 2.0 * a + b + tf.cast(remainder, tf.float32) + _hang_on(tf, b, hangs)}

    module = Perilous()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )
    path.write_bytes(converter.convert())


ZOO: dict[str, Callable[[Path], None]] = {
    "module": save_module,
    "keras_3_export": save_keras_3_export,
    "model.keras": save_keras_3_file,
    "keras_2": save_keras_2,
    "tf1": save_tf1,
    "estimator": save_estimator,
    "examples": save_examples,
    "custom_op": save_custom_op,
    "hanging": save_hanging,
    "slow": save_slow,
    "perilous.tflite": save_perilous,
    "hangs_on_zeros.tflite": lambda path: save_perilous(path, hangs=0.0),
    "model.tflite": save_litert,
    "custom_op.tflite": save_litert_custom_op,
    "odd_tf2": save_tf2,
    "odd_tf1": save_tf1_oddities,
    "int8.tflite": lambda path: save_litert(path, "int8"),
}


def save_model_of(kind: str, path: Path) -> None:
    """Save a model of the zoo in a separate process."""
    saving = fork(__name__, kind, path, environment=os.environ, libraries=("tensorflow",))
    _, told = saving.communicate(300)
    assert saving.returncode == 0, told[-3000:]


if __name__ == "__main__":
    ZOO[sys.argv[1]](Path(sys.argv[2]))
