"""`.keras` files, written by Keras 3."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scoreline.models.errors import ModelError, first_lines
from scoreline.models.runtimes.model import Runtime
from scoreline.models.runtimes.saved_model import ConcreteFunction, read_specs
from scoreline.models.runtimes.tensorflow import prepare_tensorflow
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature, unique_names

_EXPORT = "export it where its code is, with model.export(…), as a SavedModel"

# The names of graphs' scopes and placeholders cannot hold every character, nor need they.
_SCOPE_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*\Z")
_NO_SCOPE_CHARACTER = re.compile(r"[^A-Za-z0-9_.\\/>-]")


def load_keras(
    path: str,
    signature_name: str,
    concurrent_calls: int | None = None,
    op_libraries: Sequence[str] = (),
) -> ConcreteFunction:
    """Load a `.keras` file; its inputs and outputs have the names of its layers.

    The only signature is `serving_default`: the model's call for inference. Keras's safe mode stays
    on, so a file that stores code (Lambda layers) is refused. Inputs and outputs are bound by
    position. Outputs of one layer are numbered: `head_0`, `head_1`. A dictionary of outputs gives
    them the names of its keys, joined by `_` if it is nested.

    Raises:
      ModelError: another signature, custom classes, stored code, or a file that does not load.
    """
    if signature_name != DEFAULT_SIGNATURE:
        raise ModelError(
            f"--signature: a .keras file has only '{DEFAULT_SIGNATURE}', not '{signature_name}'"
        )
    tf = prepare_tensorflow(concurrent_calls, op_libraries)
    keras = _import_keras()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the model was written
            model = keras.saving.load_model(path, compile=False)
    except Exception as e:  # any failure of foreign code is an error of the model
        raise ModelError(f"Model {path} does not load: {_explain(e, path, keras)}") from e
    try:
        tensors = list(model.inputs)
    except (AttributeError, TypeError, ValueError) as e:  # a subclassed model, never built
        raise ModelError(
            f"Model {path} does not say what inputs it has. Export it with model.export(…) as a "
            "SavedModel"
        ) from e
    _refuse_other_tensors(path, tensors)
    names = unique_names([tensor.name for tensor in tensors], "input")
    layers = _output_layers(model)
    _rename_layers(model)
    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=f"input_{position}")
        for position, tensor in enumerate(tensors)
    ]
    call = tf.function(_call_by_position(model, layers, keras), autograph=False)
    try:
        function = call.get_concrete_function(*specs)
    except Exception as e:  # any failure of foreign code is an error of the model
        raise ModelError(
            f"Model {path} loads, but cannot be called: {type(e).__name__}: {first_lines(e)}"
        ) from e
    function._scoreline_model = model  # the function holds only weak references to the variables
    return ConcreteFunction(
        function,
        Signature(
            signature_name,
            read_specs(dict(zip(names, specs, strict=True))),
            read_specs(function.structured_outputs),
        ),
        names,
        Runtime("keras"),
    )


def _import_keras() -> Any:
    """Import Keras on TensorFlow, whatever the environment or ~/.keras/keras.json asks for.

    Raises:
      ModelError: Keras cannot be imported, or this process uses it on another framework already.
    """
    if sys.modules.get("keras") is None:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import keras
    except Exception as e:  # any failure of foreign code
        given = ", ".join(sorted(name for name in os.environ if name.startswith("KERAS_")))
        raise ModelError(
            f"A .keras file needs Keras 3, which cannot be imported: {type(e).__name__}: "
            f"{first_lines(e)}. Variables of the environment that change it: {given}"
        ) from e
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ModelError(
            f"A .keras file needs Keras on TensorFlow, this process runs Keras on {backend}. "
            "Start it with KERAS_BACKEND=tensorflow, or set that before Keras is imported"
        )
    return keras


def _refuse_other_tensors(path: str, tensors: Sequence[Any]) -> None:
    """Raise ModelError if an input is ragged or sparse: a dense tensor would mean another thing."""
    for tensor in tensors:
        kinds = [kind for kind in ("ragged", "sparse") if getattr(tensor, kind, False)]
        if kinds:
            raise ModelError(
                f"Model {path} has input '{tensor.name}' as a {kinds[0]} tensor; expected a dense "
                "one. Export it with model.export(…) from a wrapper with dense inputs"
            )


def _output_layers(model: Any) -> list[str]:
    """Return the name of the layer of each output, in order."""
    names = getattr(model, "output_names", None)  # a Sequential model has none
    return [model.layers[-1].name] if names is None else list(names)


def _rename_layers(model: Any) -> None:
    """Give layers names that TensorFlow's graphs accept: they name scopes of the trace only."""
    for layer in getattr(model, "layers", ()):
        if not _SCOPE_NAME.match(layer.name):
            layer.name = "layer_" + _NO_SCOPE_CHARACTER.sub("_", layer.name)
        _rename_layers(layer)


def _call_by_position(model: Any, layers: Sequence[str], keras: Any) -> Any:
    try:
        structure = model.input
    except AttributeError:  # a Sequential model
        structure = model.inputs[0]

    def call(*inputs: Any) -> dict[str, Any]:
        given = keras.tree.pack_sequence_as(structure, list(inputs))
        result = model(given, training=False)
        if isinstance(result, Mapping):
            named = list(_flatten(result, ""))
        else:
            named = list(zip(layers, keras.tree.flatten(result), strict=True))
        names = unique_names([name for name, _ in named], "output")
        return dict(zip(names, (tensor for _, tensor in named), strict=True))

    return call


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Return the tensors of nested outputs, each with the keys and positions that lead to it."""
    if isinstance(value, Mapping):
        parts = [(str(key), value[key]) for key in value]
    elif isinstance(value, (list, tuple)):
        parts = [(str(position), part) for position, part in enumerate(value)]
    else:
        yield name, value
        return
    for key, part in parts:
        yield from _flatten(part, f"{name}_{key}" if name else key)


def _explain(error: Exception, path: str, keras: Any) -> str:
    # Keras quotes the whole configuration before the actual message, or after it.
    point = str(error).rpartition("Exception encountered: ")[2] or str(error)
    point = point.partition(" Full object config:")[0]
    text = f"{type(error).__name__}: {first_lines(ValueError(point))}"
    writer = read_keras_version(path)
    if writer.startswith(("1.", "2.")):
        return (
            f"Keras {writer} wrote it, and Keras {keras.__version__} cannot read every such file "
            f"({text}). Load it with tf_keras (pip install tf_keras), and save it as a SavedModel: "
            "tf_keras.models.load_model(PATH).export(FOLDER)"
        )
    if "safe_mode" in text or "Lambda" in text:
        return f"{text}. It holds code, which is not run; {_EXPORT}"
    if "custom" in text.lower() or "locate class" in text.lower():
        return f"{text}. It has classes of its own; {_EXPORT}"
    if _is_newer(writer, keras.__version__):
        return (
            f"Keras {writer} wrote it, Keras {keras.__version__} is installed ({text}). Install "
            f"the newer Keras, or {_EXPORT}"
        )
    return text


def read_keras_version(path: str) -> str:
    """Return the version of Keras that wrote a file; "" if the file does not tell."""
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read("metadata.json"))
        return str(metadata.get("keras_version", ""))
    except (OSError, KeyError, ValueError, AttributeError, zipfile.BadZipFile):
        return ""


def _is_newer(writer: str, installed: str) -> bool:
    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split(".")[:2] if part.isdigit()]

    return numbers(writer) > numbers(installed)
