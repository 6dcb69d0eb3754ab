from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from models.deadline import CallTimeout, call_within
from models.servable import load_servable
from models.tensorflow_runtime import import_tensorflow
from tests.model_zoo import save_function


def test_result_and_error_of_a_call_come_through():
    assert call_within(60, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        call_within(60, lambda: 1 // 0)


def test_a_call_that_takes_too_long_is_cancelled_and_given_up():
    never, cancelled = threading.Event(), threading.Event()

    def cancel():
        cancelled.set()
        never.set()

    with pytest.raises(CallTimeout, match=r"took longer than 0\.05 s and was given up"):
        call_within(0.05, never.wait, cancel)
    assert cancelled.is_set()


def save_spinning(path):
    """Save a model that never ends on a row above 100; y = x elsewhere."""
    tf = import_tensorflow()

    def serve(x):
        turns = tf.while_loop(lambda i: tf.reduce_any(x > 100.0), lambda i: [i + 1], [0])
        return {"y": x + 0.0 * tf.cast(turns[0], tf.float32)}

    return save_function(path, serve, tf.TensorSpec([None], tf.float32, name="x"))


def test_a_servable_stays_healthy_after_calls_that_hang(tmp_path):
    servable = load_servable(save_spinning(tmp_path / "m"), concurrent_calls=1, timeout_s=0.5)
    for _ in range(4):  # more than there are threads for calls
        with pytest.raises(CallTimeout):
            servable.predict({"x": pa.array([1.0, 1e6], pa.float32())}, 2)
    assert servable.predict({"x": pa.array([1.0], pa.float32())}, 1)["y"].to_pylist() == [1.0]
