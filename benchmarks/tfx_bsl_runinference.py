"""tfx-bsl's RunInference over keyed, serialized tf.Examples.

It needs a signature that takes serialized examples. `--export` wraps the model's signature in one;
this is not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from benchmarks import peer

# The type of tf.train.Example for each input dtype.
_HELD_AS = {"string": "string", "float": "float32", "double": "float32"}


def export(model: str, output: str, fills: dict[str, str]) -> None:
    """Write a SavedModel that parses examples and calls the model's signature."""
    import tensorflow as tf

    inputs, _ = peer.read_signature(model)
    blanks = {"string": "", "float32": "0", "int64": "0"}
    features = {}
    for name, dtype in inputs.items():
        held = _HELD_AS.get(dtype, "int64")
        default = peer.parse_fill(dtype, fills.get(name, blanks[held]))
        features[name] = tf.io.FixedLenFeature([], held, default)
    module = tf.Module()
    module.model = tf.saved_model.load(model)
    signature = module.model.signatures["serving_default"]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(examples, features)
        return signature(**{name: tf.cast(parsed[name], inputs[name]) for name in inputs})

    tf.saved_model.save(module, output, signatures={"serving_default": serve})


def to_example(row: peer.Row, inputs: dict[str, str]) -> bytes:
    """Return a row as a serialized example; a null is a missing feature."""
    import tensorflow as tf

    example = tf.train.Example()
    feature = example.features.feature
    for name, dtype in inputs.items():
        value = row[name]
        if value is None:
            continue
        held = _HELD_AS.get(dtype, "int64")
        if held == "string":
            feature[name].bytes_list.value.append(value.encode())
        elif held == "float32":
            feature[name].float_list.value.append(value)
        else:
            feature[name].int64_list.value.append(value)
    return example.SerializeToString()


def to_row(kept: peer.Row, log: Any, outputs: dict[str, str], digest: str) -> peer.Row:
    """Return the scored row of a PredictionLog."""
    import tensorflow as tf

    tensors = log.predict_log.response.outputs
    scores = {name: tf.make_ndarray(tensors[name]).reshape(-1)[0] for name in outputs}
    return {**kept, **scores, "model_digest": digest}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples_model", required=True, help="the model that takes examples")
    parser.add_argument("--export", action="store_true", help="export that model and exit")
    args = peer.parse_args(parser, argv)
    if args.export:
        export(args.model, args.examples_model, args.fill)
    else:
        score(args)


def score(args: argparse.Namespace) -> None:
    """Score rows with RunInference."""
    from tfx_bsl.public.beam import RunInference
    from tfx_bsl.public.proto import model_spec_pb2

    inputs, outputs = peer.read_signature(args.model)
    spec = model_spec_pb2.InferenceSpecType(
        saved_model_spec=model_spec_pb2.SavedModelSpec(model_path=args.examples_model)
    )
    carried, digest = args.carried, args.model_digest

    def to_keyed(row: peer.Row) -> tuple[peer.Row, bytes]:
        return {name: row[name] for name in carried}, to_example(row, inputs)

    def from_keyed(kept: peer.Row, log: Any) -> peer.Row:
        return to_row(kept, log, outputs, digest)

    def predict(rows: beam.PCollection) -> beam.PCollection:
        keyed = beam.Map(to_keyed).with_output_types(tuple[peer.Row, bytes])
        return (
            rows
            | "ToExample" >> keyed
            | "Predict" >> RunInference(spec)
            | "ToRow" >> beam.MapTuple(from_keyed)
        )

    peer.run(args, list(inputs), outputs, predict)


if __name__ == "__main__":
    main()
