"""Small models of several kinds, and rows for them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.model_zoo import save_function

ROWS = 70
WORDS = ["", "red", "green", "blue", "Red", " red", "grün", "nowhere"]


def _weights(*shape):
    return np.random.default_rng(sum(shape)).normal(0, 0.5, shape).astype(np.float32)


def _table(tf, keys, values, default):
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(keys), tf.constant(values))
    return tf.lookup.StaticHashTable(initializer, default)


def _save_with(path, function, *specs, **tables):
    """Save a function that takes the tables of a module after its tensors."""
    tf = import_tensorflow()
    module = tf.Module()
    module.tables = tables
    module.serve = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures=module.serve)
    return str(path)


def save_dense(path):
    """Several inputs and outputs; one input is used by no output."""
    tf = import_tensorflow()
    specs = [
        tf.TensorSpec([None, 3], tf.float32, name="x"),
        tf.TensorSpec([None], tf.int32, name="n"),
    ]
    specs.append(tf.TensorSpec([None], tf.float32, name="unused"))

    def serve(x, n, unused):
        hidden = tf.nn.relu(tf.matmul(x, _weights(3, 8)) + tf.cast(n, tf.float32)[:, None])
        score = tf.squeeze(tf.sigmoid(tf.matmul(hidden, _weights(8, 1))), -1)
        return {"score": score, "class": tf.argmax(hidden, -1), "hidden": hidden}

    return save_function(path, serve, *specs)


def save_conv(path):
    """Images of 8 × 8 × 2, with a convolution, a depthwise one and a mean over all pixels."""
    tf = import_tensorflow()

    def serve(image):
        found = tf.nn.relu(tf.nn.conv2d(image, _weights(3, 3, 2, 4), 1, "SAME"))
        found = tf.nn.depthwise_conv2d(found, _weights(3, 3, 4, 1), [1, 2, 2, 1], "SAME")
        return {"score": tf.reduce_mean(found, [1, 2])}

    return save_function(path, serve, tf.TensorSpec([None, 8, 8, 2], tf.float32, name="image"))


def save_text(path):
    """Text as it is → code → embedding; and a code that is an output."""
    tf = import_tensorflow()
    table = _table(tf, ["red", "green", "", "grün"], np.arange(4, dtype=np.int64) + 1, 0)
    numbers = _table(tf, np.array([7, -7], np.int64), np.array([1, 2], np.int64), -1)

    def serve(word, words, number):
        code = table.lookup(tf.identity(word))
        several = tf.reduce_sum(tf.gather(_weights(5, 3), table.lookup(words)), 1)
        one = tf.gather(_weights(5, 3), code) + tf.cast(numbers.lookup(number), tf.float32)[:, None]
        return {"code": code, "score": tf.matmul(one + several, _weights(3, 1))}

    specs = [tf.TensorSpec([None], tf.string, name="word")]
    specs.append(tf.TensorSpec([None, 2], tf.string, name="words"))
    specs.append(tf.TensorSpec([None], tf.int64, name="number"))
    return _save_with(path, serve, *specs, table=table, numbers=numbers)


def save_hashed(path):
    """Text → lower case → code, and text → hash stay in TensorFlow; a second input does not."""
    tf = import_tensorflow()
    table = _table(tf, ["red", "green"], np.array([1, 2], np.int64), 0)

    def serve(word, x):
        code = table.lookup(tf.strings.lower(word))
        hashed = tf.strings.to_hash_bucket_fast(word, 5)
        embedded = tf.gather(_weights(3, 4), code) + tf.gather(_weights(5, 4), hashed)
        return {"score": tf.matmul(embedded * x[:, None], _weights(4, 2))}

    specs = [tf.TensorSpec([None], tf.string, name="word")]
    specs.append(tf.TensorSpec([None], tf.float32, name="x"))
    return _save_with(path, serve, *specs, table=table)


def save_ragged(path):
    """Text of many words, split into a ragged tensor and summed up in TensorFlow."""
    tf = import_tensorflow()
    table = _table(tf, ["red", "green"], np.array([1, 2], np.int64), 0)

    def serve(text):
        codes = tf.ragged.map_flat_values(table.lookup, tf.strings.split(text))
        bag = tf.reduce_sum(tf.ragged.map_flat_values(tf.one_hot, codes, 3), 1)
        return {"score": tf.matmul(tf.ensure_shape(bag, [None, 3]), _weights(3, 2))}

    return _save_with(path, serve, tf.TensorSpec([None], tf.string, name="text"), table=table)


def save_linear(path):
    """The scores of `tests.fakes.save_model`, without its check of values."""
    tf = import_tensorflow()
    table = _table(tf, ["a", "b"], np.array([1, 2], np.int64), 0)

    def serve(x, n, s):
        score = x * 2.0 + 3.0 * tf.cast(n, tf.float32) + tf.cast(table.lookup(s), tf.float32)
        return {"score": score, "pair": tf.stack([score, x], axis=1)}

    specs = [tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([None], tf.int64, name="n")]
    return _save_with(path, serve, *specs, tf.TensorSpec([None], tf.string, name="s"), table=table)


SAVERS = {
    "dense": save_dense,
    "conv": save_conv,
    "text": save_text,
    "hashed": save_hashed,
    "ragged": save_ragged,
}


def make_rows(signature, rows=ROWS):
    """Return a table of random rows for a signature; text is of words, known and unknown."""
    random = np.random.default_rng(rows)
    columns = {"id": pa.array(np.arange(rows))}
    for spec in signature.inputs:
        shape = (rows, *spec.row_shape)
        if spec.dtype == "string":
            values = np.array(WORDS, object)[random.integers(0, len(WORDS), shape)]
            if spec.name == "text":
                values = np.array(
                    [f"{a} red {b}" for a, b in zip(values, values[::-1], strict=True)], object
                )
        elif "int" in spec.dtype:
            values = random.integers(-9, 9, shape).astype(spec.dtype)
        else:
            values = random.normal(0, 1, shape).astype(spec.dtype)
        columns[spec.name] = pa.array(values.tolist(), _type_of(spec))
    return pa.table(columns)


def _type_of(spec):
    leaf = pa.string() if spec.dtype == "string" else pa.from_numpy_dtype(spec.dtype)
    for _ in spec.row_shape:
        leaf = pa.list_(leaf)
    return leaf


def to_numpy(column):
    """Return a column of numbers or of nested lists as an array."""
    return np.array(column.to_pylist())
