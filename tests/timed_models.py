"""A SavedModel whose calls compute for a time that is set; `demo/waiting_model.py` only waits."""

from __future__ import annotations

from pathlib import Path

from scoreline.models.runtimes.tensorflow import import_tensorflow


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

    module = tf.Module()
    spec = tf.TensorSpec([None], tf.float32, name="x")
    module.serve = tf.function(serve, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return str(path)
