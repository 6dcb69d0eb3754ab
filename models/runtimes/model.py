"""The protocol of a loaded model: what every runtime provides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from scoreline.models.signature import Signature
from scoreline.models.tensors import (
    Value,
)


class Model(Protocol):
    """A loaded model of some format: what each format's module gives.

    Attributes:
      signature: the inputs and outputs of what is called.
    """

    signature: Signature

    def call(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the named outputs for some rows; safe to call from several threads at once."""

    def is_about_inputs(self, error: Exception) -> bool:
        """Return whether a failed call may be the fault of what it was given."""

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether a failed call was too large for the memory there is."""
