"""Matrix products and convolutions with constant weights, whose channels are the last axis."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scoreline.models.optimize.edit import GraphEditor

_MATRIX = ("MatMul", "BatchMatMulV2")
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
PRODUCTS = (*_MATRIX, *_CONVOLUTIONS)


class Product(NamedTuple):
    """A product of a tensor and constant weights.

    Attributes:
      node: of the graph.
      weights: in float64: [in, out], or [out, in] if it is transposed; [height, width, in, out] of
        a convolution; [height, width, in, times] of a depthwise one, whose output channel is
        in · times + time.
      dtype: of the weights in the graph.
    """

    node: Any
    weights: np.ndarray
    dtype: Any

    @property
    def is_matrix(self) -> bool:
        """Whether it is a matrix product, not a convolution."""
        return self.node.op in _MATRIX

    @property
    def pads(self) -> bool:
        """Whether zeros are put around the tensor."""
        return not self.is_matrix and self.node.attr["padding"].s != b"VALID"

    @property
    def inputs(self) -> int:
        """The number of input channels."""
        return int(self.weights.shape[self._input_axis])

    def scale_outputs(self, scale: np.ndarray) -> np.ndarray:
        """Return weights whose product is that of the old ones, times a scale per output channel.

        Raises:
          ValueError: there is another number of output channels.
        """
        if self.node.op == "DepthwiseConv2dNative":
            return self.weights * scale.reshape(self.weights.shape[2:])
        shape = [1] * self.weights.ndim
        shape[self._output_axis] = self.weights.shape[self._output_axis]
        return self.weights * scale.reshape(shape)

    def scale_inputs(self, scale: np.ndarray) -> np.ndarray:
        """Return weights whose product is that of the old ones with a tensor times a scale."""
        shape = [1] * self.weights.ndim
        shape[self._input_axis] = self.inputs
        return self.weights * scale.reshape(shape)

    def apply(self, row: np.ndarray) -> np.ndarray:
        """Return the product with a tensor that has the same values everywhere, per channel."""
        scaled = self.scale_inputs(row)
        if self.node.op == "DepthwiseConv2dNative":
            return np.asarray(scaled.sum((0, 1)).reshape(-1))
        kept = self._output_axis
        return np.asarray(scaled.sum(tuple(at for at in range(scaled.ndim) if at != kept)))

    @property
    def _output_axis(self) -> int:
        return 0 if self._transposes("b", "y") else self.weights.ndim - 1

    @property
    def _input_axis(self) -> int:
        if self.is_matrix:
            return 1 - self._output_axis
        return 2

    def _transposes(self, *sides: str) -> bool:
        names = [f"transpose_{sides[0]}", f"adj_{sides[1]}"]
        return self.is_matrix and any(self.node.attr[n].b for n in names if n in self.node.attr)


def find_product(editor: GraphEditor, node: Any) -> Product | None:
    """Return a node as a product with constant weights; None if it is none."""
    if node.op not in PRODUCTS or not editor.is_constant(node.input[1]):
        return None
    weights = editor.value(node.input[1])
    product = Product(node, weights.astype(np.float64), weights.dtype)
    if product.is_matrix:
        return product if weights.ndim == 2 and not product._transposes("a", "x") else None
    return product if node.attr["data_format"].s in (b"", b"NHWC") else None
