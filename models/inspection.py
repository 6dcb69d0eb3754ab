"""Describe a model from its files: format, writer, size, signatures, ops of concern.

No part of the model runs. A SavedModel is code: its graph can read and write files. This report
shows such ops before the model is loaded.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scoreline.models.artifact import KERAS, LITERT, digest_model, model_format_of
from scoreline.models.errors import ModelError, first_lines
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature, TensorSpec

_READS = "reads files"
_WRITES = "writes files"
_PYTHON = "calls Python code of the process that exported it, and fails anywhere else"
_RANDOM = "draws random numbers: scores may differ between runs"
_PRINTS = "prints"
# Ops in a scoring graph that its user should know about. Ops that save and restore variables, which
# every SavedModel has, and tables read from its own assets are not in the list.
OPS_OF_CONCERN: Mapping[str, str] = {
    **dict.fromkeys(("ReadFile", "MatchingFiles", "WholeFileReaderV2", "TextLineReaderV2"), _READS),
    **dict.fromkeys(("TFRecordDataset", "TFRecordDatasetV2", "TextLineDataset"), _READS),
    **dict.fromkeys(("WriteFile", "WriteSummary", "WriteImageSummary", "DebugIdentityV2"), _WRITES),
    **dict.fromkeys(("PyFunc", "PyFuncStateless", "EagerPyFunc"), _PYTHON),
    **dict.fromkeys(("RandomUniform", "RandomStandardNormal", "TruncatedNormal"), _RANDOM),
    **dict.fromkeys(("RandomShuffle", "Multinomial", "RandomUniformInt"), _RANDOM),
    **dict.fromkeys(("Print", "PrintV2"), _PRINTS),
}


class Concern(NamedTuple):
    """An op that the user should know about: its name, how often it occurs, and what it does."""

    op: str
    times: int
    meaning: str


class ModelReport(NamedTuple):
    """Description of a model.

    Attributes:
      path: its directory or file.
      format: SavedModel, Keras or LiteRT.
      writer: the program that wrote it, if the model records it.
      digest: `sha256:…` of its files.
      size_bytes: total size of its files.
      signatures: its signatures by name; one that takes tf.Examples shows its single string input.
      concerns: ops that the user should know about, by name.
    """

    path: str
    format: str
    writer: str
    digest: str
    size_bytes: int
    signatures: tuple[Signature, ...]
    concerns: tuple[Concern, ...]


def inspect_model(path: str) -> ModelReport:
    """Describe the model at a path.

    Raises:
      FileNotFoundError: there is no model.
      ModelError: its files cannot be read.
    """
    digest = digest_model(path)
    found = model_format_of(path)
    readers = {KERAS: _read_keras, LITERT: _read_litert}
    try:
        writer, signatures, ops = readers.get(found or "", _read_saved_model)(path)
    except ModelError:
        raise
    except Exception as e:  # any failure of foreign code is an error of the model
        raise ModelError(
            f"Model {path} cannot be read: {type(e).__name__}: {first_lines(e)}"
        ) from e
    root = Path(path)
    files = [root] if root.is_file() else [p for p in root.rglob("*") if p.is_file()]
    return ModelReport(
        path=path,
        format=found or "",
        writer=writer,
        digest=digest,
        size_bytes=sum(file.stat().st_size for file in files),
        signatures=tuple(sorted(signatures)),
        concerns=_find_concerns(ops),
    )


def _find_concerns(ops: Iterable[str]) -> tuple[Concern, ...]:
    counts: dict[str, int] = {}
    for op in ops:
        if op in OPS_OF_CONCERN:
            counts[op] = counts.get(op, 0) + 1
    return tuple(Concern(op, count, OPS_OF_CONCERN[op]) for op, count in sorted(counts.items()))


_Read = tuple[str, list[Signature], list[str]]


def _read_saved_model(path: str) -> _Read:
    from scoreline.models.runtimes.tensorflow import import_tensorflow

    import_tensorflow()
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = Path(path) / "saved_model.pb"
    if not file.is_file():
        raise ModelError(f"Model {path} is written as text (saved_model.pbtxt), which is not read")
    proto = SavedModel.FromString(file.read_bytes())
    signatures, ops = [], []
    for graph in proto.meta_graphs:
        for name, definition in graph.signature_def.items():
            if not name.startswith("__"):
                inputs, outputs = map(_read_tensors, (definition.inputs, definition.outputs))
                signatures.append(Signature(name, inputs, outputs))
        ops += [node.op for node in graph.graph_def.node]
        bodies = graph.graph_def.library.function
        ops += [node.op for body in bodies for node in body.node_def]
    return _describe_writer(path, proto), signatures, ops


def _describe_writer(path: str, proto: Any) -> str:
    graph = proto.meta_graphs[0]
    version = graph.meta_info_def.tensorflow_version or "of unknown version"
    kinds = {node.user_object.identifier for node in graph.object_graph_def.nodes}
    if not graph.object_graph_def.nodes:
        return f"TensorFlow {version}, as a TF1 graph"
    if (Path(path) / "keras_metadata.pb").is_file() or any("_tf_keras" in k for k in kinds):
        return f"Keras 2 on TensorFlow {version}"
    return f"TensorFlow {version}"


def _read_tensors(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    import tensorflow as tf

    specs = []
    for name, info in sorted(tensors.items()):
        shape = tf.TensorShape(info.tensor_shape)
        sizes = None if shape.rank is None else tuple(shape.as_list())
        specs.append(TensorSpec(name, tf.dtypes.as_dtype(info.dtype).name, sizes))
    return tuple(specs)


def _read_keras(path: str) -> _Read:
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("metadata.json"))
    from scoreline.models.runtimes.keras_file import load_keras

    # The layers determine inputs and outputs. In safe mode no stored code runs.
    model = load_keras(path, DEFAULT_SIGNATURE)
    return f"Keras {metadata.get('keras_version', 'of unknown version')}", [model.signature], []


def _read_litert(path: str) -> _Read:
    from scoreline.models.runtimes.litert import load_litert, signature_names

    models = [load_litert(path, name) for name in signature_names(path)]
    return "a LiteRT converter", [model.signature for model in models], []
