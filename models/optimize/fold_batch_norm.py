"""Pass: batch normalization, folded into the matrix product or convolution beside it; exact.

With s = γ / √(σ² + ε) and t = β - μ·s, which are constants in inference, y = x·s + t:

* behind a product: (x·W + b)·s + t = x·(W·s) + (b·s + t)
* before a product: (x·s + t)·W + b = x·(s·W) + (t·W + b)

Weights are computed in float64, and kept in the dtype of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from scoreline.models.errors import ModelError
from scoreline.models.optimize.edit import GraphEditor
from scoreline.models.optimize.frozen import FrozenModel
from scoreline.models.optimize.products import find_product
from scoreline.models.runtimes.graph_ops import needed_nodes, node_of
from scoreline.models.runtimes.variant_file import PassRecord

NAME, VERSION = "fold_batch_norm", 1
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_ADDS = ("AddV2", "Add", "BiasAdd")
# They may stand between a product and a normalization: values keep their order, so that channels
# repeat after the same number of values, whatever the shape.
_RESHAPES = ("Identity", "Squeeze", "ExpandDims", "Reshape")


class _Norm(NamedTuple):
    """A batch normalization: y = x·s + t along the last axis.

    Attributes:
      name: of the node whose first output is y.
      x: the tensor that is normalized.
      scale, shift: s and t, in float64.
    """

    name: str
    x: str
    scale: np.ndarray
    shift: np.ndarray


class _CannotFold(Exception):
    """Why a batch normalization stays."""


def fold_batch_norm(model: FrozenModel) -> FrozenModel:
    """Return a model without the batch normalizations that can be folded.

    The notes of the pass name each that was folded, and each that stays, with the reason.

    Raises:
      ModelError: one is in training mode, there is none, or none can be folded; the message has the
        reason for each.
    """
    editor = GraphEditor(model)
    _refuse_training(editor)
    folded: list[str] = []
    kept: dict[str, str] = {}
    while True:  # one at a time: a fold changes what the next one stands beside
        kept = {}
        name = next((n.name for n in [*_find_norms(editor)] if _try_fold(editor, n, kept)), "")
        if not name:
            break
        folded.append(name)
        editor.prune()
    reasons = [f"'{name}' stays: {reason}" for name, reason in kept.items()]
    if not folded:
        raise ModelError(
            "fold_batch_norm: expected a batch normalization behind or before a matrix product or "
            f"a convolution, got {'; '.join(reasons) or 'a model without one'}"
        )
    notes = (*(f"'{name}' folded" for name in folded), *reasons)
    record = PassRecord(NAME, VERSION, {}, notes)
    return editor.finish()._replace(passes=(*model.passes, record))


def _refuse_training(editor: GraphEditor) -> None:
    """Raise ModelError if the statistics of a batch normalization are those of the call."""
    for name, node in editor.nodes.items():
        in_training = node.op in _FUSED and node.attr["is_training"].b
        if node.op == "Rsqrt" and not editor.is_constant(name):
            needed = needed_nodes(editor.nodes, [name])
            in_training = any(n.op == "Mean" and _is_over_rows(editor, n) for n in needed)
        if in_training:
            raise ModelError(
                f"fold_batch_norm: '{name}' normalizes by the mean and variance of each call "
                "(training mode), so rows influence each other. Export the model with "
                "training=False"
            )


def _is_over_rows(editor: GraphEditor, mean: Any) -> bool:
    if editor.is_constant(mean.name) or not editor.is_constant(mean.input[1]):
        return False
    return 0 in editor.value(mean.input[1])


def _find_norms(editor: GraphEditor) -> Iterator[_Norm]:
    for name in sorted(editor.nodes):
        node = editor.nodes[name]
        if node.op in _FUSED and all(map(editor.is_constant, node.input[1:])):
            gamma, beta, mean, variance = (_wide(editor, read) for read in node.input[1:])
            scale = gamma / np.sqrt(variance + node.attr["epsilon"].f)
            yield _Norm(name, node.input[0], scale, beta - mean * scale)
        elif node.op in _ADDS and not editor.is_constant(name):
            yield from _find_written_out(editor, node)


def _find_written_out(editor: GraphEditor, node: Any) -> Iterator[_Norm]:
    """Yield the normalization that a node is the sum of: x · (rsqrt(…) · γ) + t, as Keras does."""
    for product, shift in (node.input, reversed(node.input)):
        mul = editor.nodes[node_of(product)]
        if mul.op != "Mul" or not editor.is_constant(shift) or editor.is_output(product):
            continue
        for x, scale in (mul.input, reversed(mul.input)):
            if editor.is_constant(x) or not editor.is_constant(scale):
                continue
            if any(found.op == "Rsqrt" for found in needed_nodes(editor.nodes, [scale])):
                yield _Norm(node.name, x, _wide(editor, scale), _wide(editor, shift))


def _wide(editor: GraphEditor, tensor: str) -> np.ndarray:
    return editor.value(tensor).astype(np.float64)


def _try_fold(editor: GraphEditor, norm: _Norm, kept: dict[str, str]) -> bool:
    """Fold a normalization into a product beside it; if it stays, note why."""
    node = editor.nodes[norm.name]
    reasons = []
    if node.op in _FUSED and node.attr["data_format"].s == b"NCHW":
        reasons = ["its channels are not the last axis"]
    elif any(value.shape[-1:] != (value.size,) for value in (norm.scale, norm.shift)):
        reasons = ["it does not normalize along the last axis"]
    elif any(editor.readers(f"{norm.name}:{at}") for at in range(1, 6)):
        reasons = ["its mean or variance has a consumer"]
    else:
        flat = norm._replace(scale=norm.scale.reshape(-1), shift=norm.shift.reshape(-1))
        for fold in (_fold_behind, _fold_before):
            try:
                fold(editor, flat)
                return True
            except _CannotFold as e:
                reasons.append(str(e))
    kept[norm.name] = ", and ".join(reasons)
    return False


def _fold_behind(editor: GraphEditor, norm: _Norm) -> None:
    """Fold into the product whose result is normalized.

    Raises:
      _CannotFold: there is none, or another node reads a tensor between them.
    """
    bias, adds, at = np.zeros_like(norm.shift), [], norm.x
    while True:
        node = editor.nodes[node_of(at)]
        if len(editor.readers(at)) > 1 or editor.is_output(at):
            raise _CannotFold(f"'{node.name}' before it has another consumer")
        product = find_product(editor, node)
        if product is not None:
            break
        if node.op in _ADDS and any(map(editor.is_constant, node.input)):
            constant, tensor = sorted(node.input, key=editor.is_constant, reverse=True)
            added = _wide(editor, constant)
            if added.shape[-1:] != (added.size,) or added.size != bias.size:
                raise _CannotFold(f"'{node.name}' before it adds no bias along the last axis")
            bias += added.reshape(-1)
            adds.append((node.name, tensor))
            at = tensor
        elif node.op in _RESHAPES:
            at = node.input[0]
        else:
            raise _CannotFold(f"{node.op} is before it")
    try:
        weights = product.scale_outputs(norm.scale)
    except ValueError as e:
        raise _CannotFold(f"'{node.name}' before it has another number of channels") from e
    product.node.input[1] = editor.add_constant(f"{node.name}/folded", weights, product.dtype)
    x = norm.x
    for name, tensor in adds:
        x = tensor if node_of(x) == name else x
        editor.replace(name, tensor)
    total = bias * norm.scale + norm.shift
    total_name = editor.add_constant(f"{norm.name}/folded_bias", total, product.dtype)
    editor.replace(norm.name, editor.add_sum(f"{norm.name}/folded", x, total_name))


def _fold_before(editor: GraphEditor, norm: _Norm) -> None:
    """Fold into the only product that reads what is normalized.

    Raises:
      _CannotFold: there is none, or the result has another consumer.
    """
    scale, shift, at = norm.scale, norm.shift, norm.name
    while True:
        readers = editor.readers(at)
        if len(readers) != 1 or editor.is_output(at):
            raise _CannotFold(f"'{at}' has {'another' if readers else 'no'} consumer")
        node = readers[0]
        product = find_product(editor, node)
        if product is not None and node_of(node.input[0]) == at:
            break
        if node.op not in _RESHAPES:
            raise _CannotFold(f"{node.op} is behind it")
        at = node.name
    # Rows of several pixels that are flattened: the channels repeat along them.
    times = product.inputs // scale.size
    if times * scale.size != product.inputs or (times != 1 and at == norm.name):
        raise _CannotFold(f"'{node.name}' behind it has another number of channels")
    scale, shift = (np.tile(value, times) for value in (scale, shift))
    if product.pads:
        raise _CannotFold(f"'{node.name}' behind it pads with zeros, which are not normalized")
    weights, bias = product.scale_inputs(scale), product.apply(shift)
    bias_name = editor.add_constant(f"{norm.name}/folded_bias", bias, product.dtype)
    product.node.input[1] = editor.add_constant(f"{node.name}/folded", weights, product.dtype)
    editor.replace(norm.name, norm.x)
    editor.replace(node.name, editor.add_sum(f"{norm.name}/folded", f"{node.name}:0", bias_name))
