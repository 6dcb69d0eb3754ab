"""One run of `benchmarks.formats`: score rows with a model file, directly or with a servable.

    python -m benchmarks.format_run save FOLDER
    python -m benchmarks.format_run direct|servable MODEL columns|serialized ROWS RESULT

A direct call is hand-written code for that format. Its input is NumPy arrays in memory, or an Arrow
column of serialized records, in calls of the best size for the format. The servable takes Arrow
record batches and returns Arrow columns.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow as pa

_FEATURES = 16
_CALL_ROWS = 32_768
_BATCH_ROWS = 65_536
_SAMPLE_ROWS = 50
_NAMES = [f"x{i:02d}" for i in range(_FEATURES)]


def save(folder: Path) -> None:
    """Save the network in every format, unless the files exist."""
    if (folder / "model.tflite").exists():
        return
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(7)
    inputs = [keras.Input((1,), name=name) for name in _NAMES]
    hidden = keras.layers.Concatenate()(inputs)
    for units in (64, 64):
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
    model = keras.Model(
        dict(zip(_NAMES, inputs, strict=True)), {"y": keras.layers.Dense(1, name="y")(hidden)}
    )
    model.save(folder / "model.keras")
    model.export(str(folder / "saved_model"), verbose=False)

    module = tf.Module()
    module.model = model
    spec = {name: tf.io.FixedLenFeature([1], tf.float32) for name in _NAMES}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: Any) -> Any:
        return module.model(tf.io.parse_example(examples, spec), training=False)

    tf.saved_model.save(module, str(folder / "examples"), signatures={"serving_default": serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved_model"))
    (folder / "model.tflite").write_bytes(converter.convert())


def make_rows(rows: int) -> dict[str, np.ndarray]:
    """Return columns of numbers; fewer rows are a prefix of more rows."""
    distinct = np.random.default_rng(7).random((_BATCH_ROWS, _FEATURES), np.float32)
    at = np.arange(rows) % _BATCH_ROWS
    return {name: distinct[at, i] for i, name in enumerate(_NAMES)}


def to_records(columns: dict[str, np.ndarray]) -> list[bytes]:
    """Return serialized tf.Examples of the columns."""
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    rows = len(next(iter(columns.values())))
    offsets = pa.array(np.arange(rows + 1))
    arrays = [pa.LargeListArray.from_arrays(offsets, pa.array(c)) for c in columns.values()]
    batch = pa.RecordBatch.from_arrays(arrays, list(columns))
    return list(RecordBatchToExamplesEncoder().encode(batch))


def direct(model: str, columns: dict[str, Any], form: str) -> Callable[[int, int], np.ndarray]:
    """Return a function that scores rows start to stop with the format's own library."""
    if model.endswith(".tflite"):
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(model_path=model, num_threads=1).get_signature_runner(
            "serving_default"
        )
        return lambda start, stop: runner(**_part(columns, start, stop))["y"]
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if model.endswith(".keras"):
        import keras

        loaded = keras.saving.load_model(model, compile=False)
        function = tf.function(lambda x: loaded(x, training=False))
        return lambda start, stop: function(_tensors(tf, columns, start, stop))["y"].numpy()
    signature = tf.saved_model.load(model).signatures["serving_default"]
    name = next(iter(signature.structured_outputs))
    if model.endswith("examples"):
        if form == "serialized":
            records = pa.array(columns["examples"], pa.binary())
            return lambda a, b: signature(
                examples=tf.constant(records[a:b].to_numpy(zero_copy_only=False))
            )[name].numpy()
        return lambda a, b: signature(examples=tf.constant(to_records(_cut(columns, a, b))))[
            name
        ].numpy()
    return lambda a, b: signature(**_tensors(tf, columns, a, b))[name].numpy()


def _cut(columns: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    return {name: column[start:stop] for name, column in columns.items()}


def _part(columns: dict[str, Any], start: int, stop: int) -> dict[str, np.ndarray]:
    return {name: column[start:stop].reshape(-1, 1) for name, column in columns.items()}


def _tensors(tf: Any, columns: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    return {name: tf.constant(part) for name, part in _part(columns, start, stop).items()}


def servable(model: str, columns: dict[str, Any], form: str) -> Callable[[int, int], np.ndarray]:
    """Return a function that scores rows start to stop with Scoreline."""
    from scoreline.models.servable import load_servable

    loaded = load_servable(model, concurrent_calls=1)
    name = loaded.signature.outputs[0].name
    kind = pa.binary() if form == "serialized" else pa.float32()
    batch = pa.RecordBatch.from_pydict({n: pa.array(c, kind) for n, c in columns.items()})

    def score(start: int, stop: int) -> np.ndarray:
        part = batch.slice(start, stop - start)
        features = dict(zip(part.schema.names, part.columns, strict=True))
        return loaded.predict(features, stop - start, [name])[name].to_numpy()

    return score


def main() -> None:
    caller, model, form, rows, result = sys.argv[1:6]
    columns: dict[str, Any] = make_rows(int(rows))
    if form == "serialized":
        columns = {"examples": to_records(columns)}
    design = {"direct": direct, "servable": servable}[caller]
    step = _CALL_ROWS if caller == "direct" else _BATCH_ROWS
    score = design(model, columns, form)
    sample = score(0, _SAMPLE_ROWS).reshape(-1)
    for _ in range(8 if int(rows) > _BATCH_ROWS else 0):  # warm-up: call sizes, traces
        score(0, step)
    before = resource.getrusage(resource.RUSAGE_SELF)
    for start in range(0, int(rows), step):
        score(start, min(start + step, int(rows)))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cost = {"cpu_us_per_row": cpu_s / int(rows) * 1e6, "sample": sample.tolist()}
    Path(result).write_text(json.dumps(cost))


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save(Path(sys.argv[2]))
    else:
        main()
