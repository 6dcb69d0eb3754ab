"""Models in this process whose scores are each row's own, and models whose scores are not.

Each is a function of TensorFlow, with rows for it, called like a loaded model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.models.fit import FitOptions, fit_signature
from scoreline.models.impurity import Impurity
from scoreline.models.purity import check_purity
from scoreline.models.runtimes.saved_model import ConcreteFunction, read_specs
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.servable import LocalServable
from scoreline.models.signature import Signature
from scoreline.models.tensors import prepare

ROWS = 1024
tf = import_tensorflow()


_PLAIN = FitOptions()


class Case(NamedTuple):
    """A function of named tensors, its specs, rows, and options of its inputs."""

    function: Callable[..., dict[str, Any]]
    specs: Sequence[Any]
    columns: dict[str, pa.Array]
    options: FitOptions = _PLAIN
    batch_rows: int | None = None


def check(case: Case, rows: int = ROWS) -> Impurity | None:
    """Make the purity check of a case."""
    return check_servable(load(case), case.columns, case.options, rows)


def load(case: Case) -> LocalServable:
    """Return a case as a loaded model, warmed up."""
    function = tf.function(case.function).get_concrete_function(
        **{spec.name: spec for spec in case.specs}
    )
    specs = read_specs({spec.name: spec for spec in case.specs})
    signature = Signature("serving_default", specs, read_specs(function.structured_outputs))
    servable = LocalServable(ConcreteFunction(function, signature), "", case.batch_rows)
    servable.warm_up()
    return servable


def check_servable(servable, columns, options=_PLAIN, rows=ROWS) -> Impurity | None:
    """Make the purity check of a loaded model."""
    fit = fit_signature(servable.signature, options)
    assert not fit.problems, fit.problems
    names = [output.tensor.name for output in fit.outputs]
    features = {
        source.tensor.name: prepare(columns[source.column].slice(0, rows), source)
        for source in fit.inputs
    }
    rows = min(rows, len(next(iter(features.values()))))
    return check_purity(
        lambda part, count: servable.predict(part, count, names, sources=fit.inputs),
        features,
        rows,
        fit.inputs,
    ).impurity


def floats(width: int = 16, rows: int = ROWS, scale: float = 1.0) -> pa.Array:
    """Return random rows of floats."""
    rng = np.random.default_rng(width)
    values = (scale * rng.normal(size=rows * width)).astype(np.float32)
    if width == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values), width)


def lists(rows: int = ROWS, longest: int = 40) -> pa.Array:
    """Return lists of ids of different lengths."""
    rng = np.random.default_rng(3)
    return pa.array([rng.integers(1, 50, rng.integers(1, longest)).tolist() for _ in range(rows)])


def words(rows: int = ROWS) -> pa.Array:
    """Return short texts."""
    rng = np.random.default_rng(4)
    return pa.array([f"w{i}" for i in rng.integers(0, 60, rows)])


def weights(*shape: int, seed: int = 0, scale: float = 1.0):
    """Return random weights."""
    rng = np.random.default_rng(seed)
    return tf.constant((scale * rng.normal(size=shape)).astype(np.float32))


def of_floats(function, width: int = 16, scale: float = 1.0, **rest) -> Case:
    """Return a case of one float input `x`."""
    shape = [None] if width == 1 else [None, width]
    spec = tf.TensorSpec(shape, tf.float32, name="x")
    return Case(lambda x: {"y": function(x)}, [spec], {"x": floats(width, scale=scale)}, **rest)


def of_lists(function) -> Case:
    """Return a case of padded lists of ids."""
    spec = tf.TensorSpec([None, None], tf.int64, name="ids")
    options = FitOptions(pads={"ids": "0"})
    return Case(lambda ids: {"y": function(ids)}, [spec], {"ids": lists()}, options)


def of_words(function) -> Case:
    """Return a case of one text."""
    spec = tf.TensorSpec([None], tf.string, name="word")
    return Case(lambda word: {"y": function(word)}, [spec], {"word": words()})


def _batch_norm(x):
    mean, variance = tf.nn.moments(x, 0)
    return tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3) @ weights(16, 1)


def _fused_batch_norm(x):
    image = tf.reshape(x, [-1, 4, 4, 1])
    one = tf.ones([1])
    normed = tf.raw_ops.FusedBatchNormV3(
        x=image, scale=one, offset=one, mean=[], variance=[], is_training=True
    )
    return tf.reduce_sum(normed[0], [1, 2, 3])


def _counter(x):
    count = tf.Variable(0.0)

    def call(x):
        return x + count.assign_add(1.0)

    return call(x)


def _with_state(initial, step):
    """Return a function whose variable changes at each call."""
    state = tf.Variable(initial)
    return lambda x: step(state, x)


def _seen_before():
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, 0)

    def call(word):
        seen = table.lookup(word)
        with tf.control_dependencies([seen, table.insert(word, tf.ones_like(seen))]):
            return tf.identity(seen)

    return call


def _grows():
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, 0)

    def call(word):
        with tf.control_dependencies([table.insert(word, table.lookup(word) + 1)]):
            return table.lookup(word)

    return call


def _embed(ids):
    return tf.gather(weights(50, 8), ids)


def _rows_attend(x):
    shares = tf.nn.softmax(x @ tf.transpose(x))
    return tf.reduce_sum(shares @ x, 1)


def _dropout(rate, seed=None):
    def call(x):
        if seed is None:
            kept = tf.random.uniform(tf.shape(x)) >= rate
        else:
            kept = tf.random.stateless_uniform(tf.shape(x), seed) >= rate
        return tf.reduce_sum(tf.where(kept, x / (1 - rate), 0.0), 1)

    return call


def _batch_quantized(x):
    low, high = tf.reduce_min(x), tf.reduce_max(x)
    return tf.reduce_sum(tf.quantization.fake_quant_with_min_max_vars(x, low, high, 8), 1)


def impure() -> dict[str, tuple[Callable[[], Case], str]]:
    """Return impure models by name, with what they depend on."""
    return {
        "batch norm in training mode": (lambda: of_floats(_batch_norm), "neighbours"),
        "fused batch norm in training mode": (lambda: of_floats(_fused_batch_norm), "neighbours"),
        "x - mean": (lambda: of_floats(lambda x: x - tf.reduce_mean(x, 0)), "neighbours"),
        "one value - mean": (lambda: of_floats(lambda x: x - tf.reduce_mean(x), 1), "neighbours"),
        "x / max": (lambda: of_floats(lambda x: x / tf.reduce_max(x), 1), "neighbours"),
        "softmax over rows": (lambda: of_floats(lambda x: tf.nn.softmax(x, 0)), "neighbours"),
        "norm over rows": (lambda: of_floats(lambda x: tf.nn.l2_normalize(x, 0)), "neighbours"),
        "attention over rows": (lambda: of_floats(_rows_attend), "neighbours"),
        "quantized by the call's range": (lambda: of_floats(_batch_quantized), "neighbours"),
        "rank among rows": (
            lambda: of_floats(lambda x: tf.argsort(tf.argsort(x)), 1),
            "neighbours",
        ),
        "label by the mean": (
            lambda: of_floats(lambda x: tf.cast(x > tf.reduce_mean(x) + 0.1, tf.int32), 1),
            "neighbours",
        ),
        "text of the mean": (
            lambda: of_floats(
                lambda x: tf.where(x > tf.reduce_max(x) / 2, "high", "low"), 1, scale=3.0
            ),
            "neighbours",
        ),
        "share of words": (
            lambda: of_words(
                lambda w: tf.reduce_sum(tf.cast(w[:, None] == w[None, :], tf.float32), 1)
            ),
            "neighbours",
        ),
        "sum of rows so far": (lambda: of_floats(lambda x: tf.cumsum(x), 1), "neighbours"),
        "row before": (lambda: of_floats(lambda x: x - tf.roll(x, 1, 0), 1), "neighbours"),
        "place": (lambda: of_floats(lambda x: x + 0.01 * tf.range(len_of(x), dtype=x.dtype), 1),
                  "place"),
        "number of rows": (
            lambda: of_floats(lambda x: x * (1 + 1 / tf.cast(len_of(x), x.dtype)), 1), "size"),
        "mean of padded lists": (
            lambda: of_lists(lambda ids: tf.reduce_mean(_embed(ids), [1, 2])), "padding"),
        "last of padded lists": (lambda: of_lists(lambda ids: _embed(ids)[:, -1]), "padding"),
        "softmax of padded lists": (
            lambda: of_lists(lambda ids: tf.nn.softmax(tf.reduce_sum(_embed(ids), 2))[:, 0]),
            "padding",
        ),
        "counter": (
            lambda: of_floats(_with_state(0.0, lambda n, x: x + n.assign_add(1.0)), 1), "state"),
        "moving average": (
            lambda: of_floats(
                _with_state(
                    0.0, lambda s, x: x - s.assign(0.9 * s + 0.1 * tf.reduce_sum(x))
                ), 1),
            "state",
        ),
        "state of an RNN": (
            lambda: of_floats(
                _with_state(
                    np.zeros(16, np.float32),
                    lambda s, x: x + s.assign(tf.tanh(s + tf.reduce_sum(x, 0)))), 16),
            "state",
        ),
        "words seen before": (lambda: of_words(_seen_before()), "state"),
        "table that grows": (lambda: of_words(_grows()), "state"),
        "dropout": (lambda: of_floats(_dropout(0.5)), "randomness"),
        "a little dropout": (lambda: of_floats(_dropout(0.05)), "randomness"),
        "dropout with a fixed seed": (lambda: of_floats(_dropout(0.5, [1, 2])), "place"),
        "noise of a call": (
            lambda: of_floats(lambda x: x + tf.random.normal([]), 1), "randomness"),
        "random label": (
            lambda: of_floats(lambda x: tf.random.categorical(x, 1)), "randomness"),
        "random word": (
            lambda: of_words(
                lambda w: tf.where(tf.random.uniform(tf.shape(w)) < 0.5, w, "other")),
            "randomness",
        ),
    }  # fmt: skip


def len_of(x):
    return tf.shape(x)[0]


def _near_tie(x):
    order = np.random.default_rng(1).permutation(256)
    one, two = x @ weights(256, 1), tf.gather(x, order, axis=1) @ tf.gather(weights(256, 1), order)
    return tf.argmax(tf.concat([one, two], 1), 1)


def _spectral_residual(x):
    return x - tf.signal.irfft(tf.signal.rfft(x))


def _spectrogram(x):
    frames = tf.signal.stft(x, 128, 64)
    return tf.math.log(tf.abs(frames) ** 2 + 1e-12)


def _mlp(x):
    for layer in range(6):
        x = tf.nn.relu(x @ weights(x.shape[-1], 256, seed=layer, scale=0.1))
    return tf.nn.softmax(x @ weights(256, 10))


def _half(dtype):
    def call(x):
        x = tf.cast(x, dtype)
        for layer in range(3):
            x = tf.nn.relu(x @ tf.cast(weights(x.shape[-1], 64, seed=layer, scale=0.2), dtype))
        return tf.cast(x, tf.float32) @ weights(64, 3)

    return call


def _half_label(x):
    return tf.argmax(_half(tf.bfloat16)(x), 1)


def _cancels(x):
    hidden = tf.tanh(1e3 * x) @ weights(16, 4096, scale=0.0) + 1.0
    signs = tf.constant([[1.0], [-1.0]] * 2048)
    return (hidden + 1e3) @ signs + 1e-3 * x[:, :1]


def _masked_mean(ids):
    mask = tf.cast(ids > 0, tf.float32)[:, :, None]
    return tf.reduce_sum(_embed(ids) * mask, [1, 2]) / tf.reduce_sum(mask, [1, 2])


def _masked_attention(ids):
    x, mask = _embed(ids), tf.cast(ids > 0, tf.float32)
    scores = x @ tf.transpose(x, [0, 2, 1]) - 1e9 * (1 - mask[:, None, :])
    return tf.reduce_sum((tf.nn.softmax(scores) @ x) * mask[:, :, None], 1)


def _rnn(x):
    state = tf.zeros([len_of(x), 32])
    for step in range(16):
        state = tf.tanh(state @ weights(32, 32) + x[:, step : step + 1] @ weights(1, 32))
    return state


def _conv(x):
    image = tf.reshape(x, [-1, 16, 16, 1])
    for layer in range(3):
        kernel = weights(3, 3, image.shape[-1], 8, seed=layer, scale=0.3)
        image = tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME"))
    return tf.reduce_mean(image, [1, 2])


def pure() -> dict[str, Callable[[], Case]]:
    """Return models whose scores are each row's own, many of them noisy, by name."""
    return {
        "identity": lambda: of_floats(lambda x: x, 1),
        "deep network": lambda: of_floats(_mlp, 64),
        "convolutions": lambda: of_floats(_conv, 256),
        "long sums": lambda: of_floats(lambda x: x @ weights(8192, 1), 8192),
        "long sums of lists": lambda: of_floats(lambda x: tf.reduce_sum(x, 1), 8192),
        "sums that cancel": lambda: of_floats(_cancels),
        "spectral residual": lambda: of_floats(_spectral_residual, 512),
        "log spectrogram": lambda: of_floats(_spectrogram, 512),
        "spectrum": lambda: of_floats(lambda x: tf.abs(tf.signal.rfft(x)), 500),
        "large logits": lambda: of_floats(lambda x: 1e6 * (x @ weights(256, 5)), 256),
        "softmax of large logits": lambda: of_floats(
            lambda x: tf.nn.softmax(1e4 * (x @ weights(256, 5))), 256
        ),
        "label near a tie": lambda: of_floats(_near_tie, 256),
        "label in half precision": lambda: of_floats(_half_label),
        "bfloat16 inside": lambda: of_floats(_half(tf.bfloat16)),
        "float16 inside": lambda: of_floats(_half(tf.float16)),
        "float16 outside": lambda: of_floats(
            lambda x: tf.cast(x @ weights(256, 5), tf.float16), 256
        ),
        "bfloat16 outside": lambda: of_floats(
            lambda x: tf.cast(x @ weights(256, 5), tf.bfloat16), 256
        ),
        "rounded to steps": lambda: of_floats(
            lambda x: tf.quantization.fake_quant_with_min_max_args(x @ weights(256, 9), -50, 50),
            256,
        ),
        "integers": lambda: of_floats(
            lambda x: tf.cast(tf.round(100 * (x @ weights(256, 9))), tf.int32), 256
        ),
        "small beside an offset": lambda: of_floats(lambda x: 1e6 + x @ weights(256, 1), 256),
        "constant": lambda: of_floats(lambda x: tf.ones_like(x), 1),
        "zero": lambda: of_floats(lambda x: 0.0 * x, 1),
        "not a number": lambda: of_floats(lambda x: tf.math.log(x), 1),
        "infinite": lambda: of_floats(lambda x: tf.exp(300 * x), 1),
        "solver": lambda: of_floats(
            lambda x: tf.linalg.solve(
                tf.reshape(x, [-1, 8, 8]), tf.ones([len_of(x), 8, 1])
            ), 64),
        "recurrent": lambda: of_floats(_rnn),
        "text": lambda: of_floats(
            lambda x: tf.where(x @ weights(256, 1) > 0.0, "high", "low"), 256
        ),
        "text of a number": lambda: of_floats(
            lambda x: tf.strings.as_string(x @ weights(256, 1), precision=3), 256
        ),
        "words": lambda: of_words(lambda w: tf.strings.length(w)),
        "hashed words": lambda: of_words(
            lambda w: tf.gather(weights(100, 4), tf.strings.to_hash_bucket_fast(w, 100))
        ),
        "masked mean": lambda: of_lists(_masked_mean),
        "masked attention": lambda: of_lists(_masked_attention),
        "lists as they are": lambda: of_lists(lambda ids: ids),
        "rows one by one": lambda: of_lists(
            lambda ids: tf.reduce_mean(_embed(ids), [1, 2])
        )._replace(batch_rows=1),
    }  # fmt: skip
