"""SavedModels whose calls take a time that is set: one computes, one only waits."""

from __future__ import annotations

from pathlib import Path

from scoreline.models.runtimes.tensorflow import import_tensorflow


def save_waiting(path: Path, *, us_per_row: int) -> str:
    """Save y = x, whose calls sleep for so many microseconds a row, and use next to no CPU.

    The op sleeps, not Python. Calls of one process sleep one after the other.
    """
    tf = import_tensorflow()
    from tensorflow.python.data.ops import dataset_ops
    from tensorflow.python.ops import gen_experimental_dataset_ops as ops

    def serve(x):
        one = tf.data.Dataset.range(1)
        microseconds = tf.shape(x, out_type=tf.int64)[0] * us_per_row
        slow = ops.sleep_dataset(one._variant_tensor, microseconds, **one._flat_structure)
        # Without `take` it would also sleep before the end.
        slept = dataset_ops._VariantDataset(slow, one.element_spec).take(1)
        zero = slept.reduce(tf.constant(0, tf.int64), lambda total, each: total + each)
        return {"y": x + tf.cast(zero, tf.float32)}

    return _save(tf, path, serve)


def save_busy(path: Path, *, products_per_row: int = 1, size: int = 64) -> str:
    """Save y = x, whose calls multiply matrices so many times for each row."""
    tf = import_tensorflow()

    def serve(x):
        turns = tf.shape(x)[0] * products_per_row
        first = tf.zeros([size, size]) + tf.reduce_sum(x) * 0
        _, last = tf.while_loop(
            lambda turn, _: turn < turns,
            lambda turn, matrix: (turn + 1, tf.tanh(tf.matmul(matrix, matrix))),
            [0, first],
        )
        return {"y": x + last[0, 0]}

    return _save(tf, path, serve)


def _save(tf, path: Path, serve) -> str:
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.float32, name="x")
    module.serve = tf.function(serve, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return str(path)
