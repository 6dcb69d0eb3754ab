"""Describe a model from its files: format, writer, size, signatures, ops of concern.

No part of the model runs. A SavedModel is code: its graph can read and write files. This report
shows such ops before the model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from scoreline.models.artifact import (
    KERAS,
    LITERT,
    VARIANT,
    digest_model,
    model_files,
    model_format_of,
    refuse_empty,
)
from scoreline.models.errors import ModelError, first_lines
from scoreline.models.runtimes import NO_TAGS
from scoreline.models.runtimes.graph_ops import PYTHON_OPS
from scoreline.models.scoring_ops import OPS_OF_SCORES
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature

_READS = "reads files"
_WRITES = "writes files"
_PYTHON = "calls Python code of the process that exported it, and fails anywhere else"
_PRINTS = "prints"
_STATE = "changes a variable: each call of LiteRT starts from the file again"
_UNKNOWN = "is no op of TensorFlow. "
# Ops in a scoring graph that its user should know about. Ops that save and restore variables, which
# every SavedModel has, and tables read from its own assets are not in the list.
OPS_OF_CONCERN: Mapping[str, str] = {
    **dict.fromkeys(("ReadFile", "MatchingFiles", "WholeFileReaderV2", "TextLineReaderV2"), _READS),
    **dict.fromkeys(("TFRecordDataset", "TFRecordDatasetV2", "TextLineDataset"), _READS),
    **dict.fromkeys(("WriteFile", "WriteSummary", "WriteImageSummary", "DebugIdentityV2"), _WRITES),
    **dict.fromkeys(PYTHON_OPS, _PYTHON),
    **dict.fromkeys(("Print", "PrintV2"), _PRINTS),
    "ASSIGN_VARIABLE": _STATE,
    **OPS_OF_SCORES,
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
      format: SavedModel, Keras, LiteRT or Variant.
      writer: the program that wrote it, if the model records it.
      digest: `sha256:…` of its files.
      size_bytes: total size of its files.
      signatures: its signatures by name; one that takes tf.Examples shows its single string input.
      concerns: ops that the user should know about, by name.
      tags: of the SavedModel's MetaGraph that is shown, if it has several.
      unusable: by signature, the reason why it cannot be called.
    """

    path: str
    format: str
    writer: str
    digest: str
    size_bytes: int
    signatures: tuple[Signature, ...]
    concerns: tuple[Concern, ...]
    tags: tuple[str, ...] = ()
    unusable: Mapping[str, str] = MappingProxyType({})


class _Facts(NamedTuple):
    writer: str
    signatures: Sequence[Signature]
    ops: Sequence[str]
    tags: tuple[str, ...] = ()
    unusable: Mapping[str, str] = MappingProxyType({})
    concerns: Mapping[str, str] = OPS_OF_CONCERN


def inspect_model(path: str, tags: Sequence[str] = ()) -> ModelReport:
    """Describe the model at a path.

    Args:
      path: a SavedModel directory, a `.keras` or a `.tflite` file, or the folder of a variant.
      tags: of the SavedModel's MetaGraph to show; by default the only one, or the one for serving.

    Raises:
      FileNotFoundError: there is no model.
      ModelError: its files cannot be read, or it has no such tags.
    """
    digest = digest_model(path)
    refuse_empty(path)
    found = model_format_of(path)
    readers = {KERAS: _read_keras, LITERT: _read_litert, VARIANT: _read_variant}
    if tags and found in readers:
        raise ModelError(NO_TAGS.format(path=path))
    try:
        facts = readers[found](path) if found in readers else _read_saved_model(path, tags)
    except ModelError:
        raise
    except Exception as e:  # any failure of foreign code is an error of the model
        raise ModelError(
            f"Model {path} cannot be read: {type(e).__name__}: {first_lines(e)}"
        ) from e
    return ModelReport(
        path=path,
        format=found or "",
        writer=facts.writer,
        digest=digest,
        size_bytes=sum(file.stat().st_size for file in model_files(path)),
        signatures=tuple(sorted(facts.signatures)),
        concerns=_find_concerns(facts.ops, facts.concerns),
        tags=facts.tags,
        unusable=facts.unusable,
    )


def _find_concerns(ops: Iterable[str], known: Mapping[str, str]) -> tuple[Concern, ...]:
    counts: dict[str, int] = {}
    for op in ops:
        if op in known:
            counts[op] = counts.get(op, 0) + 1
    return tuple(Concern(op, count, known[op]) for op, count in sorted(counts.items()))


def _read_saved_model(path: str, tags: Sequence[str]) -> _Facts:
    from scoreline.models.runtimes.graph_ops import (
        describe_missing_op,
        find_python_problem,
        ops_of,
    )
    from scoreline.models.runtimes.saved_model_signature import (
        choose_tags,
        find_name_problem,
        output_tensors,
        pick_graph,
        read_graphs,
        read_tensors,
        signature_names,
    )
    from scoreline.models.runtimes.unknown_ops import find_unknown

    graphs = read_graphs(path)
    chosen = choose_tags(path, [graph.tags for graph in graphs], tags)
    graph = pick_graph(graphs, chosen)
    signatures, unusable = [], {}
    outputs_of_all: list[str] = []
    for name in signature_names(graph):
        definition = graph.signature_def[name]
        signatures.append(read_tensors(graph, name))
        tensors = output_tensors(definition)
        outputs_of_all += tensors
        reached = ops_of(graph.graph_def, tensors)
        problem = find_name_problem(path, graph, name) or find_python_problem(name, reached)
        if problem:
            unusable[name] = problem
    functions = graph.graph_def.library.function
    ops = [node.op for node in graph.graph_def.node]
    ops += [node.op for function in functions for node in function.node_def]
    ops = [op for op in ops if op not in OPS_OF_SCORES]
    ops += [op for op in ops_of(graph.graph_def, outputs_of_all) if op in OPS_OF_SCORES]
    own = {function.signature.name for function in functions}
    unknown = {op: _UNKNOWN + describe_missing_op(op) for op in find_unknown({*ops} - own)}
    shown = tuple(chosen or ()) if len(graphs) > 1 else ()
    concerns = {**OPS_OF_CONCERN, **unknown}
    return _Facts(_describe_writer(path, graph), signatures, ops, shown, unusable, concerns)


def _describe_writer(path: str, graph: Any) -> str:
    version = graph.meta_info_def.tensorflow_version or "of unknown version"
    kinds = {node.user_object.identifier for node in graph.object_graph_def.nodes}
    if not graph.object_graph_def.nodes:
        return f"TensorFlow {version}, as a TF1 graph"
    if (Path(path) / "keras_metadata.pb").is_file() or any("_tf_keras" in k for k in kinds):
        return f"Keras 2 on TensorFlow {version}"
    return f"TensorFlow {version}"


def _read_keras(path: str) -> _Facts:
    from scoreline.models.runtimes.keras_file import load_keras, read_keras_version

    # The layers determine inputs and outputs. In safe mode no stored code runs.
    model = load_keras(path, DEFAULT_SIGNATURE)
    version = read_keras_version(path) or "of unknown version"
    return _Facts(f"Keras {version}", [model.signature], model.ops)


def _read_litert(path: str) -> _Facts:
    from scoreline.models.runtimes.litert import load_litert, signature_names

    models = [load_litert(path, name) for name in signature_names(path)]
    return _Facts("a LiteRT converter", [model.signature for model in models], models[0].ops)


def _read_variant(path: str) -> _Facts:
    from scoreline.models.runtimes.litert_file import read_litert_file
    from scoreline.models.runtimes.variant_file import FRONT_FOLDER, MODEL_FILE, read_manifest

    manifest = read_manifest(path)
    ops = read_litert_file((Path(path) / MODEL_FILE).read_bytes()).ops
    passes = ", ".join(f"{record.name} {record.version}" for record in manifest.passes)
    writer = f"Scoreline's passes {passes}, from the model {manifest.parent_digest}"
    if not manifest.front_inputs:
        return _Facts(writer, [manifest.signature], ops)
    front = _read_saved_model(str(Path(path) / FRONT_FOLDER), ())
    return _Facts(writer, [manifest.signature], [*ops, *front.ops], concerns=front.concerns)
