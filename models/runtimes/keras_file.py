"""`.keras` files, written by Keras 3."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from scoreline.models.errors import ModelError, first_lines
from scoreline.models.runtimes.saved_model import ConcreteFunction, read_specs
from scoreline.models.runtimes.tensorflow import prepare_tensorflow
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature


def load_keras(
    path: str,
    signature_name: str,
    concurrent_calls: int | None = None,
    op_libraries: Sequence[str] = (),
) -> ConcreteFunction:
    """Load a `.keras` file; its inputs and outputs have the names of its layers.

    The only signature is `serving_default`: the model's call for inference. Keras's safe mode stays
    on, so a file that stores code (Lambda layers) is refused.

    Raises:
      ModelError: another signature, custom classes, stored code, or a file that does not load.
    """
    if signature_name != DEFAULT_SIGNATURE:
        raise ModelError(
            f"--signature: a .keras file has only '{DEFAULT_SIGNATURE}', not '{signature_name}'"
        )
    tf = prepare_tensorflow(concurrent_calls, op_libraries)
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras

    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as e:  # any failure of foreign code is an error of the model
        raise ModelError(f"Model {path} does not load: {_explain(e)}") from e
    try:
        specs = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]
    except (AttributeError, ValueError) as e:  # a subclassed model that was never built
        raise ModelError(
            f"Model {path} does not say what inputs it has. Export it with model.export(…) as a "
            "SavedModel"
        ) from e
    function = tf.function(_named_call(model, keras)).get_concrete_function(
        **{spec.name: spec for spec in specs}
    )
    function._scoreline_model = model  # the function holds only weak references to the variables
    return ConcreteFunction(
        function,
        Signature(
            signature_name,
            read_specs({spec.name: spec for spec in specs}),
            read_specs(function.structured_outputs),
        ),
    )


def _named_call(model: Any, keras: Any) -> Any:
    names = [tensor.name for tensor in model.inputs]
    outputs = list(model.output_names)

    def call(**inputs: Any) -> dict[str, Any]:
        flat = [inputs[name] for name in names]
        given = keras.tree.pack_sequence_as(model.input, flat)
        result = model(given, training=False)
        if isinstance(result, Mapping):
            return dict(result)
        return dict(zip(outputs, keras.tree.flatten(result), strict=True))

    return call


def _explain(error: Exception) -> str:
    # Keras quotes the whole configuration before the actual message.
    point = str(error).rpartition("Exception encountered: ")[2] or str(error)
    text = f"{type(error).__name__}: {first_lines(ValueError(point))}"
    advice = "export it where its code is, with model.export(…), as a SavedModel"
    if "custom" in text.lower() or "locate class" in text.lower():
        return f"{text}. It has classes of its own; {advice}"
    if "safe_mode" in text or "Lambda" in text:
        return f"{text}. It holds code, which is not run; {advice}"
    return text
