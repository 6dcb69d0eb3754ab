"""Calls of two models in turns, so that whatever disturbs the machine disturbs both alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# So many turns happen even if they take too long.
_MIN_TURNS = 2


def take_turns(
    first: Callable[[], T],
    second: Callable[[], T],
    turns: int,
    *,
    max_seconds: float = math.inf,
    min_turns: int = _MIN_TURNS,
    clock: Callable[[], float] = time.monotonic,
) -> list[tuple[T, T]]:
    """Call two functions in turns, and return the pairs of their results.

    The order changes from turn to turn, so that a machine that becomes slower favors neither.

    Args:
      first: called first in every other turn.
      second: the other function.
      turns: the number of calls of each.
      max_seconds: no further turn begins after this time, except for the minimum.
      min_turns: the number of turns that happen in any case.
      clock: returns seconds.
    """
    began = clock()
    pairs: list[tuple[T, T]] = []
    for turn in range(turns):
        if turn >= min_turns and clock() - began > max_seconds:
            break
        if turn % 2:
            later = second()
            pairs.append((first(), later))
        else:
            pairs.append((first(), second()))
    return pairs
