"""A model whose calls only wait, as for a remote service: any number of them fits on two cores."""

from __future__ import annotations

from pathlib import Path

from scoreline.models.runtimes.tensorflow import import_tensorflow


def save_waiting(path: Path, *, us_per_row: int, column: str = "x") -> str:
    """Save y = x, whose calls sleep for so many microseconds a row, and use next to no CPU.

    The op sleeps, not Python. Calls of one process sleep one after the other.

    Args:
      path: folder of the SavedModel.
      us_per_row: microseconds of a row.
      column: name of the input x.
    """
    tf = import_tensorflow()
    from tensorflow.python.data.ops import dataset_ops
    from tensorflow.python.ops import gen_experimental_dataset_ops as ops

    def serve(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  traced by TensorFlow
        one = tf.data.Dataset.range(1)
        microseconds = tf.shape(x, out_type=tf.int64)[0] * us_per_row
        slow = ops.sleep_dataset(one._variant_tensor, microseconds, **one._flat_structure)
        # Without `take` it would also sleep before the end.
        slept = dataset_ops._VariantDataset(slow, one.element_spec).take(1)
        zero = slept.reduce(tf.constant(0, tf.int64), lambda total, each: total + each)
        return {"y": x + tf.cast(zero, tf.float32)}

    module = tf.Module()
    spec = tf.TensorSpec([None], tf.float32, name=column)
    module.serve = tf.function(serve, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return str(path)
