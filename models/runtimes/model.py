"""The protocol of a loaded model: what every runtime provides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from scoreline.models.signature import Signature
from scoreline.models.strings import Output, Value


class Model(Protocol):
    """A loaded model, of any format.

    Attributes:
      signature: the inputs and outputs of the signature that `call` calls.
    """

    signature: Signature

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
