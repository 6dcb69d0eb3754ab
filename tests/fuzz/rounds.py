"""How long a fuzz test runs: some rounds, and more for the time of `make fuzz`."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

SECONDS = float(os.environ.get("SCORELINE_FUZZ_SECONDS", "0"))


def rounds(seed: str, count: int, share: float) -> Iterator[random.Random]:
    """Yield a source of chance for each round: the same ones at first, then others.

    Args:
      seed: the name of the test.
      count: the rounds of an ordinary run.
      share: the share of `SCORELINE_FUZZ_SECONDS` that other rounds take.
    """
    for number in range(count):
        yield random.Random(f"{seed} {number}")
    deadline = time.monotonic() + SECONDS * share
    while time.monotonic() < deadline:
        yield random.Random()
