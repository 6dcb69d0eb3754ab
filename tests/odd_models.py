"""Models as users have them: state, shared layers, awkward names, several graphs, Python code.

Two kinds of `tests.model_zoo`, each a folder with a model for each situation. TF1 graphs and
Keras 2 need processes of their own.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

# Names that SavedModels of TF1 can have; sanitized, no two are equal.
NAMES = (
    *("length (cm)", "b-1", "A", "a", "select", "x.y", "x:z", "ünï", 'q"uote', "max(x)", "l" * 300),
    *("_change_type", "__index_level_0__", "name", "a, b", "c=d", " padded "),
)


def save_tf2(folder: Path) -> None:
    """Save what Keras 2, Keras 3, tf.function and the LiteRT converter write."""
    folder.mkdir()
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # the converter reads Keras 2
    import tensorflow as tf

    _save_litert(tf, folder)
    _save_keras(folder)
    _save_functions(tf, folder)


def _convert(tf, folder, name, module, signatures, **settings):
    tf.saved_model.save(module, str(folder / name), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder / name), signature_keys=list(signatures)
    )
    for setting, value in settings.items():
        setattr(converter, setting, value)
    (folder / f"{name}.tflite").write_bytes(converter.convert())


def _call_of(tf, model, spec):
    return tf.function(lambda x: {"y": model(x)}, input_signature=[spec])


def _save_litert(tf, folder):
    import tf_keras

    tf_keras.utils.set_random_seed(1)
    spec = tf.TensorSpec([1, 5, 2], tf.float32, name="x")
    two = tf.Module()
    given = tf_keras.Input((5, 2), batch_size=1)
    backwards = tf_keras.layers.LSTM(2, go_backwards=True)
    two.models = [tf_keras.Model(given, rnn(given)) for rnn in (tf_keras.layers.LSTM(1), backwards)]
    two.calls = [_call_of(tf, model, spec) for model in two.models]
    _convert(tf, folder, "two", two, dict(zip(("one", "two"), two.calls, strict=True)))
    counter = tf.Module()
    counter.count = tf.Variable([[0.0]])

    def count(x):
        counter.count.assign_add([[1.0]])
        return {"y": x + counter.count}

    one = tf.TensorSpec([None, 1], tf.float32, name="x")
    counter.call = tf.function(count, input_signature=[one])
    _convert(tf, folder, "counter", counter, {"serving_default": counter.call})
    flex = tf.Module()
    texts = tf.TensorSpec([None], tf.string, name="x")
    flex.call = tf.function(lambda x: {"y": tf.strings.lower(x)}, input_signature=[texts])
    spec_of_ops = tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.SELECT_TF_OPS])
    signatures = {"serving_default": flex.call}
    _convert(tf, folder, "flex", flex, signatures, target_spec=spec_of_ops)
    divides = tf.Module()
    whole = [tf.TensorSpec([None, 1], tf.int32, name=name) for name in ("a", "b")]
    divides.call = tf.function(lambda a, b: {"y": a // b}, input_signature=whole)
    _convert(tf, folder, "divides", divides, {"serving_default": divides.call})
    for kind in (tf.uint8, tf.int8):
        _save_quantized(tf, folder, kind)


def _save_quantized(tf, folder, kind):
    """Save y = mean of x of four numbers from 0 to 1, without a signature."""
    weights = tf.constant(np.full((4, 1), 0.25, np.float32))
    function = tf.function(lambda x: tf.matmul(x, weights)).get_concrete_function(
        tf.TensorSpec([None, 4], tf.float32, name="x")
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    rows = np.random.default_rng(1).uniform(0, 1, (64, 1, 4)).astype(np.float32)
    rows[0], rows[1] = 0.0, 1.0
    converter.representative_dataset = lambda: ([row] for row in rows)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = kind
    (folder / f"quantized_{kind.name}.tflite").write_bytes(converter.convert())


def _save_keras(folder):
    import keras
    import tf_keras

    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    head = keras.layers.Dense(1, name="head", kernel_initializer="ones")
    keras.Model([a, b], [head(a), head(b)]).save(folder / "shared.keras")
    keras.Model([a, b], {"p": head(a), "q": [head(b), head(a)]}).save(folder / "nested.keras")
    x = keras.Input((5, 2), name="x")
    last, _, cell = keras.layers.LSTM(3, return_state=True, name="lstm")(x)
    keras.Model(x, [last, cell]).save(folder / "states.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(2.0)]).save(
        folder / "sequential.keras"
    )
    # Keras takes a dictionary by its keys, which differ here from the names of the inputs.
    keras.Model({"b": a, "a": b}, {"ten": 10 * a, "one": 1 * b}).save(folder / "swapped.keras")
    inputs = [keras.Input((1,), name=name) for name in NAMES]
    joined = keras.layers.Concatenate(name="out (cm)")(inputs)
    keras.Model(inputs, joined).save(folder / "names.keras")
    ragged = keras.Input((None,), name="x", dtype="float32", ragged=True)
    keras.Model(ragged, keras.ops.sum(ragged, axis=1)).save(folder / "ragged.keras")
    old = tf_keras.Input((2,), name="x")
    tf_keras.Model(old, tf_keras.layers.Dense(1)(old)).save(folder / "keras_2.keras")
    tf_keras.Model(old, tf_keras.layers.Dense(1)(old)).save(folder / "keras_2.h5")


def _save_functions(tf, folder):
    def save(name, call, *specs, **others):
        module = tf.Module()
        module.call = tf.function(call, input_signature=specs)
        module.others = {key: tf.function(f, input_signature=specs) for key, f in others.items()}
        signatures = {"serving_default": module.call, **module.others}
        tf.saved_model.save(module, str(folder / name), signatures=signatures)

    number = tf.TensorSpec([None], tf.float32, name="x")
    whole = tf.TensorSpec([None], tf.int64, name="x")

    def by_python(x):
        given = tf.py_function(lambda v: 2 * v, [x], tf.float32)
        return {"y": tf.ensure_shape(given, [None])}

    def by_numpy(x):
        # Within a loop: the op is in a function that a function calls.
        looped = tf.map_fn(
            lambda v: tf.numpy_function(lambda one: 2 * one, [v], tf.float32, stateful=False), x
        )
        return {"y": tf.ensure_shape(looped, [None])}

    save("python", by_python, number, plain=lambda x: {"y": x + 1})
    save("numpy", by_numpy, number)
    save("case", lambda x: {"Score": x, "score": x + 1, "ID": x + 2}, number)
    save(
        "dtypes",
        lambda x: {
            **{
                f"o_{dtype}": tf.cast(x, dtype)
                for dtype in (
                    *("int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64", "bool"),
                    *("float16", "bfloat16", "float64", "complex64", "int4"),
                )
            },
            "o_string": tf.strings.as_string(x),
            "o_ragged": tf.RaggedTensor.from_row_lengths(tf.repeat(x, x), x),
            "o_sparse": tf.sparse.from_dense(tf.stack([x, x], 1)),
        },
        whole,
    )


def save_tf1(folder: Path) -> None:
    """Save SavedModels with several MetaGraphs, and one whose tensors have awkward names."""
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_eager_execution()

    def signature(inputs, outputs):
        return {"serving_default": v1.saved_model.predict_signature_def(inputs, outputs)}

    with v1.Graph().as_default(), v1.Session() as session:
        a = v1.placeholder(tf.float32, [None], "a")
        weight = v1.get_variable("weight", initializer=2.0, use_resource=False)
        session.run(v1.global_variables_initializer())
        for name, tags in {"two_graphs": ["serve", "train"], "no_serve": ["train", "eval"]}.items():
            builder = v1.saved_model.Builder(str(folder / name))
            for number, tag in enumerate(tags):
                given = signature({"a": a}, {"y": weight * a + 100.0 * number})
                if number:
                    builder.add_meta_graph([tag], given)
                else:
                    builder.add_meta_graph_and_variables(session, [tag], given)
            builder.save()
    for name, tensors in {
        "names": NAMES,
        "empty": ("x", ""),
        "alike": ("x.y", "x/y"),
        "self": ("self",),
    }.items():
        with v1.Graph().as_default(), v1.Session() as session:
            inputs = {n: v1.placeholder(tf.float32, [None]) for n in tensors}
            builder = v1.saved_model.Builder(str(folder / name))
            outputs = {n: 2.0 * tensor for n, tensor in inputs.items()}
            builder.add_meta_graph_and_variables(session, ["serve"], signature(inputs, outputs))
            builder.save()
