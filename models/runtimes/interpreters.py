"""Interpreters of a `.tflite` file, one for each thread; no call sees what an earlier one left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np

from scoreline.models.runtimes.litert_file import LiteRTFacts
from scoreline.models.runtimes.litert_runner import Runner

# LiteRT's message about an op that rejects the values of a call. An op that it does not have, or
# that rejects a shape, fails to "prepare".
_REJECTS_VALUES = "failed to invoke"


class Interpreters:
    """One interpreter for each thread.

    Variable tensors, which fused LSTMs have, are reset after each call. If a call writes resources,
    which cannot be reset, each call has a new interpreter.
    """

    def __init__(self, make: Callable[[], Runner], facts: LiteRTFacts) -> None:
        """Make interpreters when they are needed."""
        self._make, self._facts = make, facts
        self._local = threading.local()

    def call(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Return all outputs, as the file stores them."""
        runner: Runner | None = getattr(self._local, "runner", None)
        # An interpreter whose call failed may be left in any state: it is not used again.
        self._local.runner = None
        runner = runner or self._make()
        called = runner.call(inputs)
        is_clean = not self._facts.has_variables or runner.reset()
        if is_clean and not self._facts.writes_state:
            self._local.runner = runner
        return called


def is_about_inputs(error: Exception) -> bool:
    """Return whether an op rejected the values of a call: a division by zero, for example."""
    return _REJECTS_VALUES in str(error)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a call of LiteRT failed because it was too large for the memory."""
    return "memory" in str(error).lower()
