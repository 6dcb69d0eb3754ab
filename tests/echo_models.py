"""Models of every format that return their inputs: an output `y_<input>` for each input.

An input is a cell: a dtype and the shape of a row. Each format is written in its own process,
because TF1 graphs and Keras need their own state: `python -m tests.echo_models KIND WORK`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.forks import fork


class Cell(NamedTuple):
    """One input: its dtype and the shape of a row; None is a free size."""

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def name(self) -> str:
        return "_".join([self.dtype, *("n" if s is None else str(s) for s in self.shape)])

    def __lt__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.name < other.name


def parse_cell(name: str) -> Cell:
    dtype, *sizes = name.split("_")
    return Cell(dtype, tuple(None if size == "n" else int(size) for size in sizes))


def save_module(path: Path, cells: Sequence[Cell]) -> None:
    """Save a function of named tensors with `tf.saved_model.save`."""
    tf = import_tensorflow()
    module = tf.Module()
    module.serve = _echo(tf).get_concrete_function(**_specs(tf, cells))
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


def save_litert(path: Path, cells: Sequence[Cell]) -> None:
    """Save the same function as a .tflite file."""
    tf = import_tensorflow()
    module = tf.Module()
    module.serve = _echo(tf)
    function = module.serve.get_concrete_function(**_specs(tf, cells))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    path.write_bytes(converter.convert())


def _specs(tf, cells):
    return {
        cell.name: tf.TensorSpec([None, *cell.shape], cell.dtype, name=cell.name) for cell in cells
    }


def _echo(tf):
    return tf.function(lambda **given: {f"y_{name}": tf.identity(x) for name, x in given.items()})


def save_tf1(path: Path, cells: Sequence[Cell]) -> None:
    """Save a TF1 graph of placeholders."""
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_eager_execution()
    with v1.Graph().as_default(), v1.Session() as session:
        inputs = {c.name: v1.placeholder(c.dtype, [None, *c.shape], c.name) for c in cells}
        outputs = {f"y_{name}": tf.identity(x) for name, x in inputs.items()}
        signature = v1.saved_model.predict_signature_def(inputs, outputs)
        builder = v1.saved_model.Builder(str(path))
        tags = [v1.saved_model.tag_constants.SERVING]
        builder.add_meta_graph_and_variables(session, tags, {"serving_default": signature})
        builder.save()


def save_examples(path: Path, cells: Sequence[Cell]) -> None:
    """Save a signature that parses the cells from serialized tf.Examples."""
    tf = import_tensorflow()
    features = {
        cell.name: tf.io.RaggedFeature(cell.dtype)
        if cell.shape == (None,)
        else tf.io.FixedLenFeature(cell.shape, cell.dtype)
        for cell in cells
    }

    def serve(examples):
        parsed = tf.io.parse_example(examples, features)
        return {
            f"y_{name}": x.to_tensor() if isinstance(x, tf.RaggedTensor) else x
            for name, x in parsed.items()
        }

    module = tf.Module()
    spec = tf.TensorSpec([None], tf.string, name="examples")
    module.serve = tf.function(serve, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


def _keras_model(cells):
    import keras

    inputs = {c.name: keras.Input(c.shape, dtype=c.dtype, name=c.name) for c in cells}
    outputs = {}
    for cell in cells:
        # A layer casts floats to its own dtype, and no other values.
        dtype = cell.dtype if "float" in cell.dtype else None
        layer = keras.layers.Identity(name=f"y_{cell.name}", dtype=dtype)
        outputs[f"y_{cell.name}"] = layer(inputs[cell.name])
    return keras.Model(inputs, outputs)


def save_keras(path: Path, cells: Sequence[Cell]) -> None:
    """Save a Keras 3 model as a .keras file."""
    _keras_model(cells).save(str(path))


def save_keras_export(path: Path, cells: Sequence[Cell]) -> None:
    """Save a Keras 3 model with `model.export`."""
    _keras_model(cells).export(str(path), verbose=False)


WRITERS: dict[str, Callable[[Path, Sequence[Cell]], None]] = {
    "module": save_module,
    "tf1": save_tf1,
    "keras_3_export": save_keras_export,
    "model.keras": save_keras,
    "model.tflite": save_litert,
    "examples": save_examples,
}


def save_echoes(kind: str, folder: Path, sets: Mapping[str, Sequence[Cell]]) -> dict[str, str]:
    """Save a model for each named set of cells, in one process, and return their paths."""
    models: dict[tuple[str, ...], Path] = {}  # equal sets share a model
    paths = {
        name: models.setdefault(tuple(cell.name for cell in cells), folder / name / kind)
        for name, cells in sets.items()
    }
    for path in models.values():
        path.parent.mkdir()
    work = [(str(path), names) for names, path in models.items()]
    saving = fork(
        __name__, kind, json.dumps(work), environment=os.environ, libraries=("tensorflow",)
    )
    _, told = saving.communicate(300)
    assert saving.returncode == 0, told[-3000:]
    return {name: str(path) for name, path in paths.items()}


if __name__ == "__main__":
    for path, names in json.loads(sys.argv[2]):
        WRITERS[sys.argv[1]](Path(path), [parse_cell(name) for name in names])
