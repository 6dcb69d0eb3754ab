"""Pass: weights of a variant in int8; LiteRT quantizes what they are multiplied with in each call.

Nothing is calibrated. Scores differ from those of the parent by more than rounding, so a comparison
on real rows has to admit the variant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from scoreline.models.errors import ModelError, describe_error
from scoreline.models.optimize.variant import Variant
from scoreline.models.runtimes.litert_file import read_litert_file
from scoreline.models.runtimes.variant_file import PassRecord

NAME, VERSION = "dynamic_int8", 1
# LiteRT multiplies by int8 weights in these.
_QUANTIZED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")


def quantize_dynamic(variant: Variant, keep_float: Sequence[str] = ()) -> Variant:
    """Return a variant whose matrix products, convolutions and embeddings have int8 weights.

    The recipe is `dynamic_wi8_afp32` of litert-quantizer: one scale for each output channel.

    Args:
      variant: a variant in float32.
      keep_float: names of tensors of the `.tflite`; the op that computes one keeps its weights.

    Raises:
      ModelError: litert-quantizer is not installed or fails, the variant has no op that LiteRT runs
        in int8, or is quantized already, or no op was quantized.
    """
    done = [record.name for record in variant.passes]
    if NAME in done:
        raise ModelError(f"{NAME}: expected a variant in float32, got passes {', '.join(done)}")
    ops = read_litert_file(variant.content).ops
    if not any(op in _QUANTIZED for op in ops):
        raise ModelError(
            f"{NAME}: expected one of the ops {', '.join(_QUANTIZED)}, got {', '.join({*ops})}. "
            "Leave the pass out"
        )
    content = _quantize(variant.content, keep_float)
    if not _has_int8(content):
        raise ModelError(f"{NAME}: all weights are kept in float32. Leave the pass out")
    settings = {"keep_float": list(keep_float)} if keep_float else {}
    record = PassRecord(
        NAME, VERSION, settings, (f"{len(variant.content)} → {len(content)} bytes",)
    )
    return variant._replace(content=content, passes=(*variant.passes, record))


def _quantize(content: bytes, keep_float: Sequence[str]) -> bytes:
    try:
        from litert_quantizer import quantizer, recipe
    except ImportError as e:
        raise ModelError(
            f"{NAME} needs litert-quantizer: pip install 'scoreline[optimize]' ({e})"
        ) from e
    try:
        quantizing = quantizer.Quantizer(bytearray(content), recipe.dynamic_wi8_afp32())
        for name in keep_float:
            scope = f"^{re.escape(name)}"
            quantizing.update_quantization_recipe(scope, "*", algorithm_key="no_quantize")
        result = quantizing.quantize(enable_progress_bar=False, enable_progress_report=False)
    except Exception as e:  # any failure of foreign code
        raise ModelError(f"{NAME}: litert-quantizer fails: {describe_error(e)}") from e
    return bytes(result.quantized_model)


def _has_int8(content: bytes) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    types = (graph.Tensors(at).Type() for at in range(graph.TensorsLength()))
    return schema.TensorType.INT8 in types
