"""Batch normalization folded into its neighbours: where, where not, and with the same scores."""

from __future__ import annotations

import numpy as np
import pytest

import scoreline
from scoreline.models.errors import ModelError
from scoreline.models.optimize.build import build_part, row_feeds, save_frozen
from scoreline.models.optimize.fold_batch_norm import fold_batch_norm
from scoreline.models.optimize.frozen import freeze
from scoreline.models.optimize.litert import to_litert
from scoreline.models.optimize.variant import write_variant
from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.model_zoo import save_function
from tests.models.optimize.models import make_rows, to_numpy

ROWS = 10_000
# Of Keras, when it saves a file.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def keras():
    import_tensorflow()
    import keras

    return keras


def norm(layers, **options):
    return layers.BatchNormalization(epsilon=0.01, **options)


def _image(keras, *layers):
    x = keras.Input((6, 6, 2), name="image")
    y = x
    for layer in layers:
        y = layer(y)
    return x, y


def _chain(keras, size, *layers):
    x = keras.Input(size, name="x")
    y = x
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y)


# Each: the model, how many normalizations are folded, and why others stay.
def before_activation(k, n):
    return _chain(k, (5,), k.layers.Dense(4), n(), k.layers.ReLU(), k.layers.Dense(2)), 1, []


def after_activation(k, n):
    layers = [k.layers.Dense(4, activation="relu"), n(), k.layers.Dropout(0.5), k.layers.Dense(2)]
    return _chain(k, (5,), *layers), 1, []


def twice(k, n):
    return _chain(k, (5,), k.layers.Dense(4), n(), n(scale=False), k.layers.Dense(2)), 2, []


def without_bias(k, n):
    return _chain(k, (5,), k.layers.Dense(4, use_bias=False), n(center=False)), 1, []


def at_the_input(k, n):
    return _chain(k, (5,), n(), k.layers.Dense(4)), 1, []


def shared_layer(k, n):
    """The Dense layer is shared: one use is normalized, the other is not."""
    a, b = k.Input((5,), name="a"), k.Input((5,), name="b")
    dense = k.layers.Dense(4)
    return k.Model([a, b], [n()(dense(a)), k.layers.ReLU()(dense(b))]), 1, []


def shared_norm(k, n):
    a, b = k.Input((5,), name="a"), k.Input((5,), name="b")
    shared = n()
    return k.Model([a, b], [shared(k.layers.Dense(4)(a)), shared(k.layers.Dense(4)(b))]), 2, []


def sequence(k, n):
    return _chain(k, (7, 3), k.layers.Dense(4), n(), k.layers.Conv1D(5, 3), n()), 2, []


def convolution(k, n):
    layers = [k.layers.Conv2D(4, 3, padding="same"), n(), k.layers.ReLU()]
    layers += [k.layers.DepthwiseConv2D(3, depth_multiplier=2), n(), k.layers.ReLU()]
    layers += [n(), k.layers.Conv2D(3, 2), k.layers.ReLU(), n(), k.layers.Flatten()]
    return _chain(k, (8, 8, 2), *layers, k.layers.Dense(2)), 4, []


def padding(k, n):
    """The border of a padded convolution has no shift: only the first norm can be folded."""
    layers = [k.layers.Conv2D(4, 3), n(), k.layers.ReLU(), n()]
    layers += [k.layers.Conv2D(3, 3, padding="same")]
    return _chain(k, (8, 8, 2), *layers), 1, ["pads with zeros, which are not normalized"]


def another_consumer(k, n):
    """The residual connection reads the product; the second pair is folded."""
    x = k.Input((4,), name="x")
    product = k.layers.Dense(4)(x)
    added = k.layers.Add()([product, k.layers.ReLU()(n(name="kept")(product))])
    y = n()(k.layers.Dense(3)(added))
    return k.Model(x, y), 1, ["BiasAdd' before it has another consumer, and Relu is behind it"]


CASES = [before_activation, after_activation, twice, without_bias, at_the_input, shared_layer]
CASES += [shared_norm, sequence, convolution, padding, another_consumer]


def train(model, seed=5, scale=0.5):
    """Give a model weights and statistics that are not those of a new one."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        weights = [random.normal(0, scale, w.shape) for w in layer.get_weights()]
        if "BatchNormalization" in type(layer).__name__:
            weights = [random.uniform(0.3, 2, w.shape) for w in layer.get_weights()]
        layer.set_weights(weights)
    return model


def outputs_of(model, rows=ROWS):
    """Return the outputs of a frozen model for random rows."""
    part = build_part(model, row_feeds(model, None), model.outputs)
    random = np.random.default_rng(1)
    inputs = [
        random.normal(0, 1, (rows, *spec.row_shape)).astype(np.float32)
        for spec in sorted(model.signature.inputs)
    ]
    names = [feed.name for feed in row_feeds(model, None)]
    order = [sorted(names).index(name) for name in names]
    import tensorflow as tf

    found = part.function(*(tf.constant(inputs[at]) for at in order))
    return {name: value.numpy() for name, value in found.items()}


def assert_equal(model, folded):
    wanted, got = outputs_of(model), outputs_of(folded)
    for name, value in wanted.items():
        assert value.std() > 0.01
        np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-5 * np.abs(value).max())


def count(model, op):
    return sum(node.op == op for node in model.graph.node)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_fold_changes_no_score(keras, tmp_path, case):
    made, times, kept = case(keras, lambda **options: norm(keras.layers, **options))
    train(made).save(tmp_path / "model.keras")
    model = freeze(str(tmp_path / "model.keras"))
    folded = fold_batch_norm(model)
    notes = folded.passes[-1].notes
    assert sum(note.endswith("folded") for note in notes) == times
    reasons = [note for note in notes if "stays" in note]
    assert len(reasons) == len(kept)
    for note, reason in zip(reasons, kept, strict=True):
        assert reason in note
    assert count(folded, "Rsqrt") == len(kept)
    assert count(model, "Rsqrt") == times + len(kept)
    assert_equal(model, folded)


def test_a_network_that_others_wrote_goes_through_all_passes(keras, tmp_path):
    made = keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=5)
    train(made, scale=0.1).save(tmp_path / "model.keras")
    model = freeze(str(tmp_path / "model.keras"))
    folded = fold_batch_norm(model)
    assert count(model, "Rsqrt") == 27
    assert count(folded, "Rsqrt") == 0
    wanted, got = (next(iter(outputs_of(each, 64).values())) for each in (model, folded))
    assert wanted.std() > 0.01
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
    write_variant(to_litert(folded, 16), str(tmp_path / "variant"))
    models = [scoreline.load(path) for path in (tmp_path / "model.keras", tmp_path / "variant")]
    rows = make_rows(models[0].signature, 20)
    name = models[0].signature.outputs[0].name
    a, b = (to_numpy(each.score(rows, keys=["id"]).table[name]) for each in models)
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-5)


def test_a_saved_model_is_folded_saved_and_scored(keras, tmp_path):
    made, _, _ = before_activation(keras, lambda **options: norm(keras.layers, **options))
    train(made).export(str(tmp_path / "parent"), verbose=False)
    folded = fold_batch_norm(freeze(str(tmp_path / "parent")))
    save_frozen(folded, str(tmp_path / "folded"))
    write_variant(to_litert(folded, 32), str(tmp_path / "variant"))
    models = [scoreline.load(tmp_path / name) for name in ("parent", "folded", "variant")]
    rows = make_rows(models[0].signature)
    wanted, *others = (
        to_numpy(model.score(rows, keys=["id"]).table[model.signature.outputs[0].name])
        for model in models
    )
    for got in others:
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_fused_batch_normalization_of_keras_2_and_tf_nn_is_folded(tmp_path):
    tf = import_tensorflow()
    random = np.random.default_rng(2)
    weights, gamma, beta, mean, variance = (
        random.uniform(0.3, 2, shape).astype(np.float32) for shape in ((3, 3, 2, 4), 4, 4, 4, 4)
    )

    def serve(image):
        x = tf.nn.conv2d(image, weights, 1, "SAME")
        return {
            "y": tf.compat.v1.nn.fused_batch_norm(
                x, gamma, beta, mean, variance, 0.01, is_training=False
            )[0]
        }

    image = tf.TensorSpec([None, 6, 6, 2], tf.float32, name="image")
    model = freeze(save_function(tmp_path / "fused", serve, image))
    folded = fold_batch_norm(model)
    assert count(model, "FusedBatchNormV3") == 1
    assert count(folded, "FusedBatchNormV3") == 0
    assert_equal(model, folded)


@pytest.mark.parametrize("fused", [False, True])
def test_training_mode_is_refused(tmp_path, fused):
    tf = import_tensorflow()
    ones = np.ones(4, np.float32)

    def serve(x):
        y = tf.matmul(x, np.eye(4, dtype=np.float32))
        if fused:
            wide = y[:, None, None, :]
            return {"y": tf.compat.v1.nn.fused_batch_norm(wide, ones, ones, is_training=True)[0]}
        mean, variance = tf.nn.moments(y, [0])
        return {"y": tf.nn.batch_normalization(y, mean, variance, ones, ones, 0.01)}

    x = tf.TensorSpec([None, 4], tf.float32, name="x")
    model = freeze(save_function(tmp_path / "training", serve, x))
    with pytest.raises(ModelError, match=r"mean and variance of each call \(training mode\)"):
        fold_batch_norm(model)


def test_a_model_where_nothing_can_be_folded_is_refused_with_every_reason(keras, tmp_path):
    layers = keras.layers
    made = _chain(
        keras, (5,), norm(layers, name="first"), layers.ReLU(), norm(layers), layers.ReLU()
    )
    train(made).save(tmp_path / "model.keras")
    with pytest.raises(
        ModelError, match=r"first.* stays: Placeholder is before it, and Relu is be"
    ):
        fold_batch_norm(freeze(str(tmp_path / "model.keras")))


def test_a_model_without_batch_normalization_is_refused(tmp_path):
    tf = import_tensorflow()
    x = tf.TensorSpec([None], tf.float32, name="x")
    model = freeze(save_function(tmp_path / "plain", lambda x: {"y": 2.0 * x}, x))
    with pytest.raises(ModelError, match="got a model without one"):
        fold_batch_norm(model)
