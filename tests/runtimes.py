"""Call SavedModels by both runtimes in one process, and compare the bits of their outputs.

`python -m tests.runtimes FOLDER [NAME=PATH…]` makes every model of `tests.runtime_models`, takes
the others where they are, and prints a JSON object: what came of each.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

import numpy as np

from scoreline.models.errors import ModelError
from scoreline.models.runtimes import ModelSource
from scoreline.models.runtimes.saved_model import load_saved_model
from scoreline.models.runtimes.tensorflow_c import CannotLoad, load_by_c
from scoreline.models.tensors import numpy_type
from tests.model_zoo import op_library

EQUAL = "equal"


def compare(path, feeds=None, op_libraries=()):
    """Return `equal`, what differs, or why the C API cannot call a model."""
    source = ModelSource(str(path), "serving_default", 1, op_libraries)
    try:
        by_c = load_by_c(source)
    except CannotLoad as e:
        return f"does not load: {e.reason}"
    except ModelError as e:
        return f"refused: {e}"
    feeds = feeds or blank_feeds(by_c.signature)
    names = [spec.name for spec in by_c.signature.outputs]
    try:
        found = [by_c.call(feeds, names) for _ in range(2)]
    except Exception as e:
        return f"fails: {e}"
    by_python = load_saved_model(*source)
    for number, outputs in enumerate(found):
        wanted = by_python.call(feeds, names)
        for name in names:
            if not are_equal(plain(outputs[name]), plain(wanted[name])):
                return f"call {number}, output {name}: {outputs[name]} is not {wanted[name]}"
    return EQUAL


def are_equal(a, b):
    """Return whether two arrays have the same dtype, shape and bits."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    if a.dtype == object:
        return a.tolist() == b.tolist()
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def plain(output):
    return output if isinstance(output, np.ndarray) else output.to_objects()


def blank_feeds(signature):
    """Return five random rows for inputs of fixed shape."""
    rng = np.random.default_rng(3)
    feeds = {}
    for spec in signature.inputs:
        shape = [5, *spec.row_shape]
        if spec.dtype == "string":
            feeds[spec.name] = np.full(shape, b"some text", object)
        else:
            feeds[spec.name] = (9 * rng.normal(size=shape)).astype(numpy_type(spec.dtype))
    return feeds


def examples(input_name):
    """Return serialized tf.Examples with and without the optional features of the zoo's models."""
    import tensorflow as tf

    def feature(**kind):
        return tf.train.Feature(
            **{
                name: {
                    "float_list": tf.train.FloatList,
                    "bytes_list": tf.train.BytesList,
                    "int64_list": tf.train.Int64List,
                }[name](value=value)
                for name, value in kind.items()
            }
        )

    def record(number):
        features = {
            "a": feature(float_list=[number * 0.5]),
            "c": feature(bytes_list=[b"x"] * number),
            "d": feature(int64_list=range(number)),
        }
        if number % 2:
            features["b"] = feature(float_list=[number * 0.25])
        whole = tf.train.Example(features=tf.train.Features(feature=features))
        return whole.SerializeToString()

    return {input_name: np.array([record(number) for number in range(9)], object)}


def main(folder, others):
    from tests.runtime_models import keras_models, modules, tf1  # noqa: F401  they add kinds
    from tests.runtime_models.saving import KINDS

    results = {}
    for name, make in KINDS.items():
        path = Path(folder, name, "model")
        path.parent.mkdir()
        try:
            results[name] = compare(path, make(path))
        except Exception:
            results[name] = traceback.format_exc()
    feeds = {
        "examples": examples("examples"),
        "estimator": examples("inputs"),
        "slow": {name: np.full(5, 1000, np.float32) for name in ("a", "b")},
    }
    for name, path in others.items():
        libraries = (op_library(),) if name == "custom_op" else ()
        try:
            results[name] = compare(path, feeds.get(name), libraries)
        except Exception:
            results[name] = traceback.format_exc()
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], dict(pair.split("=", 1) for pair in sys.argv[2:]))
