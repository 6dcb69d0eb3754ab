"""The time that a load test may take, and what it leaves out to keep to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Budget:
    """Seconds for a whole load test.

    Attributes:
      cut: what was left out, one sentence each.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin now.

        Args:
          seconds: the budget; None for no limit.
          clock: seconds on any clock.
        """
        self._clock = clock
        self._ends = math.inf if seconds is None else clock() + seconds
        self.cut: list[str] = []

    @property
    def left_s(self) -> float:
        """Seconds that are left; below 0 if it is overdrawn."""
        return self._ends - self._clock()

    def allows(self, seconds: float, what: str) -> bool:
        """Return whether a step fits; if not, note that it is left out.

        Args:
          seconds: how long the step takes.
          what: the step, such as "the spike".
        """
        if seconds <= self.left_s:
            return True
        sentence = f"{what} (needs {seconds:.0f} s, {max(0.0, self.left_s):.0f} s were left)"
        self.cut.append(sentence)
        return False
