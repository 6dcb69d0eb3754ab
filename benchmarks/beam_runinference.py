"""Beam's own RunInference over rows, with a handler that can load the model.

Beam's TFModelHandlerNumpy uses Keras to load the SavedModel, and Keras 3 rejects it. This handler
loads it with `tf.saved_model.load` and otherwise works like Beam's: it stacks the rows of a batch,
calls the model, and returns one PredictionResult per row.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference

from benchmarks import peer

# Maximum batch size that Beam chooses by itself; also the fastest for this design.
_BATCH_ROWS = 1024


class RowHandler(ModelHandler[peer.Row, PredictionResult, Any]):
    """Scores rows (dictionaries of scalars) with a SavedModel."""

    def __init__(
        self,
        model: str,
        inputs: dict[str, str],
        fills: dict[str, Any],
        min_batch_rows: int = _BATCH_ROWS,
        max_batch_seconds: int | None = None,
    ) -> None:
        """Store the path of the model, the dtypes of its inputs, and the values for nulls."""
        super().__init__(
            min_batch_size=min_batch_rows,
            max_batch_size=_BATCH_ROWS,
            max_batch_duration_secs=max_batch_seconds,
        )
        self._model, self._inputs, self._fills = model, inputs, fills

    def load_model(self) -> Any:
        """Load the SavedModel and return its signature."""
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        loaded = tf.saved_model.load(self._model)
        function = loaded.signatures["serving_default"]
        function.keep_alive = loaded
        return function

    def run_inference(
        self, batch: Sequence[peer.Row], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        """Return the outputs of each row."""
        import tensorflow as tf

        tensors = {}
        for name, dtype in self._inputs.items():
            values = [row[name] for row in batch]
            if name in self._fills:
                fill = self._fills[name]
                values = [fill if value is None else value for value in values]
            tensors[name] = tf.constant(values, dtype)
        outputs = {k: v.numpy().reshape(-1) for k, v in model(**tensors).items()}
        for i, row in enumerate(batch):
            yield PredictionResult(row, {name: values[i] for name, values in outputs.items()})


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    args = peer.parse_args(parser, argv)
    inputs, outputs = peer.read_signature(args.model)
    fills = {name: peer.parse_fill(inputs[name], text) for name, text in args.fill.items()}
    handler = RowHandler(args.model, inputs, fills)
    carried, digest = args.carried, args.model_digest

    def to_row(result: Any) -> peer.Row:
        kept = {name: result.example[name] for name in carried}
        return {**kept, **result.inference, "model_digest": digest}

    def predict(rows: beam.PCollection) -> beam.PCollection:
        return rows | "Predict" >> RunInference(handler) | "ToRow" >> beam.Map(to_row)

    peer.run(args, list(inputs), outputs, predict)


if __name__ == "__main__":
    main()
