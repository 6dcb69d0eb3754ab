"""SavedModels of every kind that the two runtimes of SavedModels might treat differently.

Each function saves a model at a path, and returns inputs for it. They run in one process, where
TensorFlow is imported once: `tests.runtimes`. Kinds that users have beside these are in
`tests.model_zoo` and `tests.odd_models`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests import model_zoo

os.environ["TF_USE_LEGACY_KERAS"] = "0"
from scoreline.models.runtimes.tensorflow import import_tensorflow

tf = import_tensorflow()

import keras  # noqa: E402  after TensorFlow, which would import it in the way of users

RNG = np.random.default_rng(7)
F, I, S = tf.float32, tf.int64, tf.string  # noqa: E741
layers = keras.layers
KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {}


def kind(make):
    """Add a function to the kinds."""
    KINDS[make.__name__] = make
    return make


def spec(name, dtype=F, shape=(None,)):
    return tf.TensorSpec(shape, dtype, name=name)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def texts(rows):
    pool = ["", "a", "UA", "x" * 22, "y" * 23, "ä" * 30, "long " * 12, "zürich", "nul\0inside"]
    return np.array([pool[at].encode() for at in RNG.integers(0, len(pool), rows)], object)


def save(path, function, *specs, module=None):
    module = module or tf.Module()
    module.serve = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


def export(path, model, serve, specs):
    """Save a Keras model under one endpoint."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serve, input_signature=specs)
    archive.write_out(str(path), verbose=False)


AB = {"a": floats(5), "b": floats(5)}
COLUMNS = {"a": floats(5, 1), "b": floats(5, 1)}


@kind
def variables_without_names(path):
    module = tf.Module()
    module.all = [tf.Variable(2.0), tf.Variable(3.0)]
    save(
        path,
        lambda a, b: {"y": module.all[0] * a + module.all[1] * b},
        spec("a"),
        spec("b"),
        module=module,
    )
    return AB


@kind
def variables_of_one_name(path):
    module = tf.Module()
    module.all = [tf.Variable(value, name="w") for value in (2.0, 3.0, 4.0)]
    save(
        path,
        lambda a, b: {"y": module.all[0] * a + module.all[1] * b + module.all[2]},
        spec("a"),
        spec("b"),
        module=module,
    )
    return AB


@kind
def variables_of_strings_halves_and_truth(path):
    module = tf.Module()
    module.names = tf.Variable(["one", "q" * 40, "three"])
    module.half = tf.Variable(floats(3).astype(np.float16))
    module.truth = tf.Variable([True, False, True])
    save(
        path,
        lambda i: {
            "name": tf.gather(module.names, i),
            "half": tf.gather(module.half, i),
            "truth": tf.gather(module.truth, i),
        },
        spec("i", I),
        module=module,
    )
    return {"i": np.array([0, 1, 2, 1])}


@kind
def large_variable(path):
    module = tf.Module()
    module.w = tf.Variable(floats(5000, 500))
    save(path, lambda i: {"y": tf.gather(module.w, i)}, spec("i", I), module=module)
    return {"i": np.array([0, 4999, 7])}


@kind
def table_from_memory(path):
    module = tf.Module()
    initial = tf.lookup.KeyValueTensorInitializer(
        ["UA", "x" * 22, "y" * 23], tf.constant([1, 2, 3], I)
    )
    module.table = tf.lookup.StaticHashTable(initial, -1)
    save(path, lambda s: {"y": module.table.lookup(s)}, spec("s", S), module=module)
    return {"s": texts(40)}


@kind
def table_from_an_asset(path):
    words = path.parent / "words.txt"
    words.write_text("UA\n" + "x" * 22 + "\n" + "y" * 23 + "\n")
    module = tf.Module()
    index = tf.lookup.TextFileIndex
    initial = tf.lookup.TextFileInitializer(str(words), S, index.WHOLE_LINE, I, index.LINE_NUMBER)
    module.table = tf.lookup.StaticVocabularyTable(initial, 3)
    save(path, lambda s: {"y": module.table.lookup(s)}, spec("s", S), module=module)
    return {"s": texts(40)}


@kind
def tables_that_change(path):
    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(S, I, -1)
    module.table.insert(tf.constant(["UA", "y" * 23]), tf.constant([5, 6], I))
    module.dense = tf.lookup.experimental.DenseHashTable(I, I, -1, empty_key=-1, deleted_key=-2)
    module.dense.insert(tf.constant([3, 4], I), tf.constant([5, 6], I))
    save(
        path,
        lambda s, i: {"y": module.table.lookup(s), "z": module.dense.lookup(i)},
        spec("s", S),
        spec("i", I),
        module=module,
    )
    return {"s": texts(8), "i": np.arange(8)}


@kind
def asset_read_in_the_call(path):
    note = path.parent / "note.txt"
    note.write_text("hello asset")
    module = tf.Module()
    module.asset = tf.saved_model.Asset(str(note))
    save(
        path,
        lambda s: {"y": tf.strings.join([s, tf.io.read_file(module.asset.asset_path)])},
        spec("s", S),
        module=module,
    )
    return {"s": texts(7)}


@kind
def keras_3_by_tf_save(path):
    model = model_zoo._keras_model(keras)
    call = tf.function(
        lambda a, b: model({"a": a, "b": b}),
        input_signature=[spec("a", F, (None, 1)), spec("b", F, (None, 1))],
    )
    tf.saved_model.save(model, str(path), signatures={"serving_default": call})
    return COLUMNS


@kind
def keras_3_by_tf_save_without_a_signature(path):
    tf.saved_model.save(model_zoo._keras_model(keras), str(path))
    return {}


@kind
def keras_3_trained(path):
    model = keras.Sequential(
        [
            keras.Input((4,), name="x"),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    model.fit(floats(64, 4), floats(64, 1), verbose=0)
    model.export(str(path), verbose=False)
    return {"x": floats(9, 4)}


@kind
def keras_3_subclass_by_tf_save(path):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.all = [layers.Dense(4), layers.Dense(1)]

        def call(self, x):
            return self.all[1](self.all[0](x))

    net = Net()
    net.compile("adam", "mse")
    net.fit(floats(8, 3), floats(8, 1), verbose=0)
    call = tf.function(lambda x: {"y": net(x)}, input_signature=[spec("x", F, (None, 3))])
    tf.saved_model.save(net, str(path), signatures={"serving_default": call})
    return {"x": floats(5, 3)}


@kind
def keras_3_layers_in_a_module(path):
    """Two layers of one name, of which each variable has a twin."""
    module = tf.Module()
    given = keras.Input((6, 3))
    hidden = layers.Bidirectional(layers.LSTM(5))(layers.BatchNormalization()(given))
    module.a = keras.Model(given, layers.Dense(1, name="d")(hidden))
    flat = layers.Flatten()(given)
    module.b = keras.Model(given, layers.Dense(1, name="d")(flat))
    module.extra = tf.Variable(1.5)
    save(
        path,
        lambda x: {"y": module.a(x) + module.b(x) * module.extra},
        spec("x", F, (None, 6, 3)),
        module=module,
    )
    return {"x": floats(5, 6, 3)}


@kind
def keras_3_optimizer_in_a_module(path):
    module = tf.Module()
    module.w = tf.Variable(floats(3))
    module.optimizer = keras.optimizers.Adam(0.1)
    module.optimizer.build([module.w])
    module.optimizer.apply([tf.ones(3)], [module.w])
    save(path, lambda x: {"y": x * module.w}, spec("x", F, (None, 3)), module=module)
    return {"x": floats(5, 3)}


@kind
def keras_3_lookup_and_text(path):
    words = path.parent / "words_of_keras.txt"
    words.write_text("UA\nDL\n" + "y" * 23 + "\n")
    s, t = (keras.Input((), dtype="string", name=name) for name in ("s", "t"))
    one = layers.StringLookup(vocabulary=str(words), output_mode="one_hot")(s)
    two = layers.Embedding(4, 3)(layers.StringLookup(vocabulary=["a", "zürich"])(t))
    vectors = layers.TextVectorization(max_tokens=50, output_sequence_length=6)
    vectors.adapt(["long walk home", "a zürich x y long"])
    three = layers.GlobalAveragePooling1D()(layers.Embedding(50, 4)(vectors(t)))
    y = layers.Dense(1)(layers.Concatenate()([one, two, three]))
    model = keras.Model({"s": s, "t": t}, y)
    export(path, model, lambda given: {"y": model(given)}, [{"s": spec("s", S), "t": spec("t", S)}])
    return {"s": texts(30), "t": texts(30)}


@kind
def keras_3_rnn(path):
    given = keras.Input((None, 3), name="x")
    hidden = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(layers.Masking()(given))
    model = keras.Model(given, layers.Dense(1)(layers.GRU(4)(hidden)))
    model.export(str(path), verbose=False)
    return {"x": floats(6, 11, 3)}


@kind
def keras_3_image_and_attention(path):
    given = keras.Input((16, 16, 3), name="x")
    hidden = layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(given))
    hidden = layers.Reshape((49, 16))(layers.SeparableConv2D(16, 1)(hidden))
    hidden = layers.LayerNormalization()(hidden + layers.MultiHeadAttention(2, 8)(hidden, hidden))
    model = keras.Model(given, layers.Dense(3, activation="softmax")(layers.Flatten()(hidden)))
    model.export(str(path), verbose=False)
    return {"x": floats(4, 16, 16, 3)}


@kind
def keras_2_rnn(path):
    import tf_keras

    model = tf_keras.Sequential(
        [
            tf_keras.layers.Input((7, 3), name="x"),
            tf_keras.layers.LSTM(5),
            tf_keras.layers.Dense(1),
        ]
    )
    model.save(str(path), save_format="tf")
    return {"x": floats(6, 7, 3)}


@kind
def loops_and_branches(path):
    def serve(x):
        loop = tf.while_loop(
            lambda i, a: i < 7, lambda i, a: (i + 1, a * 1.1 + tf.cast(i, F)), (0, x)
        )
        mapped = tf.map_fn(lambda row: tf.reduce_sum(row * row) + row[0], tf.stack([x, loop[1]], 1))
        return {
            "loop": loop[1],
            "map": mapped,
            "scan": tf.scan(lambda a, b: a + b, x),
            "branch": tf.cond(tf.reduce_sum(x) > 0, lambda: x + 1, lambda: x - 1),
        }

    save(path, serve, spec("x"))
    return {"x": floats(12)}


@kind
def ragged_components(path):
    def serve(values, row_splits):
        ragged = tf.RaggedTensor.from_row_splits(values, row_splits)
        return {"y": tf.reduce_sum(ragged, 1), "n": ragged.row_lengths()}

    save(path, serve, spec("values"), spec("row_splits", I))
    return {"values": floats(10), "row_splits": np.array([0, 3, 3, 10])}


@kind
def counter(path):
    module = tf.Module()
    module.n = tf.Variable(0, dtype=I)

    def serve(x):
        return {"y": x + tf.cast(module.n.assign_add(tf.size(x, I)), F)}

    save(path, serve, spec("x"), module=module)
    return {"x": floats(5)}


@kind
def variable_of_the_last_texts(path):
    module = tf.Module()
    module.last = tf.Variable(["none"], dtype=S, shape=(None,))

    def serve(s):
        before = tf.identity(module.last.value())
        with tf.control_dependencies([before]):
            module.last.assign(s)
        return {"y": s, "was": tf.fill([tf.size(s)], before[0])}

    save(path, serve, spec("s", S), module=module)
    return {"s": texts(30)}


@kind
def random_with_seeds(path):
    tf.random.set_seed(3)
    module = tf.Module()
    module.g = tf.random.Generator.from_seed(5)

    def serve(x):
        return {
            "op": x + tf.random.uniform(tf.shape(x), seed=11),
            "stateless": x + tf.random.stateless_normal(tf.shape(x), [1, 2]),
            "generator": x + module.g.normal(tf.shape(x)),
        }

    save(path, serve, spec("x"), module=module)
    return {"x": floats(5)}


@kind
def texts_of_all_lengths(path):
    def serve(s):
        return {
            "same": s,
            "up": tf.strings.upper(s),
            "n": tf.strings.length(s),
            "pair": tf.stack([s, tf.strings.join([s, s])], 1),
            "part": tf.strings.substr(s, 0, 30),
            "hash": tf.strings.to_hash_bucket_fast(s, 99),
        }

    save(path, serve, spec("s", S))
    lengths = [bytes(RNG.integers(0, 256, size)) for size in range(70)]
    return {"s": np.array(lengths, object)}


@kind
def several_signatures(path):
    module = tf.Module()
    module.v = tf.Variable(2.0)
    module.f = tf.function(lambda a: {"y": module.v * a}, input_signature=[spec("a")])
    module.g = tf.function(lambda a: {"z": a - module.v}, input_signature=[spec("a", F, (None, 2))])
    tf.saved_model.save(
        module, str(path), signatures={"serving_default": module.f, "other": module.g}
    )
    return {"a": floats(5)}


@kind
def compiled_by_xla(path):
    module = tf.Module()
    module.w = tf.Variable(floats(4, 3))
    inner = tf.function(lambda x: tf.nn.softmax(tf.matmul(x, module.w)), jit_compile=True)
    module.serve = tf.function(
        lambda x: {"y": inner(x)}, jit_compile=True, input_signature=[spec("x", F, (None, 4))]
    )
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return {"x": floats(6, 4)}


@kind
def every_dtype(path):
    names = (
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    )

    def serve(**given):
        return {
            f"y_{name}": value if name == "bool" else value + tf.ones([], value.dtype)
            for name, value in given.items()
        }

    module = tf.Module()
    module.serve = tf.function(serve)
    call = module.serve.get_concrete_function(**{n: spec(n, tf.as_dtype(n)) for n in names})
    tf.saved_model.save(module, str(path), signatures={"serving_default": call})
    ones = np.arange(5) % 2
    return {name: ones.astype(tf.as_dtype(name).as_numpy_dtype) for name in names}


@kind
def unknown_rank(path):
    save(path, lambda x: {"y": x * 2.0}, spec("x", F, None))
    return {"x": floats(5, 2)}


@kind
def fixed_batch(path):
    save(path, lambda x: {"y": tf.reduce_sum(x, 1)}, spec("x", F, (4, 2)))
    return {"x": floats(4, 2)}


@kind
def no_values(path):
    save(
        path,
        lambda x, s: {"y": tf.reduce_sum(x, 1), "x": x, "s": s},
        spec("x", F, (None, None)),
        spec("s", S),
    )
    return {"x": np.zeros((3, 0), np.float32), "s": np.array([b"", b"", b""], object)}


@kind
def outputs_that_are_inputs_variables_and_constants(path):
    module = tf.Module()
    module.w = tf.Variable(floats(5))
    save(
        path,
        lambda x: {
            "same": x,
            "again": x,
            "variable": module.w.value(),
            "constant": tf.constant([1.0, 2.0]),
        },
        spec("x"),
        module=module,
    )
    return {"x": floats(5)}


@kind
def dataset_in_the_call(path):
    def serve(x):
        data = tf.data.Dataset.from_tensor_slices(x).map(lambda value: value * 2)
        return {"y": data.reduce(tf.zeros([]), lambda a, b: a + b) + x}

    save(path, serve, spec("x"))
    return {"x": floats(5)}


@kind
def images_in_texts(path):
    def mean(image):
        pixels = tf.io.decode_image(image, 3, expand_animations=False)
        return tf.reduce_mean(tf.image.resize(tf.cast(pixels, F), [8, 8]), [0, 1])

    save(path, lambda image: {"y": tf.map_fn(mean, image, fn_output_signature=F)}, spec("image", S))
    pixels = RNG.integers(0, 255, (20, 20, 3)).astype(np.uint8)
    images = [tf.io.encode_png(pixels).numpy(), tf.io.encode_jpeg(pixels).numpy()]
    return {"image": np.array(images, object)}


@kind
def mirrored(path):
    module = tf.Module()
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        module.w = tf.Variable(3.0)
    save(path, lambda x: {"y": module.w.read_value() * x}, spec("x"), module=module)
    return {"x": floats(5)}


@kind
def saved_again(path):
    KINDS["keras_3_lookup_and_text"](path.parent / "first")
    loaded = tf.saved_model.load(str(path.parent / "first"))
    call = loaded.signatures["serving_default"]
    tf.saved_model.save(loaded, str(path), signatures={"serving_default": call})
    return {"s": texts(30), "t": texts(30)}


@kind
def refuses_values(path):
    def serve(x):
        with tf.control_dependencies([tf.debugging.assert_less(x, 100.0, message="x too large")]):
            return {"y": x + 1}

    save(path, serve, spec("x"))
    return {"x": floats(5)}


def _save_v1(path, make):
    """Save what a function makes in a TF1 graph: inputs and outputs."""
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        inputs, outputs = make(v1)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), inputs, outputs)


@kind
def tf1_reference_variable(path):
    def make(v1):
        x = v1.placeholder(F, [None], "x")
        n = v1.get_variable("n", initializer=0.0, use_resource=False)
        return {"x": x}, {"y": x + v1.assign_add(n, 1.0)}

    _save_v1(path, make)
    return {"x": floats(4)}


@kind
def tf1_loop(path):
    def make(v1):
        x = v1.placeholder(F, [None, 4], "x")
        w = v1.get_variable("w", [4, 3], use_resource=True)
        given = (0, tf.matmul(x, w))
        end = v1.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 1.5), given)
        return {"x": x}, {"y": end[1]}

    tf.compat.v1.disable_control_flow_v2()
    try:
        _save_v1(path, make)
    finally:
        tf.compat.v1.enable_control_flow_v2()
    return {"x": floats(4, 4)}


@kind
def tf1_other_tags(path):
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(F, [None], "x")
        builder = v1.saved_model.Builder(str(path))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": x * 3.0})
        builder.add_meta_graph_and_variables(
            session, ["serve", "gpu"], {"serving_default": signature}
        )
        builder.save()
    return {"x": floats(4)}


@kind
def tf1_one_tensor_under_two_names(path):
    def make(v1):
        x = v1.placeholder(F, [None], "x")
        return {"a": x, "b": x}, {"y": 2 * x}

    _save_v1(path, make)
    return {"a": AB["a"], "b": AB["a"]}


@kind
def no_kernel(path):
    def serve(x):
        state = tf.zeros([1, tf.shape(x)[1], 4])
        made = tf.raw_ops.CudnnRNN(
            input=x, input_h=state, input_c=state, params=tf.zeros([300]), rnn_mode="lstm"
        )
        return {"y": made.output}

    save(path, serve, spec("x", F, (None, 3, 4)))
    return {"x": floats(2, 3, 4)}


@kind
def tf1_model_in_a_module(path):
    module = tf.Module()
    KINDS["tf1_loop"](path.parent / "inner")
    module.inner = tf.saved_model.load(str(path.parent / "inner"))
    call = module.inner.signatures["serving_default"]
    save(path, lambda x: {"y": call(x=x)["y"]}, spec("x", F, (None, 4)), module=module)
    return {"x": floats(4, 4)}
