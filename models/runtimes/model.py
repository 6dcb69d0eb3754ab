"""The protocol of a loaded model: what every runtime provides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from scoreline.models.signature import Signature
from scoreline.models.strings import Output, Value


class Runtime(NamedTuple):
    """What calls a model.

    Attributes:
      name: `c` for TensorFlow's C API, `python` for Python TensorFlow, `keras` or `litert`;
        `litert+c` and `litert+python` for a variant with a front in TensorFlow.
      fallback: why Python TensorFlow calls a SavedModel, and not the C API; "" if it was chosen.
    """

    name: str
    fallback: str = ""

    def __str__(self) -> str:
        name = _NAMES.get(self.name, self.name)
        return f"{name}, because the C API cannot: {self.fallback}" if self.fallback else name


_NAMES = {
    "c": "TensorFlow's C API",
    "python": "Python TensorFlow",
    "keras": "Keras on Python TensorFlow",
    "litert": "LiteRT",
    "litert+c": "LiteRT behind TensorFlow's C API",
    "litert+python": "LiteRT behind Python TensorFlow",
}


class Model(Protocol):
    """A loaded model, of any format.

    Attributes:
      signature: the inputs and outputs of the signature that `call` calls.
      runtime: what calls it.
    """

    signature: Signature
    runtime: Runtime

    @property
    def ops(self) -> tuple[str, ...]:
        """The ops that a call runs, as often as they occur."""

    def call(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Output]:
        """Return the named outputs for some rows; safe to call from several threads at once.

        Inputs are arrays, or strings: `StringCodes` if they repeat, else `ArrowStrings`. A runtime
        that knows neither takes `to_plain(value)`. Outputs are arrays, which may be read-only;
        strings come as `ArrowStrings`, or as an array of bytes objects.

        Quantized inputs come as real numbers, or as the stored numbers in their own dtype.
        Quantized outputs are returned as the stored numbers.
        """

    def is_about_inputs(self, error: Exception) -> bool:
        """Return whether a call may have failed because of its inputs."""

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether a call failed because it was too large for the memory."""
