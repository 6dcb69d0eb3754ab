"""Save models in few lines, and list their kinds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

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
