"""Models of Keras 3 and Keras 2."""

from __future__ import annotations

from tests import model_zoo
from tests.runtime_models.saving import (
    COLUMNS,
    F,
    S,
    export,
    floats,
    keras,
    kind,
    layers,
    save,
    spec,
    texts,
    tf,
)


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
def saved_again(path):
    keras_3_lookup_and_text(path.parent / "first")
    loaded = tf.saved_model.load(str(path.parent / "first"))
    call = loaded.signatures["serving_default"]
    tf.saved_model.save(loaded, str(path), signatures={"serving_default": call})
    return {"s": texts(30), "t": texts(30)}
